"use strict";
(() => {
  const root = document.documentElement;
  const fail = (what) => { root.dataset.error = (root.dataset.error ? root.dataset.error + "; " : "") + what; };
  addEventListener("error", (event) => fail(event.message || "a resource did not load"));
  addEventListener("unhandledrejection", (event) => fail(String(event.reason)));
  addEventListener("securitypolicyviolation", (event) => fail("blocked " + event.violatedDirective));

  const $ = (id) => document.getElementById(id);
  const data = JSON.parse($("data").textContent);
  const moments = data.moments, last = Math.max(0, moments.t_s.length - 1);
  const colour = (name) => getComputedStyle(root).getPropertyValue("--" + name).trim();
  let at = 0, playing = false;

  // --- frames -----------------------------------------------------------------------------------------------------
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
      const pen = canvas.getContext("2d", { willReadFrequently: true });
      if (index < 0 || index >= count) { pen.clearRect(0, 0, width, height); return false; }
      const cell = index % (columns * rows);
      const u = (cell % columns) * width, v = Math.floor(cell / columns) * height;
      pen.drawImage(images[Math.floor(index / (columns * rows))], u, v, width, height, 0, 0, width, height);
      return true;
    };
  }

  // The executed picture in grey, with what differs laid over it; returns the mean difference as a share of full scale.
  function difference(a, b, canvas) {
    const { width, height } = b;
    if (a.width !== width || a.height !== height) return null;
    Object.assign(canvas, { width, height });
    const p = a.getContext("2d").getImageData(0, 0, width, height).data;
    const pen = canvas.getContext("2d"), picture = b.getContext("2d").getImageData(0, 0, width, height), q = picture.data;
    let sum = 0;
    for (let i = 0; i < q.length; i += 4) {
      const d = (Math.abs(p[i] - q[i]) + Math.abs(p[i + 1] - q[i + 1]) + Math.abs(p[i + 2] - q[i + 2])) / 765;
      const grey = 40 + 0.45 * (0.3 * q[i] + 0.59 * q[i + 1] + 0.11 * q[i + 2]), over = Math.min(1, d * 4);
      sum += d;
      q[i] = grey + (255 - grey) * over; q[i + 1] = grey + (140 - grey) * over; q[i + 2] = grey + (20 - grey) * over;
    }
    pen.putImageData(picture, 0, 0);
    return sum / (q.length / 4);
  }

  // --- scrubber ---------------------------------------------------------------------------------------------------
  const plans = new Map(data.plans.map((plan) => [plan.index, plan]));
  let drawExecuted = null, scene = null;

  function show(moment) {
    at = Math.max(0, Math.min(last, moment));
    const plan = plans.get(moments.plan[at]), frame = moments.frame[at], step = moments.step[at], row = moments.row[at];
    $("scrub").value = at;
    const imagined = plan ? plan.draw($("imagined"), frame) : false;
    const executed = drawExecuted ? drawExecuted($("executed"), moments.executed[at]) : false;
    $("imagined-note").textContent = imagined ? `${plans.size > 1 ? `plan ${plan.index}, ` : ""}frame ${frame} of ${plan.count - 1}` : "none";
    $("executed-note").textContent = executed ? `control step ${step}` : "not executed";
    overlay(imagined ? plan : null, frame);
    const gap = imagined && executed ? difference($("imagined"), $("executed"), $("difference")) : null;
    if (gap === null) $("difference").getContext("2d").clearRect(0, 0, 9999, 9999);
    $("difference-note").textContent = gap === null ? "" : `mean ${(gap * 100).toFixed(1)} %`;
    const time = `${moments.t_s[at].toFixed(2)} s`;
    $("clock").innerHTML = "";
    $("clock").append(time, Object.assign(document.createElement("small"), { textContent: step >= 0 ? `step ${step}, ${at + 1} of ${last + 1}` : `${at + 1} of ${last + 1}` }));
    $("scrub").setAttribute("aria-valuetext", `${time}, imagined frame ${frame}, control step ${step}`);
    const dots = { imagined: plan && plan.path[moments.point[at]], measured: data.measured[row] };
    for (const chart of document.querySelectorAll(".projection")) {
      const [a, b] = chart.dataset.axes, [u0, u, v0, v] = chart.dataset.map.split(" ").map(Number);
      for (const kind of ["imagined", "measured"]) place(chart.querySelector(".cursor." + kind), dots[kind], (p) => [u0 + u * p[a], v0 + v * p[b]]);
    }
    for (const chart of document.querySelectorAll(".curve")) {
      const [u0, u] = chart.dataset.map.split(" ").map(Number), line = chart.querySelector(".cursor-line");
      for (const end of ["x1", "x2"]) line.setAttribute(end, u0 + u * Math.max(0, step));
    }
    for (const line of document.querySelectorAll(".projection .line[data-plan]")) line.classList.toggle("faded", +line.dataset.plan !== moments.plan[at]);
    if (scene) scene(dots, moments.plan[at]);
  }

  // Points followed through the plan: a dot with its trail while it is kept, a cross from where it was lost.
  let tracksOn = true;
  function overlay(plan, frame) {
    const canvas = $("tracks"), pen = canvas.getContext("2d"), tracks = plan && plan.tracks;
    const scale = 4, [width, height] = plan ? plan.size : [1, 1];
    if (canvas.width !== width * scale || canvas.height !== height * scale) Object.assign(canvas, { width: width * scale, height: height * scale });
    pen.clearRect(0, 0, canvas.width, canvas.height);
    $("tracks-note").textContent = tracks ? `Tracks: ${tracks.source}; ${tracks.kept[frame].filter(Boolean).length} of ${tracks.kept[frame].length} kept.` : "";
    if (!tracks || !tracksOn) return;
    const at = (t, i) => tracks.uv[t][i].map((value) => value * scale);
    const paint = (style, width) => { pen.strokeStyle = "#000a"; pen.lineWidth = width + 2; pen.stroke(); pen.strokeStyle = style; pen.lineWidth = width; pen.stroke(); };
    tracks.kept[frame].forEach((kept, i) => {
      const [u, v] = at(frame, i);
      pen.beginPath();
      if (kept) {
        for (let t = Math.max(0, frame - 5); t <= frame; t++) pen.lineTo(...at(t, i));
        paint("#56b4e9", 1.6);
        pen.beginPath(); pen.arc(u, v, 3.4, 0, 7); pen.fillStyle = "#56b4e9"; pen.fill(); pen.strokeStyle = "#000a"; pen.lineWidth = 1; pen.stroke();
      } else {
        pen.moveTo(u - 4, v - 4); pen.lineTo(u + 4, v + 4); pen.moveTo(u + 4, v - 4); pen.lineTo(u - 4, v + 4);
        paint("#ff8a3c", 2);
      }
    });
  }
  function toggleTracks() {
    tracksOn = !tracksOn;
    $("show-tracks").setAttribute("aria-pressed", tracksOn);
    show(at);
  }

  function place(dot, point, map) {
    if (!point) { dot.removeAttribute("cx"); return; }
    const [cx, cy] = map(point);
    dot.setAttribute("cx", cx); dot.setAttribute("cy", cy);
  }

  function jump(direction) {
    let to = at;
    while (to + direction >= 0 && to + direction <= last) {
      to += direction;
      if (moments.frame[to] !== moments.frame[at] || moments.plan[to] !== moments.plan[at]) break;
    }
    show(to);
  }

  function play(on) {
    playing = on && last > 0;
    $("play").setAttribute("aria-pressed", playing);
    $("play").firstElementChild.textContent = playing ? "❚❚" : "▶";
    $("play").lastElementChild.textContent = playing ? "Pause" : "Play";
    if (!playing) return;
    if (at === last) show(0);
    let time = moments.t_s[at], before = performance.now();
    setTimeout(function tick() {
      if (!playing) return;
      const now = performance.now();
      time += ((now - before) / 1000) * Number($("speed").value);
      before = now;
      let to = at;
      while (to < last && moments.t_s[to + 1] <= time) to++;
      if (to !== at) show(to);
      if (at === last) play(false); else setTimeout(tick, 15);
    }, 15);
  }

  function keys(event) {
    const tag = event.target.tagName;
    if (event.altKey || event.ctrlKey || event.metaKey || tag === "SELECT" || event.target.id === "scene") return;
    if (event.key === " " && (tag === "BUTTON" || tag === "SUMMARY")) return;
    const act = {
      ArrowRight: () => (event.shiftKey ? jump(1) : show(at + 1)), ArrowLeft: () => (event.shiftKey ? jump(-1) : show(at - 1)),
      Home: () => show(0), End: () => show(last), " ": () => play(!playing), t: toggleTracks,
    }[event.key];
    if (!act) return;
    event.preventDefault();
    if (event.key !== " " && event.key !== "t") play(false);
    act();
  }

  // --- end-effector path in 3-D -----------------------------------------------------------------------------------
  function view3d(canvas) {
    const pen = canvas.getContext("2d"), [low, high] = data.bounds, centre = low.map((l, i) => (l + high[i]) / 2);
    const size = Math.hypot(...low.map((l, i) => high[i] - l)), home = { yaw: data.yaw, pitch: 0.5, zoom: 1 };
    let view = { ...home }, dots = {}, plan = -1;
    const floor = (p) => [p[0], p[1], low[2]];

    function project(p) {
      const [x, y, z] = p.map((value, i) => value - centre[i]), { yaw, pitch, zoom } = view;
      const right = -x * Math.sin(yaw) + y * Math.cos(yaw), depth = x * Math.cos(yaw) + y * Math.sin(yaw);
      const up = z * Math.cos(pitch) - depth * Math.sin(pitch), away = depth * Math.cos(pitch) + z * Math.sin(pitch);
      const scale = (zoom * Math.min(canvas.clientWidth, canvas.clientHeight * 1.7)) / (size - 0.45 * away);
      return [canvas.clientWidth / 2 + scale * right, canvas.clientHeight / 2 - scale * up];
    }
    function line(points, style, width, dash = []) {
      pen.beginPath();
      let pen_up = true;
      for (const p of points) {
        if (!p) { pen_up = true; continue; }
        const [u, v] = project(p);
        if (pen_up) pen.moveTo(u, v); else pen.lineTo(u, v);
        pen_up = false;
      }
      Object.assign(pen, { strokeStyle: style, lineWidth: width, lineJoin: "round" });
      pen.setLineDash(dash);
      pen.stroke();
      pen.setLineDash([]);
    }
    function dot(p, style, radius, ring) {
      const [u, v] = project(p);
      pen.beginPath(); pen.arc(u, v, radius, 0, 7); pen.fillStyle = style; pen.fill();
      if (ring) { pen.strokeStyle = ring; pen.lineWidth = 2; pen.stroke(); }
    }
    function room() {
      const rule = colour("rule"), every = 0.1;
      for (let x = Math.ceil(low[0] / every) * every; x <= high[0]; x += every) line([[x, low[1], low[2]], [x, high[1], low[2]]], rule, 1);
      for (let y = Math.ceil(low[1] / every) * every; y <= high[1]; y += every) line([[low[0], y, low[2]], [high[0], y, low[2]]], rule, 1);
      if (data.workspace) {
        const [a, b] = data.workspace, soft = colour("soft");
        const corner = (i) => [i & 1 ? b[0] : a[0], i & 2 ? b[1] : a[1], i & 4 ? b[2] : a[2]];
        for (const [i, j] of [[0, 1], [2, 3], [4, 5], [6, 7], [0, 2], [1, 3], [4, 6], [5, 7], [0, 4], [1, 5], [2, 6], [3, 7]]) line([corner(i), corner(j)], soft, 0.8, [3, 4]);
      }
    }
    function triad() {
      const ink = colour("ink"), origin = project(centre), corner = [46, canvas.clientHeight - 40];
      pen.font = "13px system-ui, sans-serif";
      pen.fillStyle = pen.strokeStyle = ink;
      pen.lineWidth = 1.6;
      ["x", "y", "z"].forEach((name, i) => {
        const tip = project(centre.map((value, j) => value + (i === j ? size / 20 : 0))).map((value, j) => value - origin[j]);
        const scale = 26 / Math.max(1e-6, (view.zoom * canvas.clientHeight) / 16);
        pen.beginPath(); pen.moveTo(...corner); pen.lineTo(corner[0] + tip[0] * scale, corner[1] + tip[1] * scale); pen.stroke();
        pen.fillText(name, corner[0] + tip[0] * scale * 1.35 - 4, corner[1] + tip[1] * scale * 1.35 + 4);
      });
      pen.fillStyle = colour("soft");
      pen.fillText("grid: 10 cm", canvas.clientWidth - 88, canvas.clientHeight - 14);
    }
    function paint() {
      const ratio = devicePixelRatio || 1, w = canvas.clientWidth, h = canvas.clientHeight;
      if (canvas.width !== Math.round(w * ratio) || canvas.height !== Math.round(h * ratio)) Object.assign(canvas, { width: Math.round(w * ratio), height: Math.round(h * ratio) });
      pen.setTransform(ratio, 0, 0, ratio, 0, 0);
      pen.clearRect(0, 0, w, h);
      room();
      triad();
      line(data.measured.map((p) => p && floor(p)), colour("rule"), 3);
      for (const each of data.plans) {
        pen.globalAlpha = each.index === plan || data.plans.length === 1 ? 1 : 0.25;
        line(each.path, colour("imagined-fill"), 1.5);
        for (const p of each.path) dot(p, colour("imagined-fill"), 3);
        pen.globalAlpha = 1;
      }
      for (const other of data.others) {
        const style = colour(other.name === "flow" ? "flow" : "second");
        line(other.path, style, 1.4, other.name === "flow" ? [6, 3, 1, 3] : [3, 3]);
        for (const p of other.path) dot(p, style, 2.4);
      }
      line(data.commanded, colour("commanded"), 1.6, [7, 4]);
      line(data.measured, colour("measured"), 2.6);
      for (const kind of ["imagined", "measured"]) {
        if (!dots[kind]) continue;
        line([dots[kind], floor(dots[kind])], colour(kind), 1, [2, 3]);
        dot(dots[kind], colour(kind), 6.5, colour("card"));
      }
    }
    function turn(yaw, pitch) {
      view.yaw += yaw;
      view.pitch = Math.max(-0.1, Math.min(1.5, view.pitch + pitch));
      paint();
    }
    canvas.addEventListener("pointerdown", (event) => canvas.setPointerCapture(event.pointerId));
    canvas.addEventListener("pointermove", (event) => { if (event.buttons) turn(-event.movementX * 0.01, event.movementY * 0.008); });
    canvas.addEventListener("keydown", (event) => {
      const act = {
        ArrowLeft: () => turn(0.1, 0), ArrowRight: () => turn(-0.1, 0), ArrowUp: () => turn(0, -0.08), ArrowDown: () => turn(0, 0.08),
        "+": () => { view.zoom = Math.min(4, view.zoom * 1.15); paint(); }, "-": () => { view.zoom = Math.max(0.4, view.zoom / 1.15); paint(); },
        0: () => { view = { ...home }; paint(); },
      }[event.key === "=" ? "+" : event.key];
      if (act) { event.preventDefault(); act(); }
    });
    new ResizeObserver(paint).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
    return (newDots, newPlan) => { dots = newDots; plan = newPlan; paint(); };
  }

  // --- start ------------------------------------------------------------------------------------------------------
  async function start() {
    for (const plan of data.plans) plan.draw = await load(plan.sheets);
    if (data.executed) drawExecuted = await load(data.executed);
    const size = data.plans[0] ? data.plans[0].sheets : data.executed;
    if (size) for (const id of ["imagined", "executed", "difference"]) Object.assign($(id), { width: size.width, height: size.height });
    scene = view3d($("scene"));
    $("scrub").addEventListener("input", (event) => { play(false); show(Number(event.target.value)); });
    $("show-tracks").addEventListener("click", toggleTracks);
    $("play").addEventListener("click", () => play(!playing));
    document.addEventListener("keydown", keys);
    for (const chart of document.querySelectorAll(".curve")) chart.addEventListener("click", (event) => {
      const [u0, u] = chart.dataset.map.split(" ").map(Number), box = chart.getBoundingClientRect();
      const step = ((event.clientX - box.left) * (chart.viewBox.baseVal.width / box.width) - u0) / u;
      show(moments.step.reduce((best, value, i) => (Math.abs(value - step) < Math.abs(moments.step[best] - step) ? i : best), 0));
    });
    for (const still of document.querySelectorAll(".strip button")) still.addEventListener("click", () => { play(false); show(Number(still.dataset.moment)); });
    const copy = $("copy");
    if (copy) copy.addEventListener("click", async () => {
      try { await navigator.clipboard.writeText($("command").textContent); copy.textContent = "Copied"; } catch { getSelection().selectAllChildren($("command")); copy.textContent = "Selected"; }
    });
    if (!moments.t_s.length) { $("transport").hidden = true; } else show(Number(new URLSearchParams(location.hash.slice(1)).get("moment") || 0));
    root.dataset.ready = "yes";
  }
  start().catch((error) => fail(String(error)));
})();
