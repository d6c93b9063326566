"use strict";
// Draws the charts and keeps moment, slider, charts and player together. The figures themselves are in the
// page already, and `charts.js` draws. Untrusted text enters the page through textContent alone.
(() => {
const $ = (id) => document.getElementById(id);
const root = document.documentElement;
root.classList.replace("no-js", "js");
const data = JSON.parse($("data").textContent);
const single = data.kind === "video";
const coarse = matchMedia("(pointer: coarse)").matches;
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const LEFT = 40, RIGHT = 14, PRINT_WIDTH = 640, ROW = 34;

const state = { timelineBy: "gender", pyramidOf: "people", sharesOf: "people", moment: 0, printing: false };

// ---- Words

function clock(seconds) {
  const whole = Math.round(seconds), s = whole % 60, m = Math.floor(whole / 60) % 60, h = Math.floor(whole / 3600);
  const two = (n) => String(n).padStart(2, "0");
  return h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}
// As in the tables: tenths below a minute, so that different times look different.
function time(seconds) {
  const tenths = Math.round(seconds * 10);
  return seconds < 60 ? `${clock(Math.floor(tenths / 10))}.${tenths % 10}` : clock(seconds);
}
function number(value) {
  return Number.isInteger(value) ? value.toLocaleString("en-GB") : value.toFixed(1);
}
function short(text, length) {
  const signs = Array.from(String(text).replace(/\s+/g, " "));
  return signs.length > length ? signs.slice(0, Math.max(1, length - 1)).join("") + "…" : signs.join("");
}
const peopleWords = (n) => `${number(n)} ${n === 1 ? "person" : "people"}`;

// ---- Colors and layout

const probe = document.body.appendChild(document.createElement("i"));
probe.hidden = true;
let colors = {};
function readColors() {
  const names = ["card", "line", "track", "ink", "soft", "female", "female-edge", "male", "male-fill", "unknown", "unknown-fill", "audience", "any", "any-fill"];
  for (let i = 0; i < 8; i++) names.push(`age-${i}`);
  colors = Object.fromEntries(names.map((name) => {
    probe.style.color = `var(--${name})`;
    return [name, getComputedStyle(probe).color];
  }));
}
function ageColor(index, bands) {
  return colors[`age-${bands < 2 ? 3 : Math.round(index * 7 / (bands - 1))}`];
}
function layoutOf(extra) {
  return Object.assign({ bargap: 0.25, font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: colors.soft } }, extra);
}
function axis(extra) {
  return Object.assign({ showgrid: false, gridcolor: colors.line, tickfont: { color: colors.soft } }, extra);
}
const TIME_STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400];
function ticks(low, high, unit, count) {
  const span = Math.max(high - low, 1e-9);
  let step;
  if (unit === "time") {
    step = TIME_STEPS.find((s) => span / s <= count) || 86400 * Math.ceil(span / 86400 / count);
  } else {
    const power = 10 ** Math.floor(Math.log10(span / count));
    step = [1, 2, 2.5, 5, 10].map((f) => f * power).find((s) => span / s <= count + 0.001);
    if (unit === "people" && Number.isInteger(high)) step = Math.max(step === 2.5 ? 2 : step, 1);
  }
  const values = [];
  for (let v = Math.ceil(low / step - 1e-9) * step; v <= high + step * 1e-9; v += step) values.push(+v.toFixed(9));
  const digits = Math.max(1, Math.ceil(-Math.log10(step)));
  const words = (v) => unit === "time" ? clock(v) : unit === "share" ? `${+(100 * v).toFixed(1)} %` : Number.isInteger(v) ? number(v) : v.toFixed(digits);
  return { tickmode: "array", tickvals: values, ticktext: values.map(words) };
}

// ---- Drawing

const figures = {};      // name -> function of the width that gives { traces, layout }
const plots = {};
function widthOf(name) {
  return state.printing ? PRINT_WIDTH : Math.max(220, $(`plot-${name}`).clientWidth);
}
function draw(name) {
  const box = $(`plot-${name}`);
  if (!box || !figures[name]) return;
  const width = widthOf(name);
  const figure = figures[name](width);
  box.style.height = `${figure.layout.height}px`;
  figure.layout.width = width;
  Charts.draw(box, figure);
  plots[name] = { width };
}
function drawAll() {
  readColors();
  for (const name of Object.keys(figures)) draw(name);
  showMoment();
}
function legend(id, entries) {
  const box = $(id);
  if (!box) return;
  box.replaceChildren(...entries.map(({ words, color, sign }) => {
    const item = document.createElement("span"), mark = document.createElement("i");
    mark.style.backgroundColor = color;
    if (sign) mark.className = sign;
    item.append(mark, words);
    return item;
  }));
}
// Female plain, male striped, unknown dotted: distinguishable without color too.
const PATTERNS = { male: "/", unknown: "." };
function genderFill(gender) {
  return gender === "unknown" ? colors["unknown-fill"] : colors[gender];
}
function genderPattern(gender) {
  if (!PATTERNS[gender]) return null;
  return { shape: PATTERNS[gender], fgcolor: gender === "male" ? colors["male-fill"] : colors.unknown, size: 7 };
}
function genderEdge(gender) {
  return gender === "female" ? colors["female-edge"] : colors[gender];
}
function genderMarker(gender) {
  return { color: genderFill(gender), line: { width: 1, color: genderEdge(gender) }, pattern: genderPattern(gender) };
}

// ---- The timeline

const line = single && data.timeline && data.timeline.start_s.length ? data.timeline : null;
const bins = line ? line.start_s.length : 0;
const first = line ? line.start_s[0] : 0, last = line ? line.end_s[bins - 1] : 1;
let range = [first, last];

function binAt(seconds) {
  let low = 0, high = bins - 1;
  const t = seconds + Math.min(0.05, (line.end_s[0] - line.start_s[0]) / 4);
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (line.start_s[middle] <= t) low = middle; else high = middle - 1;
  }
  return low;
}
function genderParts(bin) {
  if (!line.female) return [];
  return [["female", line.female], ["male", line.male], ["of unknown gender", line.unknown_gender]]
    .filter(([, values]) => values && values[bin] > 0).map(([words, values]) => `${number(values[bin])} ${words}`);
}
function ageParts(bin) {
  return Object.entries(line.ages || {}).filter(([, values]) => values && values[bin] > 0)
    .map(([band, values]) => `${number(values[bin])} ${band === "unknown" ? "of unknown age" : "aged " + band}`);
}
function countWords(bin) {
  return line.people[bin] == null ? "not analyzed" : line.people[bin] === 0 ? "nobody" : peopleWords(line.people[bin]);
}
function unknownSpans() {
  const spans = [];
  for (let i = 0; i < bins; i++) {
    if (line.people[i] != null) continue;
    const before = spans[spans.length - 1];
    if (before && before[1] >= line.start_s[i]) before[1] = line.end_s[i];
    else spans.push([line.start_s[i], line.end_s[i]]);
  }
  return spans.slice(0, 200);
}
function timelineSeries() {
  if (!line.female) return [{ words: "people", values: line.people, color: colors.any }];
  if (state.timelineBy === "age") {
    const known = data.bands.map((band, i) => ({ words: band, values: line.ages[band], color: ageColor(i, data.bands.length) }));
    known.push({ words: "age unknown", values: line.ages.unknown, color: colors["unknown-fill"], edge: colors.unknown, pattern: genderPattern("unknown"), sign: "unknown" });
    return known.filter(({ values }) => values && values.some((v) => v > 0));
  }
  return [["female", "female", line.female], ["male", "male", line.male], ["unknown", "gender unknown", line.unknown_gender]]
    .map(([gender, words, values]) => ({ words, values, color: genderFill(gender), edge: genderEdge(gender), pattern: genderPattern(gender), sign: gender }))
    .filter(({ values }) => values && values.some((v) => v > 0));
}
if (line) figures.timeline = (width) => {
  const edges = [...line.start_s, last];
  const series = timelineSeries();
  legend("legend-timeline", series);
  const traces = series.map(({ values, color, edge, pattern }) => ({
    type: "area", x: edges, y: [...values, values[bins - 1]], fillcolor: color, fillpattern: pattern,
    line: { width: bins > 500 ? 0.4 : 1, color: edge || colors.card },
  }));
  const top = Math.max(1, ...line.people.map((v) => v || 0));
  // One reading a bin, at its middle, so that the nearest one is that of the bin under the pointer.
  traces.push({
    type: "reading", x: line.start_s.map((s, i) => (s + line.end_s[i]) / 2),
    text: line.start_s.map((s, i) => [`${clock(s)}  ${countWords(i)}`, ...(state.timelineBy === "age" ? ageParts(i) : genderParts(i))]),
  });
  return { traces, layout: layoutOf({
    height: 240, zooms: !coarse, clip: true, margin: { l: LEFT, r: RIGHT, t: 10, b: 26 },
    xaxis: axis({ range: [...range], ...ticks(range[0], range[1], "time", width / 90) }),
    yaxis: axis({ range: [0, top * 1.08], showgrid: true, ...ticks(0, top, "people", 5) }),
    shapes: unknownSpans().map(([x0, x1]) => ({ type: "rect", x0, x1, y0: 0, y1: 1, yref: "paper", fillcolor: colors.track })),
  }) };
};

const people = single ? data.people || [] : [];
if (line && people.length) figures.people = (width) => {
  const genders = ["female", "male", "unknown"].filter((g) => people.some((p) => p.gender === g));
  legend("legend-people", genders.map((g) => ({ words: g === "unknown" ? "gender unknown" : g, color: genderFill(g), sign: g })));
  const traces = genders.map((gender) => {
    const bars = people.flatMap((person, row) => person.gender === gender ? person.spans.map(([start, end]) => ({ person, row, start, end })) : []);
    return {
      type: "bar", orientation: "h", marker: genderMarker(gender),
      base: bars.map((b) => b.start), x: bars.map((b) => Math.max(b.end - b.start, 0)), y: bars.map((b) => b.row),
      width: 0.32, offset: 0.04, customdata: bars.map((b) => [b.start, b.end]),
      text: bars.map((b) => [b.person.words, `${time(b.start)} to ${time(b.end)}`]),
    };
  });
  return { traces, layout: layoutOf({
    height: people.length * ROW + 36, margin: { l: LEFT, r: RIGHT, t: 4, b: 26 }, clip: true,
    xaxis: axis({ range: [...range], ...ticks(range[0], range[1], "time", width / 90) }),
    yaxis: axis({ range: [people.length - 0.5, -0.5], showticklabels: false }),
    shapes: people.map((_, row) => ({ type: "rect", xref: "paper", x0: 0, x1: 1, y0: row + 0.04, y1: row + 0.36, fillcolor: colors.track })),
    annotations: people.map((person, row) => ({
      xref: "paper", x: 0, xanchor: "left", y: row - 0.2, text: short(person.words, Math.min(80, Math.floor((width - LEFT) / 6.2))), font: { size: 12, color: colors.ink }, xshift: 3,
    })),
  }) };
};

// ---- The moment: slider, readout, cursor lines, zoom

const video = $("video"), slider = $("moment"), readout = $("readout"), play = $("play");
const source = single ? Object.values(data.videos)[0] || null : null;
let playable = Boolean(single && video && source && source.media);

function momentUrl(from, seconds) {
  return from && from.link ? from.link.before + Math.floor(seconds) + from.link.after : "";
}
function cursors() {
  for (const name of ["timeline", "people"]) {
    const box = $(`plot-${name}`);
    if (!box || !plots[name]) continue;
    let mark = box.querySelector(".cursor");
    if (!mark) {
      mark = document.createElement("div");
      mark.className = "cursor";
      box.append(mark);
    }
    const inner = plots[name].width - LEFT - RIGHT;
    const place = (state.moment - range[0]) / (range[1] - range[0]);
    mark.hidden = place < -1e-6 || place > 1 + 1e-6;
    mark.style.left = `${LEFT + place * inner}px`;
    mark.style.top = name === "timeline" ? "10px" : "0";
    mark.style.bottom = "26px";
  }
}
function showMoment() {
  if (!line || !plots.timeline) return;
  const bin = binAt(state.moment), start = line.start_s[bin];
  const thumb = coarse ? 28 : 18, inner = plots.timeline.width - LEFT - RIGHT;
  slider.style.left = `${LEFT - thumb / 2}px`;
  slider.style.width = `${inner + thumb}px`;
  slider.min = range[0];
  slider.max = range[1];
  slider.step = "any";
  slider.value = state.moment;
  cursors();
  if (readout.dataset.bin === String(bin)) return;
  readout.dataset.bin = bin;
  const parts = genderParts(bin), words = countWords(bin);
  slider.setAttribute("aria-valuetext", `${clock(start)}: ${[words, ...parts].join(", ")}`);
  const bold = document.createElement("b");
  bold.textContent = clock(start);
  readout.replaceChildren(bold, words + (parts.length ? ": " + parts.join(", ") : ""));
}
function setRange(from, to) {
  const least = Math.min(last - first, 3 * (line.end_s[0] - line.start_s[0]));
  let low = Math.max(first, Math.min(from, to)), high = Math.min(last, Math.max(from, to));
  if (high - low < least) {
    const middle = (low + high) / 2;
    low = Math.max(first, Math.min(middle - least / 2, last - least));
    high = low + least;
  }
  range = [low, high];
  $("whole").hidden = low <= first && high >= last;
  draw("timeline");
  draw("people");
  showMoment();
}
function setMoment(seconds, seek) {
  if (line) {
    state.moment = Math.max(first, Math.min(seconds, last));
    if (state.moment < range[0] || state.moment > range[1]) {
      const span = range[1] - range[0], low = Math.max(first, Math.min(state.moment - span / 10, last - span));
      setRange(low, low + span);
    } else showMoment();
  }
  if (seek && playable) goTo(Math.max(0, seconds - source.offset));
}
// The player cannot seek before it knows the length of the video.
let awaited = null;
function goTo(seconds) {
  if (video.readyState >= 1) video.currentTime = seconds;
  else {
    if (awaited === null) video.addEventListener("loadedmetadata", () => { video.currentTime = awaited; awaited = null; }, { once: true });
    awaited = seconds;
  }
}
const setBin = (bin) => setMoment(line.start_s[Math.max(0, Math.min(bin, bins - 1))], true);
function playFromHere() {
  if (playable) {
    setMoment(state.moment, true);
    video.play().catch(() => {});
  } else if (momentUrl(source, 0)) {
    open(momentUrl(source, state.moment), "_blank", "noopener,noreferrer");
  }
}
function offerPlay() {
  if (!play) return;
  play.hidden = !playable && !momentUrl(source, 0);
  play.textContent = playable ? "Play from here" : source && source.link ? `Watch from here on ${source.link.site} ↗` : "";
}
function timeUnder(event, name) {
  const box = $(`plot-${name}`).getBoundingClientRect();
  const place = (event.clientX - box.left - LEFT) / (plots[name].width - LEFT - RIGHT);
  return range[0] + Math.max(0, Math.min(1, place)) * (range[1] - range[0]);
}
function listenToTimeline() {
  slider.addEventListener("input", () => setBin(binAt(+slider.value)));
  slider.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const bin = binAt(state.moment), page = Math.max(1, Math.round(bins / 20));
    const steps = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: page, PageDown: -page };
    if (event.key in steps) setBin(bin + steps[event.key]);
    else if (event.key === "Home") setBin(binAt(range[0]));
    else if (event.key === "End") setBin(range[1] >= last ? bins - 1 : binAt(range[1]));
    else if (event.key === "Enter") playFromHere();
    else return;
    event.preventDefault();
  });
  play.addEventListener("click", playFromHere);
  $("whole").addEventListener("click", () => setRange(first, last));
  const box = $("plot-timeline");
  box.chartEvents = {
    click: (found) => setBin(found.index),
    zoom: (from, to) => setRange(from, to),
    reset: () => setRange(first, last),
  };
  if (figures.people) $("plot-people").chartEvents = { click: (found, event) => {
    const [start, end] = found.trace.customdata[found.index];
    setMoment(Math.max(start, Math.min(timeUnder(event, "people"), end)), true);
  } };
}

// ---- The player

function follow() {
  if (video.paused || video.ended) return;
  setMoment(video.currentTime + source.offset, false);
  if (!calm.matches) requestAnimationFrame(follow);
}
function addCaptions() {
  // Cues are made here rather than loaded: a page opened from a file may not load a file beside it as a track.
  const track = video.addTextTrack("captions", "Counts", "en");
  let from = 0;
  const words = (i) => line.people[i] == null ? "" : countWords(i) + (genderParts(i).length ? ": " + genderParts(i).join(", ") : "");
  for (let i = 1; i <= bins; i++) {
    if (i < bins && words(i) === words(from)) continue;
    const start = line.start_s[from] - source.offset, end = line.end_s[i - 1] - source.offset;
    if (words(from) && end > 0) track.addCue(new VTTCue(Math.max(0, start), end, words(from)));
    from = i;
  }
  track.mode = "disabled";
}
function unplayable(from, where) {
  const note = $("fallback");
  note.hidden = false;
  note.textContent = "The video could not be loaded; it may have been moved. ";
  const url = momentUrl(from, state.moment);
  if (url) {
    const link = document.createElement("a");
    link.href = url;
    link.target = "_blank";
    link.rel = "noopener noreferrer";
    link.textContent = `Watch it on ${from.link.site} ↗`;
    note.append(link);
  }
  where.hidden = true;
}
function listenToPlayer() {
  const failed = () => {
    if (!playable) return;
    playable = false;
    unplayable(source, $("player"));
    offerPlay();
  };
  video.addEventListener("error", failed);
  if (video.error) failed();      // before we listened
  video.addEventListener("play", follow);
  for (const name of ["seeked", "timeupdate"]) {
    video.addEventListener(name, () => {
      // The player rounds down: a seek to the start of a bin must not show the bin before.
      if (playable && Math.abs(video.currentTime + source.offset - state.moment) > 0.05) setMoment(video.currentTime + source.offset, false);
    });
  }
  if (line) addCaptions();
}
let showing = null;
function openFloating(run, seconds) {
  const from = data.videos[run], box = $("floating");
  box.hidden = false;
  video.hidden = false;
  $("fallback").hidden = true;
  $("floating-title").textContent = `${from.title}, ${clock(seconds)}`;
  const at = Math.max(0, seconds - from.offset);
  state.moment = seconds;
  if (showing !== run) {
    showing = run;
    video.src = `${from.media}#t=${at}`;
  } else video.currentTime = at;
  video.play().catch(() => {});
  $("floating-title").focus({ preventScroll: true });
}
function listenToFloating() {
  let back = null;
  const close = () => {
    video.pause();
    $("floating").hidden = true;
    if (back) back.focus({ preventScroll: true });
  };
  $("floating-close").addEventListener("click", close);
  $("floating").addEventListener("keydown", (event) => { if (event.key === "Escape") close(); });
  video.addEventListener("error", () => { if (showing) unplayable(data.videos[showing], video); showing = null; });
  return (run, seconds, from) => { back = from; openFloating(run, seconds); };
}
function listenToMoments(openPlayer) {
  document.addEventListener("click", (event) => {
    const target = event.target.closest(".moment");
    if (!target || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const seconds = +target.dataset.s, from = data.videos[target.dataset.run];
    if (!single) {
      if (!from || !from.media) return;
      event.preventDefault();
      openPlayer(target.dataset.run, seconds, target);
      return;
    }
    setMoment(seconds, true);
    if (playable || target.tagName === "BUTTON") event.preventDefault();
    else if (from && from.media) {
      event.preventDefault();
      if (momentUrl(from, 0)) open(momentUrl(from, seconds), "_blank", "noopener,noreferrer");
    }
    if (target.closest(".figure") && $("time")) $("time").scrollIntoView({ block: "start" });
  });
}

// ---- People

if (data.pyramid && data.pyramid.length) figures.pyramid = (width) => {
  const bands = [...data.bands, "unknown"], measure = state.pyramidOf === "time" ? "on_screen_s" : "people";
  const cell = (gender, band) => data.pyramid.find((c) => c.gender === gender && c.band === band) || { people: 0, on_screen_s: 0 };
  const of = (gender) => bands.map((band) => cell(gender, band));
  const words = (c) => c.people == null || c[measure] == null ? data.suppressed : measure === "people" ? number(c.people) : c.on_screen_s ? clock(c.on_screen_s) : "0";
  // All three columns have one scale, so the third is as wide as its longest bar needs.
  const longest = (genders) => Math.max(0, ...genders.flatMap(of).map((c) => c[measure] || 0));
  const sides = longest(["female", "male"]), third = longest(["unknown"]);
  const gap = 62 / (width - 16), apart = 0.04;
  const last = Math.min(0.42, Math.max(0.17, third / (2 * sides + third || 1)));
  const wide = (1 - gap - apart - last) / 2, from = wide * 2 + gap;
  const domains = { female: [0, wide], male: [wide + gap, from], unknown: [from + apart, 1] };
  const titles = { female: "female", male: "male", unknown: "unknown" };
  const traces = [], annotations = [];
  ["female", "male", "unknown"].forEach((gender, i) => {
    const all = of(gender), ks = bands.map((_, k) => k).filter((k) => all[k][measure]), cells = ks.map((k) => all[k]);
    traces.push({
      type: "bar", orientation: "h", xaxis: `x${i ? i + 1 : ""}`, width: 0.78, marker: genderMarker(gender),
      x: cells.map((c) => c[measure]), y: ks,
      text: cells.map((c, i) => [`${gender === "unknown" ? "gender unknown" : titles[gender]}, ${bands[ks[i]] === "unknown" ? "age unknown" : bands[ks[i]]}`,
        c.people == null ? data.suppressed : data.images ? peopleWords(c.people) : `${peopleWords(c.people)}, ${c.on_screen_s == null ? "time " + data.suppressed : clock(c.on_screen_s) + " on screen"}`]),
    });
    const left = gender === "female";
    all.forEach((c, k) => {
      if (words(c) === "0") return;
      annotations.push({ xref: `x${i ? i + 1 : ""}`, yref: "y", x: c[measure] || 0, y: k, text: words(c), xanchor: left ? "right" : "left",
        xshift: left ? -4 : 4, font: { size: c.people == null ? 11 : 12, color: c.people == null ? colors.soft : colors.ink } });
    });
    const [start, end] = domains[gender];
    const ends = left || (gender === "unknown" && (end - start) * width < 90);      // a narrow column's title would be cut off
    annotations.push({ xref: "paper", yref: "paper", x: ends ? end : start, y: 1, yanchor: "bottom", xanchor: ends ? "right" : "left", text: titles[gender], bold: true, font: { color: colors.ink, size: 13 } });
  });
  bands.forEach((band, k) => annotations.push({ xref: "paper", x: wide + gap / 2, y: k, xanchor: "center", text: band, font: { color: colors.soft, size: 12 } }));
  // Space for the figure after the longest bar.
  const room = (part) => 1 / Math.max(0.4, 1 - (measure === "time" ? 50 : 30) / (part * width));
  const top = Math.max(sides * room(wide), third * room(last) * wide / last, 1e-9);
  const side = { showticklabels: false, showline: false };
  return { traces, layout: layoutOf({
    height: 346, margin: { l: 8, r: 8, t: 26, b: 8 }, annotations,
    xaxis: axis({ domain: domains.female, range: [top, 0], ...side }),
    xaxis2: axis({ domain: domains.male, range: [0, top], ...side }),
    xaxis3: axis({ domain: domains.unknown, range: [0, top * last / wide], ...side }),
    yaxis: axis({ range: [-0.5, bands.length - 0.5], showticklabels: false }),
    shapes: ["female", "male", "unknown"].map((g) => ({ type: "line", xref: "paper", yref: "paper", x0: domains[g][g === "female" ? 1 : 0], x1: domains[g][g === "female" ? 1 : 0], y0: 0, y1: 1, line: { color: colors.line, width: 1 } })),
  }) };
};

function errorBars(points, color) {
  return {
    color: color, thickness: 2,
    array: points.map((p) => p.high == null ? 0 : Math.max(0, p.high - p.value)),
    arrayminus: points.map((p) => p.low == null ? 0 : Math.max(0, p.value - p.low)),
  };
}
if (data.shares && data.shares.length) figures.shares = (width) => {
  const rows = data.shares.map((s) => ({ ...s, ...s[state.sharesOf] })).filter((s) => s.value != null);
  const bands = data.bands.length, step = 1;
  let y = 0;
  const places = rows.map((row, i) => {
    if (i && rows[i - 1].dimension !== row.dimension) y += 0.7;
    y += step;
    return y;
  });
  const color = (row) => row.dimension === "gender" ? colors[row.group] || colors.any : ageColor(Math.max(0, data.bands.indexOf(row.group)), bands);
  const symbols = { female: "circle", male: "square" };
  const traces = rows.map((row, i) => ({
    type: "points", mode: "markers", x: [row.value], y: [places[i]], error_x: errorBars([row], colors.soft),
    marker: { size: 13, color: color(row), symbol: row.dimension === "gender" ? symbols[row.group] : "diamond", line: { width: 1.5, color: colors.ink } },
    text: [[`${row.group}  ${row.text}`, ...(row.span ? [`95 % interval ${row.span}`] : []), ...(row.estimated == null ? [] : [`${number(row.estimated)} with estimates`])]],
  }));
  return { traces, layout: layoutOf({
    height: 60 + 26 * (y + 0.5), margin: { l: 62, r: 52, t: 6, b: 26 },
    xaxis: axis({ range: [-0.015, 1.015], showgrid: true, ...ticks(0, 1, "share", width < 420 ? 3 : 5) }),
    yaxis: axis({ range: [y + 0.7, 0.3], tickmode: "array", tickvals: places, ticktext: rows.map((r) => r.group), tickfont: { color: colors.ink, size: 13 } }),
    annotations: rows.map((row, i) => ({ xref: "paper", x: 1, xanchor: "left", xshift: 8, y: places[i], text: row.text, font: { color: colors.ink, size: 13 } })),
  }) };
};

if (data.concurrent && data.concurrent.length) figures.concurrent = (width) => {
  const rows = data.concurrent, most = Math.max(...rows.map((r) => r.share || 0)), span = rows[rows.length - 1].people - rows[0].people;
  const every = Math.ceil((span + 1) / Math.max(4, width / 34));
  // As many labels as fit without touching, the largest first.
  const apart = (n) => (7 * Math.max(...rows.map((r) => r.text.length)) + 10) * (span + 1.2) / (width - LEFT - 12) <= Math.abs(n);
  const labels = [];
  for (const row of [...rows].sort((a, b) => (b.share || 0) - (a.share || 0))) {
    if (labels.every((other) => apart(row.people - other.people))) labels.push(row);
  }
  const end = rows[rows.length - 1].people;
  const ends = rows.map((r) => r.people).filter((n) => n === end || (n % every === 0 && end - n >= every));
  return { traces: [{
    type: "bar", x: rows.map((r) => r.people), y: rows.map((r) => r.share), marker: { color: rows.map((r) => r.people ? colors.any : colors.unknown) },
    text: rows.map((r) => [r.people ? peopleWords(r.people) : "nobody", `${r.text} of the ${data.images ? "images" : "time"}, ${r.time}`]),
  }], layout: layoutOf({
    height: 270, margin: { l: LEFT + 4, r: 8, t: 22, b: 42 },
    xaxis: axis({ range: [rows[0].people - Math.max(0.6, (5 - span) / 2), rows[rows.length - 1].people + Math.max(0.6, (5 - span) / 2)],
      tickmode: "array", tickvals: ends, title: { text: data.images ? "people per image" : "concurrent people", font: { size: 12, color: colors.soft } } }),
    yaxis: axis({ range: [0, most * 1.05], showgrid: true, ...ticks(0, most, "share", 4) }),
    annotations: labels.map((r) => ({ x: r.people, y: r.share, yanchor: "bottom", yshift: 2, text: r.text, font: { color: colors.ink } })),
  }) };
};

// ---- Videos, groups, trend, audience

const intervals = (points) => points.some((p) => p.low != null && p.high != null && p.low !== p.high);
function upper(points, unit) {
  const most = Math.max(1e-9, ...points.map((p) => Math.max(p.value, p.high == null ? p.value : p.high)));
  return unit === "share" && most > 0.8 ? 1 : most;
}
function bars(chart, width, color) {
  const points = chart.points, most = upper(points, chart.unit), left = Math.min(260, Math.round(width * 0.42));
  const letters = Math.floor((left - 12) / 6.3), y = points.map((_, i) => i);
  const text = points.map((p) => [short(p.label, 80), `${chart.words}: ${p.text}`]);
  const dots = chart.unit === "share" && intervals(points), ranged = !dots && intervals(points);
  const trace = dots
    ? { type: "points", mode: "markers", error_x: errorBars(points, colors.soft), marker: { size: 11, color: color, line: { width: 1.5, color: colors.ink } } }
    : { type: "bar", orientation: "h", marker: { color: ranged ? colors["any-fill"] : color }, ...(ranged ? { error_x: errorBars(points, colors.ink) } : {}) };
  const values = dots ? [] : points.map((p, i) => ({ x: p.high == null ? p.value : Math.max(p.value, p.high), y: i, xanchor: "left", xshift: 5, text: p.text, font: { color: colors.ink } }));
  return { traces: [{ ...trace, x: points.map((p) => p.value), y, text }], layout: layoutOf({
    height: points.length * 26 + 44, margin: { l: left, r: dots ? 22 : 12 + 7 * Math.max(...values.map((v) => v.text.length)), t: 4, b: 28 },
    xaxis: axis({ range: [dots ? -0.01 * most : 0, most * 1.02], showgrid: true, ...ticks(0, most, chart.unit, width < 460 ? 3 : 6) }),
    yaxis: axis({ range: [points.length - 0.4, -0.6], tickmode: "array", tickvals: y, ticktext: points.map((p) => short(p.label, letters)), tickfont: { color: colors.ink } }),
    annotations: values,
  }) };
}
function points(chart, width, color) {
  const rows = chart.points, x = rows.map((_, i) => i);
  // Changes are looked for here, so the axis need not begin at 0; it says where it does.
  let high = Math.max(...rows.map((p) => p.high == null ? p.value : Math.max(p.high, p.value)));
  let low = Math.min(...rows.map((p) => p.low == null ? p.value : Math.min(p.low, p.value)));
  const pad = Math.max((high - low) * 0.15, chart.unit === "share" ? 0.02 : high * 0.02, 1e-9);
  low = Math.max(0, low - pad);
  high = chart.unit === "share" ? Math.min(1, high + pad) : high + pad;
  const every = Math.max(1, Math.ceil(rows.length / (width / 86)));
  const marked = (p) => p.exceeds === true;
  return { traces: [{
    type: "points", mode: "lines+markers", x, y: rows.map((p) => p.value), error_y: errorBars(rows, colors.soft),
    line: { color: color, width: 2 },
    marker: { size: rows.map((p) => marked(p) ? 14 : 10), symbol: rows.map((p) => marked(p) ? "diamond" : "circle"), color: color, line: { width: 1.5, color: colors.ink } },
    text: rows.map((p) => [short(p.label, 60), `${chart.words}: ${p.text}`, ...(marked(p) ? ["changed more than chance"] : [])]),
  }], layout: layoutOf({
    height: 280, margin: { l: 52, r: 16, t: 12, b: 32 },
    xaxis: axis({ range: [-0.5, rows.length - 0.5], tickmode: "array", tickvals: x.filter((i) => i % every === 0), ticktext: rows.filter((_, i) => i % every === 0).map((p) => short(p.label, 14)) }),
    yaxis: axis({ range: [low - (high - low) * 0.02, low + (high - low) * 1.03], showgrid: true, ...ticks(low, high, chart.unit, 5) }),
  }) };
}
const figureColor = (name) => name.startsWith("female") ? colors.female : colors.any;
function chosen(charts, name) {
  return charts.find((chart) => chart.figure === name) || charts[0];
}
if (data.top && data.top.length) figures.top = (width) => {
  const chart = chosen(data.top, state.top);
  return bars(chart, width, figureColor(chart.figure));
};
if (data.groups && data.groups.charts.length) figures.groups = (width) => {
  const chart = chosen(data.groups.charts, state.groups);
  const cut = { ...chart, points: data.groups.timely ? chart.points : chart.points.slice(0, 40) };
  return (data.groups.timely ? points : bars)(cut, width, figureColor(chart.figure));
};
if (data.trend && data.trend.some((chart) => chart.points.length)) figures.trend = (width) => {
  const chart = chosen(data.trend, state.trend);
  for (const body of document.querySelectorAll("tbody[data-trend]")) body.hidden = !state.printing && body.dataset.trend !== chart.figure;
  return points(chart, width, figureColor(chart.figure));
};
if (data.audience && data.audience.length) figures.audience = (width) => {
  const rows = data.audience.filter((r) => r.on_screen_share != null || r.audience_share != null), y = rows.map((_, i) => i);
  legend("legend-audience", [{ words: "on screen, with 95 % interval", color: colors.any }, { words: "audience", color: colors.audience, sign: "diamond" }]);
  const text = rows.map((r) => [r.group, `on screen ${r.on_screen || "not known"}` + (r.span ? ` (${r.span})` : ""),
    `audience ${r.audience || "not known"}`, ...(r.difference_text ? [`difference ${r.difference_text}`] : [])]);
  const on = rows.map((r) => ({ value: r.on_screen_share, low: r.on_screen_low, high: r.on_screen_high }));
  const most = upper([...on, ...rows.map((r) => ({ value: r.audience_share || 0 }))], "share");
  return { traces: [
    { type: "points", mode: "markers", x: on.map((p) => p.value), y: y.map((v) => v - 0.12), text, error_x: errorBars(on, colors.soft), marker: { size: 11, color: colors.any, line: { width: 1.5, color: colors.ink } } },
    { type: "points", mode: "markers", x: rows.map((r) => r.audience_share), y: y.map((v) => v + 0.16), text, marker: { size: 11, symbol: "diamond", color: colors.audience, line: { width: 1.5, color: colors.ink } } },
  ], layout: layoutOf({
    height: rows.length * 36 + 40, margin: { l: 62, r: 16, t: 4, b: 28 },
    xaxis: axis({ range: [-0.012, most * 1.015], showgrid: true, ...ticks(0, most, "share", width < 460 ? 3 : 6) }),
    yaxis: axis({ range: [rows.length - 0.4, -0.6], tickmode: "array", tickvals: y, ticktext: rows.map((r) => r.group), tickfont: { color: colors.ink, size: 13 } }),
  }) };
};

// ---- Two groups side by side

function comparable() {
  const first = $("compare-first"), second = $("compare-second"), bodies = [...document.querySelectorAll("tbody[data-first]")];
  const show = () => {
    const pair = [first.value, second.value], none = pair[0] === pair[1];
    for (const body of bodies) body.hidden = !state.printing && !(pair.includes(body.dataset.first) && pair.includes(body.dataset.second) && !none);
    $("compare-none").hidden = !none;
  };
  for (const box of [first, second]) box.addEventListener("change", show);
  show();
}

// ---- Tables

function sortable(table) {
  const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector(".sort").addEventListener("click", () => {
    const words = column === 0;
    const down = head.getAttribute("aria-sort") ? head.getAttribute("aria-sort") === "ascending" : !words;
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const keyed = [...body.rows].map((row) => [row.cells[column].dataset.v, row]);
    keyed.sort(([a], [b]) => {
      if (a === "" || b === "") return (a === "") - (b === "");     // what is not known comes last, either way
      const order = isNaN(a) || isNaN(b) ? a.localeCompare(b, undefined, { numeric: true }) : a - b;
      return down ? -order : order;
    });
    body.append(...keyed.map(([, row]) => row));
  }));
}
function filterable() {
  const find = $("find"), rows = [...$("table-videos").tBodies[0].rows], found = $("found"), all = found.textContent;
  const texts = rows.map((row) => [...row.cells].slice(0, 2).map((cell) => cell.textContent).join(" ").replace(/\s+/g, " ").toLowerCase());
  find.addEventListener("input", () => {
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean).join(" ");
    let count = 0;
    rows.forEach((row, i) => {
      row.hidden = !texts[i].includes(words);
      count += !row.hidden;
    });
    find.closest(".card")?.querySelector(".scroll")?.scrollTo(0, 0);
    found.textContent = words ? `${number(count)} of ${number(rows.length)} ${found.dataset.noun}` : all;
  });
}

// ---- Controls, theme, print

function listenToChoices() {
  const redraw = { timelineBy: "timeline", pyramidOf: "pyramid", sharesOf: "shares", top: "top", groups: "groups", trend: "trend" };
  document.addEventListener("click", (event) => {
    const button = event.target.closest(".seg button");
    if (!button) return;
    state[button.dataset.set] = button.dataset.value;
    for (const other of button.parentNode.children) other.setAttribute("aria-pressed", String(other === button));
    draw(redraw[button.dataset.set]);
    showMoment();
  });
  for (const select of document.querySelectorAll("select[data-set]")) {
    state[select.dataset.set] = select.value;
    select.addEventListener("change", () => {
      state[select.dataset.set] = select.value;
      draw(redraw[select.dataset.set]);
    });
  }
}
const dark = matchMedia("(prefers-color-scheme: dark)");
function isDark() {
  return root.dataset.theme ? root.dataset.theme === "dark" : dark.matches;
}
function nameTheme() {
  $("theme").textContent = isDark() ? "Light" : "Dark";
  $("theme").setAttribute("aria-label", isDark() ? "Light colors" : "Dark colors");
}
function listenToTheme() {
  nameTheme();
  $("theme").addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    nameTheme();
    drawAll();
  });
  dark.addEventListener("change", () => { nameTheme(); drawAll(); });
}
let before = null;
function startPrint() {
  if (before) return;
  before = { theme: root.dataset.theme, closed: [...document.querySelectorAll("details:not([open])")] };
  root.dataset.theme = "light";
  // Long tables would make many pages: they stay closed.
  for (const box of before.closed) if (box.querySelectorAll("tr").length <= 60) box.open = true;
  state.printing = true;
  drawAll();
}
function endPrint() {
  if (!before) return;
  if (before.theme) root.dataset.theme = before.theme; else delete root.dataset.theme;
  for (const box of before.closed) box.open = false;
  before = null;
  state.printing = false;
  drawAll();
}
function listenToPrint() {
  addEventListener("beforeprint", startPrint);
  addEventListener("afterprint", endPrint);
  matchMedia("print").addEventListener("change", (event) => event.matches ? startPrint() : endPrint());
}
function listenToWidth() {
  let waiting = false;
  const redraw = () => {
    waiting = false;
    if (state.printing) return;
    for (const name of Object.keys(plots)) if (widthOf(name) !== plots[name].width) draw(name);
    showMoment();
  };
  new ResizeObserver(() => {
    if (!waiting) requestAnimationFrame(redraw);
    waiting = true;
  }).observe($("main"));
}

listenToChoices();
listenToTheme();
drawAll();
if (line) listenToTimeline();
if (playable) listenToPlayer();
offerPlay();
listenToMoments(single || !video ? null : listenToFloating());
for (const table of document.querySelectorAll("table.sortable")) sortable(table);
if ($("find")) filterable();
if ($("compare-first")) comparable();
listenToPrint();
listenToWidth();
if (line) setMoment(first, false);
root.dataset.ready = "yes";
})();
