"use strict";
(() => {
  const root = document.documentElement, $ = (id) => document.getElementById(id);
  const fail = (what) => { root.dataset.error = (root.dataset.error ? root.dataset.error + "; " : "") + what; };
  addEventListener("error", (event) => fail(event.message || "a resource did not load"));
  addEventListener("unhandledrejection", (event) => fail(String(event.reason)));
  addEventListener("securitypolicyviolation", (event) => fail("blocked " + event.violatedDirective));
  const data = JSON.parse($("data").textContent), names = ["A", "B"], full = 1000;
  const longest = Math.max(0.1, ...names.map((name) => data[name].t_s.at(-1) || 0));
  let at = 0, playing = false;

  async function load(sheets) {
    const images = await Promise.all(sheets.sources.map((source) => new Promise((done, broken) => {
      const image = new Image();
      image.onload = () => done(image);
      image.onerror = () => broken(new Error("a sheet of frames cannot be read"));
      image.src = source;
    })));
    return (canvas, index) => {
      const { width, height, columns, rows, count } = sheets;
      if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
      const pen = canvas.getContext("2d");
      if (index < 0 || index >= count) { pen.clearRect(0, 0, width, height); return false; }
      const cell = index % (columns * rows);
      pen.drawImage(images[Math.floor(index / (columns * rows))], (cell % columns) * width, Math.floor(cell / columns) * height, width, height, 0, 0, width, height);
      return true;
    };
  }

  function moment(run) {
    const last = run.t_s.length - 1;
    if ($("by").value === "share") return Math.round((at / full) * last);
    const t = (at / full) * longest;
    let i = 0;
    while (i < last && run.t_s[i + 1] <= t) i++;
    return i;
  }

  function show(to) {
    at = Math.max(0, Math.min(full, to));
    $("scrub").value = at;
    const words = [];
    for (const name of names) {
      const run = data[name];
      if (!run.t_s.length) continue;
      const i = moment(run), draw = run.draw[run.plan[i]];
      const imagined = draw ? draw($("imagined-" + name), run.frame[i]) : false;
      const executed = run.drawFilm ? run.drawFilm($("executed-" + name), run.executed[i]) : false;
      $(`imagined-${name}-note`).textContent = imagined ? `frame ${run.frame[i]}` : "none";
      $(`executed-${name}-note`).textContent = executed ? `step ${run.step[i]}` : "not executed";
      words.push(`${name} ${run.t_s[i].toFixed(2)} s`);
      const point = run.measured[run.row[i]];
      for (const chart of document.querySelectorAll(".projection")) {
        const [a, b] = chart.dataset.axes, [u0, u, v0, v] = chart.dataset.map.split(" ").map(Number);
        const dot = chart.querySelector(name === "A" ? ".cursor.measured" : ".cursor.imagined");
        if (point) { dot.setAttribute("cx", u0 + u * point[a]); dot.setAttribute("cy", v0 + v * point[b]); } else dot.removeAttribute("cx");
      }
    }
    $("clock").textContent = words.join(", ");
  }

  function play(on) {
    playing = on;
    $("play").setAttribute("aria-pressed", playing);
    $("play").firstElementChild.textContent = playing ? "❚❚" : "▶";
    $("play").lastElementChild.textContent = playing ? "Pause" : "Play";
    if (!playing) return;
    if (at === full) show(0);
    let before = performance.now(), place = at;
    setTimeout(function tick() {
      if (!playing) return;
      const now = performance.now();
      place += ((now - before) / 1000 / longest) * full;
      before = now;
      show(Math.round(place));
      if (at === full) play(false); else setTimeout(tick, 30);
    }, 30);
  }

  function keys(event) {
    if (event.altKey || event.ctrlKey || event.metaKey || event.target.tagName === "SELECT") return;
    if (event.key === " " && event.target.tagName === "BUTTON") return;
    const act = { ArrowRight: () => show(at + 10), ArrowLeft: () => show(at - 10), Home: () => show(0), End: () => show(full), " ": () => play(!playing) }[event.key];
    if (!act) return;
    event.preventDefault();
    if (event.key !== " ") play(false);
    act();
  }

  async function start() {
    for (const name of names) {
      const run = data[name];
      run.draw = {};
      for (const [index, sheets] of Object.entries(run.plans)) run.draw[index] = await load(sheets);
      run.drawFilm = run.film ? await load(run.film) : null;
    }
    $("scrub").addEventListener("input", (event) => { play(false); show(Number(event.target.value)); });
    $("play").addEventListener("click", () => play(!playing));
    $("by").addEventListener("change", () => show(at));
    document.addEventListener("keydown", keys);
    show(Number(new URLSearchParams(location.hash.slice(1)).get("at") || 0));
    root.dataset.ready = "yes";
  }
  start().catch((error) => fail(String(error)));
})();
