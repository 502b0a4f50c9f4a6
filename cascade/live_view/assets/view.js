"use strict";
(() => {
  const root = document.documentElement, $ = (id) => document.getElementById(id);
  const token = new URLSearchParams(location.search).get("token") || "";
  const address = (path) => `${path}?token=${encodeURIComponent(token)}`;
  let asked = null, sheets = null, images = [], frame = 0, ended = false;
  addEventListener("error", (event) => { root.dataset.error = event.message || "a resource did not load"; });
  addEventListener("unhandledrejection", (event) => { root.dataset.error = String(event.reason); });

  function state(name, words) { root.dataset.state = name; $("state").textContent = words; }
  function cells(row, values) {
    for (const [text, kind] of values) {
      const cell = row.insertCell();
      cell.textContent = text;
      if (kind) cell.className = kind;
    }
  }
  const short = (value) => (typeof value !== "number" ? String(value) : Number(value.toPrecision(3)).toString());

  async function press(name, body = {}) {
    const reply = await fetch(address(name), { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
    if (!reply.ok) $("state").textContent = name === "approve" ? "Not taken: type the word first, or it was answered already" : "Not taken";
    return reply.ok;
  }
  function answer(name) { if (asked) press(name, { id: asked.id, word: $("word").value.trim().toLowerCase() }); }

  const show = {
    about: (value) => { $("instruction").textContent = value.instruction || "A run"; state("running", "Running"); },
    plan: async (value) => {
      images = await Promise.all(value.sources.map((source) => new Promise((done) => { const image = new Image(); image.onload = () => done(image); image.src = source; })));
      sheets = value;
      frame = 0;
      Object.assign($("plan"), { width: value.width, height: value.height });
    },
    chunk: (value) => { root.dataset.chunk = value.index; },
    camera: (value) => { $("camera").src = value.source; $("camera-note").textContent = `step ${value.step}, ${value.t_s.toFixed(2)} s`; root.dataset.step = value.step; },
    stages: (value) => {
      const body = $("stages").tBodies[0];
      body.replaceChildren();
      for (const [name, ms] of Object.entries(value)) cells(body.insertRow(), [[name], [ms >= 1000 ? `${(ms / 1000).toFixed(1)} s` : `${ms.toFixed(0)} ms`, "n"]]);
    },
    gates: (value) => {
      const body = $("gates").tBodies[0];
      body.replaceChildren();
      for (const gate of [...value].reverse()) {
        const failed = new Set(gate.violations.map((each) => each.check)), good = gate.verdict !== "reject";
        (gate.measured.length ? gate.measured : gate.violations).forEach((check, i) => cells(body.insertRow(), [
          [i ? "" : `${gate.subject} ${gate.index}`], i ? [""] : [`${good ? "✓" : "✕"} ${gate.verdict}`, good ? "pass" : "fail"],
          [`${failed.has(check.check) ? "✕ " : ""}${check.check}`, failed.has(check.check) ? "fail" : ""], [short(check.value), "n"], [`${(check.value <= check.limit) === !failed.has(check.check) ? "≤" : "≥"} ${short(check.limit)}`, "n"], [check.unit]]));
      }
    },
    ask: (value) => {
      asked = value;
      $("ask").hidden = !value;
      if (!value) { if (!ended) state("running", "Running"); return; }
      state("asking", "Waiting for you");
      $("ask-title").textContent = { home: "May the arm go to its rest pose?", return: "May the arm go back to its start?" }[value.kind] || `May the arm move along plan ${value.plan}, chunk ${value.chunk}: ${value.targets} targets?`;
      const rows = $("ask-rows");
      rows.replaceChildren();
      const margins = Object.entries(value.margins).map(([name, [has, limit, unit]]) => [name, `${short(has)} of at most ${short(limit)} ${unit}`]);
      for (const [name, words] of [...(value.word ? [] : [["asked", `“${value.instruction}”`]]), ...Object.entries(value.rows), ...margins]) {
        rows.append(Object.assign(document.createElement("dt"), { textContent: name }), Object.assign(document.createElement("dd"), { textContent: words }));
      }
      $("ask-typed").hidden = !value.word;
      $("ask-word").textContent = value.word;
      $("word").value = "";
      (value.word ? $("word") : $("approve")).focus();
    },
    motion: (value) => { $("camera-note").textContent += `; ${value.end}`; },
    outcome: (value) => { ended = true; state("done", `Ended: ${value.outcome}`); $("instruction").textContent = value.verdict; $("stop").disabled = true; $("ask").hidden = true; },
  };

  setInterval(() => {
    if (!sheets) return;
    const cell = frame % (sheets.columns * sheets.rows), pen = $("plan").getContext("2d");
    pen.drawImage(images[Math.floor(frame / (sheets.columns * sheets.rows))], (cell % sheets.columns) * sheets.width, Math.floor(cell / sheets.columns) * sheets.height, sheets.width, sheets.height, 0, 0, sheets.width, sheets.height);
    $("plan-note").textContent = `plan ${sheets.index}, frame ${frame} of ${sheets.count - 1}`;
    frame = (frame + 1) % sheets.count;
  }, 160);

  $("approve").addEventListener("click", () => answer("approve"));
  $("reject").addEventListener("click", () => answer("reject"));
  $("stop").addEventListener("click", () => { state("running", "Stopping"); press("stop"); });
  document.addEventListener("keydown", (event) => {
    if (event.target.tagName === "INPUT") { if (event.key === "Enter") answer("approve"); return; }
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const act = { a: () => asked && !asked.word && answer("approve"), r: () => answer("reject"), s: () => $("stop").click() }[event.key];
    if (act) { event.preventDefault(); act(); }
  });

  const events = new EventSource(address("events"));
  events.onopen = () => { if (!ended && root.dataset.state === "waiting") state("waiting", "Connected, nothing happens yet"); };
  events.onerror = () => { if (!ended) state("gone", "The run cannot be reached"); };
  for (const topic of Object.keys(show)) events.addEventListener(topic, (event) => show[topic](JSON.parse(event.data)));
  events.addEventListener("bye", () => { events.close(); if (!ended) state("gone", "The run is over"); });
})();
