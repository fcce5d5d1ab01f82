// Moves the map: counts by minute and country, lights where presses came from, the newest records.
"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const world = byId("world");
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  const names = new Map();
  for (const shape of world.querySelectorAll("[id^=c-]")) {
    names.set(shape.id.slice(2), shape.querySelector("title").textContent);
  }
  const lights = document.createElementNS("http://www.w3.org/2000/svg", "g");
  lights.setAttribute("aria-hidden", "true");
  world.append(lights);
  world.setAttribute("role", "img");
  world.setAttribute("aria-label", "World map. The table by country below has the same numbers.");

  const MOST_LIGHTS = 300;
  const SHOWN_RECORDS = 8;
  const SECONDS = 10;
  // Minutes since the epoch → { countries: Map, generated }.
  let minutes = new Map();
  let recent = [];
  let records = [];
  let span = 60;
  let paused = false;
  let source = null;
  let last = "";
  let drift = 0;
  let drawn = new Map();

  const serverNow = () => Date.now() + drift;

  function minute(number) {
    if (!minutes.has(number)) minutes.set(number, { countries: new Map(), generated: 0 });
    return minutes.get(number);
  }

  function onSnapshot(event) {
    const data = JSON.parse(event.data);
    last = event.lastEventId;
    drift = data.at - Date.now();
    minutes = new Map();
    for (const [number, countries, generated] of data.minutes) {
      const kept = minute(number);
      kept.generated = generated;
      for (const [code, count] of Object.entries(countries)) kept.countries.set(code, count);
    }
    records = data.r;
    recent = [];
    draw();
  }

  function onFrame(event) {
    const data = JSON.parse(event.data);
    last = event.lastEventId;
    drift = data.at - Date.now();
    const count = add(Math.floor(data.at / 60000), data.c, data.g);
    recent.push([data.at, count]);
    show(data);
  }

  // What came while we were away, to be added to what we have.
  function onMissed(event) {
    const data = JSON.parse(event.data);
    last = event.lastEventId;
    drift = data.at - Date.now();
    for (const counts of data.minutes) add(...counts);
    show(data);
  }

  // Before a snapshot: too much was missed to be told one by one.
  function onSkipped(event) {
    const most = JSON.parse(event.data).offsets.toLocaleString("en");
    say(`Up to ${most} records came meanwhile that do not light up here; the counts have those of the last hour.`, false);
  }

  function add(number, countries, generated) {
    const kept = minute(number);
    kept.generated += generated;
    let count = 0;
    for (const [code, presses] of Object.entries(countries)) {
      kept.countries.set(code, (kept.countries.get(code) || 0) + presses);
      count += presses;
    }
    return count;
  }

  function show(data) {
    records = data.r.concat(records).slice(0, SHOWN_RECORDS);
    if (!paused) {
      data.e.forEach((press, at) => setTimeout(light, still.matches ? 0 : at * 9, press));
    }
  }

  function light([x, y, code, generated]) {
    if (x === null) {
      const shape = byId("c-" + code);
      if (!shape) return;
      const box = shape.getBBox();
      x = box.x + box.width / 2;
      y = box.y + box.height / 2;
    }
    const dot = document.createElementNS("http://www.w3.org/2000/svg", "circle");
    dot.setAttribute("cx", x);
    dot.setAttribute("cy", y);
    dot.setAttribute("r", "3");
    dot.setAttribute("class", generated ? "light ring" : "light");
    lights.append(dot);
    while (lights.childElementCount > MOST_LIGHTS) lights.firstElementChild.remove();
    setTimeout(() => dot.remove(), 2400);
  }

  function totals() {
    const first = Math.floor(serverNow() / 60000) - span;
    const countries = new Map();
    let presses = 0;
    let generated = 0;
    for (const [number, kept] of minutes) {
      if (number <= Math.floor(serverNow() / 60000) - 60) minutes.delete(number);
      if (number <= first) continue;
      generated += kept.generated;
      for (const [code, count] of kept.countries) {
        countries.set(code, (countries.get(code) || 0) + count);
        presses += count;
      }
    }
    return { countries, presses, generated };
  }

  function draw() {
    const { countries, presses, generated } = totals();
    const format = (n) => n.toLocaleString("en");
    byId("presses").textContent = format(presses);
    byId("generated").textContent = format(generated);
    byId("span").textContent = { 1: "presses in the last minute", 15: "presses in the last 15 minutes", 60: "presses in the last hour" }[span];
    const since = serverNow() - SECONDS * 1000;
    recent = recent.filter(([at]) => at > since);
    const rate = recent.reduce((sum, [, count]) => sum + count, 0) / SECONDS;
    byId("rate").textContent = rate < 10 ? rate.toFixed(1) : format(Math.round(rate));
    const most = Math.max(1, ...countries.values());
    const steps = new Map();
    for (const [code, count] of countries) {
      if (names.has(code)) steps.set(code, 1 + Math.floor((4.999 * Math.log1p(count)) / Math.log1p(Math.max(most, 5))));
    }
    for (const [code, step] of drawn) {
      if (steps.get(code) !== step) byId("c-" + code).classList.remove("k" + step);
    }
    for (const [code, step] of steps) {
      if (drawn.get(code) !== step) byId("c-" + code).classList.add("k" + step);
    }
    drawn = steps;
    const rows = [...countries].sort((one, other) => other[1] - one[1] || one[0].localeCompare(other[0])).slice(0, 12);
    fill(byId("by-country"), rows, "tr", (row, [code, count]) => {
      const name = document.createElement("th");
      name.scope = "row";
      name.textContent = names.get(code) || "place unknown";
      const number = document.createElement("td");
      number.textContent = format(count);
      row.append(name, number);
    });
    fill(byId("records"), records, "li", (item, record) => {
      const code = document.createElement("code");
      code.textContent = JSON.stringify(record);
      item.append(code);
    });
  }

  function fill(place, items, tag, write) {
    const all = items.map((item) => {
      const element = document.createElement(tag);
      write(element, item);
      return element;
    });
    place.replaceChildren(...all);
  }

  function open() {
    if (source) return;
    source = new EventSource("/live/events" + (last ? "?last=" + encodeURIComponent(last) : ""));
    source.addEventListener("snapshot", onSnapshot);
    source.addEventListener("frame", onFrame);
    source.addEventListener("missed", onMissed);
    source.addEventListener("skipped", onSkipped);
    source.addEventListener("open", () => say(""));
    source.addEventListener("error", () => {
      say("The connection is broken; trying again.");
      // A browser gives up after an answer that is no stream, such as one of a proxy.
      if (source && source.readyState === EventSource.CLOSED) {
        close();
        setTimeout(() => document.hidden || open(), 5000);
      }
    });
  }

  function close() {
    if (source) source.close();
    source = null;
  }

  function say(text, isStale = text !== "") {
    byId("state").textContent = text;
    byId("map").classList.toggle("stale", isStale);
  }

  byId("controls").hidden = false;
  byId("pause").addEventListener("click", () => {
    paused = !paused;
    byId("pause").textContent = paused ? "Go on" : "Pause";
    byId("pause").setAttribute("aria-pressed", String(paused));
    if (!paused) draw();
  });
  for (const choice of document.getElementsByName("window")) {
    choice.addEventListener("change", () => {
      span = Number(choice.value);
      draw();
    });
  }
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  addEventListener("pagehide", close);
  setInterval(() => paused || document.hidden || draw(), 500);
  if (!document.hidden) open();
})();
