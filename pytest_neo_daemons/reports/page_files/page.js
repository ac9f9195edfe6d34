"use strict";
(() => {
  const run = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const GLYPHS = {
    passed: "✓", failed: "✗", error: "E", crashed: "!", skipped: "s", xfailed: "x", xpassed: "X", rerun: "R", unfinished: "…",
  };
  const OUTCOMES = Object.keys(GLYPHS);
  const BAD = new Set(["failed", "error", "crashed", "unfinished"]);
  const ROW = 24, LANE = 24, GAP = 4, LABEL = 150, AXIS = 22;

  // Text is only ever set as text: nothing of a log or a test becomes markup.
  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name === "click") element.addEventListener("click", value);
      else if (name === "text") element.textContent = value;
      else element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  }
  function seconds(value) {
    if (value >= 120) return `${Math.floor(value / 60)} min ${Math.round(value % 60)} s`;
    if (value >= 10) return `${value.toFixed(1)} s`;
    return value >= 1 ? `${value.toFixed(2)} s` : `${(value * 1000).toFixed(value < 0.01 ? 1 : 0)} ms`;
  }
  function clock(value) {
    const at = new Date((run.at + value) * 1000);
    return `${at.toTimeString().slice(0, 8)}.${String(at.getMilliseconds()).padStart(3, "0")}`;
  }

  // ---- the model ----
  const tests = run.tests;
  tests.forEach((test, number) => {
    test.n = number;
    test.from = Math.min(...test.p.map((phase) => phase[1]));
    test.to = Math.max(...test.p.map((phase) => phase[2]));
    const cut = test.id.indexOf("::");
    test.name = cut < 0 ? test.id : test.id.slice(cut + 2);
    test.file = cut < 0 ? "" : test.id.slice(0, cut);
    test.low = test.id.toLowerCase();
  });
  const daemons = new Map(run.daemons.map((daemon) => [daemon.name, daemon]));
  const lanes = [
    ...run.daemons.map((daemon) => ({ daemon, label: daemon.name, things: [...daemon.segments].sort((a, b) => a[0] - b[0]) })),
    ...run.workers.map((worker, number) => ({
      worker, label: worker,
      things: tests.filter((test) => test.w === number).sort((a, b) => a.from - b.from),
    })),
  ];
  lanes.forEach((lane, number) => { lane.number = number; });
  const hidden = new Set();
  let view = { from: 0, to: run.duration };
  let picked = null; // {lane, thing} where a thing is a test or a segment of a daemon

  // ---- head ----
  document.title = `${run.title}: ${run.outcome} — neo-daemons`;
  $("title").textContent = `${run.title}: ${run.outcome}`;
  $("about").textContent =
    `${new Date(run.at * 1000).toLocaleString()}, ${seconds(run.duration)}. ${run.command}. ${run.versions}`;
  run.remarks.forEach((remark) => $("remarks").append(make("li", { text: remark })));
  OUTCOMES.forEach((outcome) => {
    const count = tests.filter((test) => test.o === outcome).length;
    if (!count) return;
    const button = make("button", { "aria-pressed": "true", "data-outcome": outcome },
      make("span", { class: "swatch" }), `${GLYPHS[outcome]} ${count} ${outcome}`);
    button.firstChild.style.background = `var(--${outcome})`;
    button.addEventListener("click", () => {
      if (!hidden.delete(outcome)) hidden.add(outcome);
      button.setAttribute("aria-pressed", String(!hidden.has(outcome)));
      refilter();
      draw();
    });
    $("counts").append(button);
  });
  for (const [state, word] of [["starting", "starting"], ["ready", "ready"], ["degraded", "degraded"], ["backoff", "down"], ["stopping", "stopping"]]) {
    const swatch = make("span", { class: "swatch" });
    swatch.style.background = `var(--${state})`;
    $("legend").append(make("span", {}, swatch, word));
  }
  $("legend").append(make("span", { text: "▼ incident" }));

  // ---- the timeline ----
  const box = $("lanes"), canvas = $("canvas"), pen = canvas.getContext("2d");
  const height = AXIS + lanes.length * (LANE + GAP) + GAP;
  let width = 800, colours = {};
  const x = (time) => LABEL + (time - view.from) / (view.to - view.from) * (width - LABEL);
  const time = (left) => view.from + (left - LABEL) / (width - LABEL) * (view.to - view.from);
  const y = (lane) => AXIS + GAP + lane.number * (LANE + GAP);
  function readColours() {
    const style = getComputedStyle(document.documentElement);
    colours = new Proxy({}, { get: (cache, name) => cache[name] ??= style.getPropertyValue(`--${name}`).trim() || "gray" });
  }
  function measure() {
    width = Math.max(box.clientWidth, 320);
    const ratio = window.devicePixelRatio || 1;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    draw();
  }
  let asked = false;
  function draw() {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => { asked = false; paint(); });
  }
  function step(span) {
    const rough = span / Math.max((width - LABEL) / 110, 1), power = 10 ** Math.floor(Math.log10(rough));
    return [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
  }
  function paint() {
    pen.clearRect(0, 0, width, height);
    pen.font = '12px system-ui, "Liberation Sans", "DejaVu Sans", sans-serif';
    pen.textBaseline = "middle";
    const size = step(view.to - view.from), digits = Math.max(0, -Math.floor(Math.log10(size)));
    pen.strokeStyle = colours.line;
    pen.fillStyle = colours.dim;
    for (let at = Math.ceil(view.from / size) * size; at <= view.to; at += size) {
      const left = Math.round(x(at)) + 0.5;
      pen.beginPath();
      pen.moveTo(left, AXIS - 4);
      pen.lineTo(left, height);
      pen.stroke();
      if (left < width - 30) pen.fillText(`${at.toFixed(digits)} s`, left + 3, AXIS / 2);
    }
    pen.save();
    pen.beginPath();
    pen.rect(LABEL, 0, width - LABEL, height);
    pen.clip();
    for (const lane of lanes) {
      if (lane.daemon) paintDaemon(lane);
      else paintTests(lane);
    }
    pen.restore();
    for (const lane of lanes) {
      pen.fillStyle = picked && picked.lane === lane ? colours.pick : colours.panel;
      pen.fillRect(0, y(lane), LABEL - 4, LANE);
      pen.fillStyle = colours.ink;
      let label = lane.label;
      while (label.length > 4 && pen.measureText(label).width > LABEL - 16) label = `${label.slice(0, -2)}…`;
      pen.fillText(label, 6, y(lane) + LANE / 2);
    }
  }
  function paintDaemon(lane) {
    const top = y(lane);
    for (const segment of lane.things) {
      const left = x(segment[0]), right = x(segment[1]);
      if (right < LABEL || left > width) continue;
      pen.fillStyle = colours[segment[2]];
      pen.fillRect(left, top + 3, Math.max(right - left, 1), LANE - 6);
      outline(lane, segment, left, top, Math.max(right - left, 2));
    }
    for (const event of lane.daemon.events) {
      const left = x(event[0]);
      if (left < LABEL - 6 || left > width + 6) continue;
      pen.fillStyle = event[4] ? colours.mark : colours.ink;
      if (event[4]) {
        pen.beginPath();
        pen.moveTo(left - 5, top);
        pen.lineTo(left + 5, top);
        pen.lineTo(left, top + 10);
        pen.fill();
      } else {
        pen.fillRect(left, top + 3, 1, LANE - 6);
      }
    }
  }
  function paintTests(lane) {
    const top = y(lane);
    for (const late of [false, true]) { // failures last, so that nothing covers them
      for (const test of lane.things) {
        if (BAD.has(test.o) !== late || hidden.has(test.o)) continue;
        const left = x(test.from), right = x(test.to);
        if (right < LABEL || left > width) continue;
        const wide = Math.max(right - left - (right - left > 4 ? 1 : 0), late ? 3 : 1);
        pen.fillStyle = colours[test.o];
        if (right - left > 8) {
          pen.globalAlpha = 0.25; // pytest itself takes time between the phases
          pen.fillRect(left, top + 2, wide, LANE - 4);
          for (const [when, from, to] of test.p) {
            pen.globalAlpha = when === "call" || when === "crash" ? 1 : 0.55;
            pen.fillRect(x(from), top + 2, Math.max(x(to) - x(from), 0.5), LANE - 4);
          }
          pen.globalAlpha = 1;
        } else {
          pen.fillRect(left, top + 2, wide, LANE - 4);
        }
        if (test.e) {
          pen.fillStyle = colours.ink;
          for (const event of test.e) pen.fillRect(x(event[0]) - 1, top, 2, 5);
        }
        if (wide > 60) {
          pen.save();
          pen.beginPath();
          pen.rect(left, top, wide - 2, LANE);
          pen.clip();
          pen.fillStyle = colours.page;
          pen.fillText(test.name, Math.max(left, LABEL) + 4, top + LANE / 2);
          pen.restore();
        }
        outline(lane, test, left, top, wide);
      }
    }
  }
  function outline(lane, thing, left, top, wide) {
    if (!picked || picked.thing !== thing) return;
    pen.strokeStyle = colours.focus;
    pen.lineWidth = 3;
    pen.strokeRect(left - 1, top + 1, wide + 2, LANE - 2);
    pen.lineWidth = 1;
  }
  const begin = (thing) => Array.isArray(thing) ? thing[0] : thing.from;
  const end = (thing) => Array.isArray(thing) ? thing[1] : thing.to;
  const seen = (lane) => lane.daemon ? lane.things : lane.things.filter((test) => !hidden.has(test.o));
  function at(left, top) {
    const lane = lanes[Math.floor((top - AXIS - GAP / 2) / (LANE + GAP))];
    if (!lane || top < AXIS) return null;
    const moment = time(left), slack = (view.to - view.from) / (width - LABEL) * 4;
    let best = null, distance = slack;
    if (left >= LABEL) {
      for (const thing of seen(lane)) {
        const away = Math.max(begin(thing) - moment, moment - end(thing), 0) - (BAD.has(thing.o) ? slack / 100 : 0);
        if (away < distance) { best = thing; distance = away; }
      }
    }
    return { lane, thing: best };
  }
  function zoom(factor, around = (view.from + view.to) / 2) {
    const span = Math.min(Math.max((view.to - view.from) * factor, 0.001), run.duration);
    const part = (around - view.from) / (view.to - view.from);
    move(around - part * span, span);
  }
  function move(from, span = view.to - view.from) {
    const first = Math.min(Math.max(from, 0), run.duration - span);
    view = { from: first, to: first + span };
    draw();
  }
  function show(thing) { // bring it into view
    const span = view.to - view.from;
    if (end(thing) < view.from + span * 0.02 || begin(thing) > view.to - span * 0.02) {
      move((begin(thing) + end(thing)) / 2 - span / 2);
    }
  }

  // ---- picking ----
  function say(text) { $("said").textContent = text; }
  function pick(lane, thing, focus = false) {
    picked = { lane, thing };
    if (lane.daemon) {
      detailDaemon(lane.daemon, thing);
      say(thing ? `${thing[3]}: ${thing[2]} for ${seconds(thing[1] - thing[0])}` : `${lane.label}: details and log`);
    } else if (thing) {
      detailTest(thing);
      say(`${thing.name}: ${thing.o}, ${seconds(thing.to - thing.from)}`);
    } else {
      say(`lane of ${lane.label}, ${lane.things.length} tests`);
    }
    if (thing) show(thing);
    const row = thing && !lane.daemon ? order.indexOf(thing) : -1;
    if (row >= 0) reveal(row);
    fill();
    draw();
    if (focus) $("details").focus();
  }
  const laneOf = (test) => lanes[run.daemons.length + test.w];
  const pickTest = (test, focus) => pick(laneOf(test), test, focus);
  const pickDaemon = (name) => {
    const lane = lanes.find((each) => each.daemon && each.daemon.name === name);
    if (lane) pick(lane, null, true);
  };

  function detailTest(test) {
    const parts = [
      make("h2", { text: `${GLYPHS[test.o]} ${test.name}` }),
      make("p", { class: "dim", text: `${test.file} — ${test.o}, on ${run.workers[test.w]}, began ${clock(test.from)}, took ${seconds(test.to - test.from)}` }),
      make("p", { class: "dim", text: test.p.map(([when, from, to]) => `${when} ${seconds(to - from)}`).join(" · ") }),
    ];
    if (test.d) {
      const line = make("p", {}, "daemons: ");
      test.d.forEach((name) => line.append(
        daemons.has(name) ? make("button", { class: "link", text: name, click: () => pickDaemon(name) }) : name, " "));
      parts.push(line);
    }
    if (test.e) {
      parts.push(make("h3", { text: "events" }), rows(test.e.map(([moment, kind, text]) => [clock(moment), kind, text])));
    }
    (test.t || []).forEach((text) => parts.push(make("h3", { text: "report" }), make("pre", { tabindex: "0", text })));
    const told = new Set();
    (test.s || []).forEach(([name, text]) => {
      told.add(name);
      parts.push(make("h3", { text: `log of ${name} during this test` }), make("pre", { tabindex: "0", text }));
    });
    Object.entries(test.l || {}).forEach(([name, [from, to]]) => {
      const daemon = daemons.get(name);
      if (told.has(name) || !daemon) return;
      const text = daemon.log.slice(from, to).join("\n");
      parts.push(make("h3", { text: `log of ${name} during this test` }), make("pre", { tabindex: "0", text }));
    });
    if (test.d && !test.s && !test.l) parts.push(make("p", { class: "dim", text: "Its daemons logged nothing meanwhile, or that is not kept." }));
    $("details").replaceChildren(...parts);
    $("details").scrollTop = 0;
  }
  function rows(lines, bad = []) {
    const body = make("tbody");
    lines.forEach((line, number) => body.append(make("tr", bad[number] ? { class: "bad" } : {},
      ...line.map((text, column) => make("td", column ? { text } : { text, class: "num" })))));
    return make("table", {}, body);
  }
  function detailDaemon(daemon, segment) {
    const parts = [make("h2", { text: daemon.name })];
    if (daemon.facts.length) parts.push(rows(daemon.facts));
    if (segment) parts.push(make("p", { text: `${segment[3]} was ${segment[2]} from ${clock(segment[0])} for ${seconds(segment[1] - segment[0])}` }));
    const near = segment ? daemon.events.filter((event) => event[0] >= segment[0] - 1e-4 && event[0] <= segment[1] + 1e-4) : daemon.events;
    const listed = near.slice(0, 500);
    if (listed.length) {
      parts.push(make("h3", { text: `events${near.length > 500 ? ` (the first 500 of ${near.length})` : ""}` }),
        rows(listed.map((event) => [clock(event[0]), event[1], event[2], event[3]]), listed.map((event) => event[4])));
    }
    const use = tests.filter((test) => test.d && test.d.includes(daemon.name));
    if (use.length) parts.push(make("p", { class: "dim", text: `${use.length} tests used it` }));
    if (daemon.log.length) {
      const cut = daemon.cut ? ` (its first ${daemon.cut} bytes are left out)` : "";
      parts.push(make("h3", { text: `log${cut}` }), make("pre", { tabindex: "0", text: daemon.log.join("\n") }));
    }
    $("details").replaceChildren(...parts);
    $("details").scrollTop = 0;
  }

  // ---- the list of tests: only the rows in view exist ----
  const list = $("list"), rowsBox = $("rows");
  let order = [];
  function refilter() {
    const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    order = tests.filter((test) => !hidden.has(test.o) && words.every((word) => test.low.includes(word) || test.o === word));
    const by = $("order").value;
    order.sort(by === "long" ? (a, b) => (b.to - b.from) - (a.to - a.from)
      : by === "name" ? (a, b) => (a.id < b.id ? -1 : 1) : (a, b) => a.from - b.from);
    $("shown").textContent = `${order.length} of ${tests.length}`;
    rowsBox.style.height = `${order.length * ROW}px`;
    list.scrollTop = 0;
    fill();
  }
  function fill() {
    const first = Math.max(Math.floor(list.scrollTop / ROW) - 5, 0);
    const last = Math.min(first + Math.ceil(list.clientHeight / ROW) + 10, order.length);
    const made = [];
    for (let number = first; number < last; number++) {
      const test = order[number], chosen = picked !== null && picked.thing === test;
      const row = make("div", {
        class: "row", role: "option", id: `row-${test.n}`, "aria-selected": String(chosen), "aria-posinset": String(number + 1),
        "aria-setsize": String(order.length), title: test.id, "data-test": String(test.n),
      },
      make("span", { class: "glyph", text: GLYPHS[test.o], "aria-label": test.o }),
      make("span", { class: "id" }, test.name, " ", make("span", { class: "dim", text: test.file })),
      make("span", { class: "dim", text: seconds(test.to - test.from) }));
      row.firstChild.style.color = `var(--${test.o})`;
      row.style.top = `${number * ROW}px`;
      if (chosen) list.setAttribute("aria-activedescendant", row.id);
      made.push(row);
    }
    rowsBox.replaceChildren(...made);
  }
  function reveal(row) {
    const top = row * ROW;
    if (top < list.scrollTop) list.scrollTop = top;
    else if (top + ROW > list.scrollTop + list.clientHeight) list.scrollTop = top + ROW - list.clientHeight;
  }
  function nextFailure() {
    const bad = order.filter((test) => BAD.has(test.o));
    if (!bad.length) { say("no failures"); return; }
    const now = picked ? bad.indexOf(picked.thing) : -1;
    pickTest(bad[(now + 1) % bad.length]);
  }
  list.addEventListener("scroll", fill);
  list.addEventListener("click", (event) => {
    const row = event.target.closest(".row");
    if (row) pickTest(tests[Number(row.dataset.test)]);
  });
  list.addEventListener("keydown", (event) => {
    const now = picked ? order.indexOf(picked.thing) : -1, page = Math.max(Math.floor(list.clientHeight / ROW) - 1, 1);
    const to = {
      ArrowDown: now + 1, ArrowUp: now - 1, PageDown: now + page, PageUp: now - page, Home: 0, End: order.length - 1,
    }[event.key];
    if (event.key === "Enter") { $("details").focus(); return; }
    if (to === undefined || !order.length) return;
    event.preventDefault();
    pickTest(order[Math.min(Math.max(to, 0), order.length - 1)]);
  });
  $("search").addEventListener("input", refilter);
  $("order").addEventListener("change", refilter);

  // ---- mouse and keys of the timeline ----
  let drag = null;
  canvas.addEventListener("pointerdown", (event) => {
    drag = { left: event.offsetX, from: view.from, moved: false };
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!drag) {
      const hit = at(event.offsetX, event.offsetY);
      canvas.title = !hit || !hit.thing ? "" : Array.isArray(hit.thing)
        ? `${hit.thing[3]}: ${hit.thing[2]}, ${seconds(hit.thing[1] - hit.thing[0])}`
        : `${hit.thing.id}: ${hit.thing.o}, ${seconds(hit.thing.to - hit.thing.from)}`;
      return;
    }
    if (Math.abs(event.offsetX - drag.left) > 3) drag.moved = true;
    if (drag.moved) move(drag.from - (event.offsetX - drag.left) / (width - LABEL) * (view.to - view.from));
  });
  canvas.addEventListener("pointerup", (event) => {
    const moved = drag && drag.moved;
    drag = null;
    if (moved) return;
    const hit = at(event.offsetX, event.offsetY);
    if (hit) pick(hit.lane, hit.thing);
  });
  canvas.addEventListener("pointercancel", () => { drag = null; });
  canvas.addEventListener("dblclick", (event) => {
    const hit = at(event.offsetX, event.offsetY);
    if (hit && hit.thing) {
      const span = Math.min(Math.max((end(hit.thing) - begin(hit.thing)) * 1.5, 0.001), run.duration);
      move((begin(hit.thing) + end(hit.thing) - span) / 2, span);
    }
  });
  canvas.addEventListener("wheel", (event) => {
    if (event.ctrlKey || event.metaKey) {
      event.preventDefault();
      zoom(1.2 ** (event.deltaY / 50), time(event.offsetX));
    } else if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      event.preventDefault();
      move(view.from + (event.deltaX || event.deltaY) / (width - LABEL) * (view.to - view.from));
    }
  }, { passive: false });
  const centre = () => (picked && picked.thing ? (begin(picked.thing) + end(picked.thing)) / 2 : undefined);
  const nearest = (lane, moment) => seen(lane).reduce((best, thing) =>
    best === null || Math.abs(begin(thing) - moment) < Math.abs(begin(best) - moment) ? thing : best, null);
  box.addEventListener("keydown", (event) => {
    const lane = picked ? picked.lane : lanes[0];
    if (!lane) return;
    const things = seen(lane), now = picked && picked.thing ? things.indexOf(picked.thing) : -1;
    const actions = {
      ArrowRight: () => things.length && pick(lane, things[Math.min(now + 1, things.length - 1)]),
      ArrowLeft: () => things.length && pick(lane, things[Math.max(now - 1, 0)]),
      ArrowDown: () => side(1),
      ArrowUp: () => side(-1),
      "+": () => zoom(0.5, centre()),
      "=": () => zoom(0.5, centre()),
      "-": () => zoom(2, centre()),
      "0": () => move(0, run.duration),
      Enter: () => $("details").focus(),
    };
    function side(by) {
      const other = picked ? lanes[Math.min(Math.max(lane.number + by, 0), lanes.length - 1)] : lanes[0];
      pick(other, nearest(other, picked && picked.thing ? begin(picked.thing) : view.from));
      const top = y(other);
      if (top < box.scrollTop + AXIS) box.scrollTop = top - AXIS;
      else if (top + LANE > box.scrollTop + box.clientHeight) box.scrollTop = top + LANE - box.clientHeight + GAP;
    }
    if (actions[event.key] && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      actions[event.key]();
    }
  });
  document.addEventListener("keydown", (event) => {
    if (event.target.closest("input, select") || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "/") { event.preventDefault(); $("search").focus(); }
    if (event.key === "f" || event.key === "F") nextFailure();
  });
  $("in").addEventListener("click", () => zoom(0.5, centre()));
  $("out").addEventListener("click", () => zoom(2, centre()));
  $("fit").addEventListener("click", () => move(0, run.duration));

  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { readColours(); draw(); });
  window.addEventListener("resize", () => { measure(); fill(); });
  readColours();
  measure();
  refilter();
  const first = order.find((test) => BAD.has(test.o));
  if (first) pickTest(first);
  else if (lanes.length) pick(lanes[0], null);
})();
