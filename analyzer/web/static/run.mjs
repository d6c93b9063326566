// The page of a run: the player with its boxes, and who is on screen when, below it.

import { api, clock, element, say } from "./common.mjs";
import { Player, blurAreas, drawBoxes, genderColors } from "./player.mjs";

const $ = (id) => document.getElementById(id);
const root = $("run"), run = root.dataset.run;
const coarseStep = 5;

const typing = (target) => Boolean(target.closest("input:not([type=range]), select, textarea, dialog"));

/** With tenths below a minute, so that different times look different. */
export function time(seconds) {
  const tenths = Math.max(0, Math.round(seconds * 10));
  return seconds < 60 ? `${clock(Math.floor(tenths / 10))}.${tenths % 10}` : clock(seconds);
}

// ---- Who is on screen when

function lanes(view, seek) {
  const box = $("lanes"), length = Math.max(view.end_s - view.start_s, 1e-3);
  const at = (seconds) => 100 * (seconds - view.start_s) / length;
  const rows = view.people.map((person) => {
    const track = element("div", { class: "track" });
    for (const [start, end] of person.spans) {
      const bar = element("i", { class: person.gender });
      bar.style.left = `${at(start)}%`;
      bar.style.width = `${at(end) - at(start)}%`;
      track.append(bar);
    }
    const row = element("div", { class: "lane" }, element("span", { class: "who" }, person.label), track);
    row.dataset.person = person.person_id;
    return row;
  });
  const cursor = element("div", { class: "cursor" });
  box.replaceChildren(...rows, element("div", { class: "over-lanes" }, cursor));
  const over = box.querySelector(".over-lanes");
  let held = false;
  const under = (event) => {
    const { left, width } = over.getBoundingClientRect();
    return view.start_s + Math.min(1, Math.max(0, (event.clientX - left) / width)) * length;
  };
  over.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    held = true;
    over.setPointerCapture(event.pointerId);
    seek(under(event));
  });
  over.addEventListener("pointermove", (event) => { if (held) seek(under(event)); });
  for (const name of ["pointerup", "pointercancel"]) over.addEventListener(name, () => { held = false; });
  const shown = new Set();
  return (seconds) => {
    cursor.style.left = `${at(seconds)}%`;
    for (const [i, { spans }] of view.people.entries()) {
      const here = spans.some(([start, end]) => start <= seconds + 1e-3 && seconds < end);
      if (here === shown.has(i)) continue;
      if (here) shown.add(i);
      else shown.delete(i);
      rows[i].classList.toggle("here", here);
    }
    return [...shown].map((i) => view.people[i]);
  };
}

function ticks(view) {
  const length = view.end_s - view.start_s, steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400];
  const step = steps.find((s) => length / s <= 8) || 86400;
  const marks = [];
  for (let s = Math.ceil(view.start_s / step) * step; s < view.end_s; s += step) {
    const mark = element("span", {}, clock(s));
    mark.style.left = `${100 * (s - view.start_s) / Math.max(length, 1e-3)}%`;
    marks.push(mark);
  }
  $("ticks").replaceChildren(...marks);
}

// ---- The player

function listen(player, view, show) {
  const slider = $("seek"), video = player.video, play = $("play");
  slider.min = view.start_s;
  slider.max = view.end_s;
  slider.step = "any";
  const moved = () => {
    const here = show(player.moment);
    slider.value = player.moment;
    $("now").textContent = `${clock(player.moment)} / ${clock(view.end_s)}`;
    slider.setAttribute("aria-valuetext", `${time(player.moment)}: ${here.map((person) => person.label).join(", ") || "nobody"}`);
  };
  player.addEventListener("moment", moved);
  moved();
  const state = () => {
    const words = video.paused ? "Play" : "Pause";
    play.setAttribute("aria-label", words);
    play.dataset.state = words.toLowerCase();
    $("mute").setAttribute("aria-pressed", video.muted);
  };
  player.addEventListener("state", state);
  state();
  play.addEventListener("click", () => player.toggle());
  $("frame").addEventListener("click", () => player.toggle());
  $("mute").addEventListener("click", () => { video.muted = !video.muted; });
  $("speed").addEventListener("change", (event) => { video.playbackRate = +event.target.value; });
  $("full").addEventListener("click", () => {
    if (document.fullscreenElement) document.exitFullscreen();
    else $("stage").requestFullscreen?.().catch(() => {});
  });
  slider.addEventListener("input", () => player.seek(+slider.value));
  const step = 1 / view.fps;
  const jump = (by) => player.seek(player.moment + by);
  const keys = {
    " ": () => player.toggle(), k: () => player.toggle(),
    ArrowRight: () => jump(coarseStep), ArrowLeft: () => jump(-coarseStep), ".": () => jump(step), ",": () => jump(-step),
    Home: () => player.seek(view.start_s), End: () => player.seek(view.end_s),
    b: () => mode(player, player.mode === "boxes" ? "off" : "boxes"), h: () => mode(player, player.mode === "blur" ? "boxes" : "blur"),
    f: () => $("full").click(), m: () => $("mute").click(),
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || typing(event.target)) return;
    const act = keys[event.key];
    const pressed = event.target.closest("button, a, summary");
    if (!act || (event.key === " " && pressed)) return;
    if ((event.key === "Home" || event.key === "End") && event.target !== slider) return;
    event.preventDefault();
    act();
  });
  for (const button of $("modes").querySelectorAll("button")) button.addEventListener("click", () => mode(player, button.dataset.mode));
}

function mode(player, name) {
  player.setMode(name);
  for (const button of $("modes").querySelectorAll("button")) button.setAttribute("aria-pressed", button.dataset.mode === name);
  say({ boxes: "Boxes are shown", off: "Boxes are off", blur: "Faces are blurred" }[name]);
}

/** Have something made on the server; resolves when it is there, and reports how far it is. */
async function made(path, onProgress) {
  let state = await api(path, { method: "POST" });
  while (state.state === "making") {
    onProgress(state.progress ?? 0);
    await new Promise((done) => setTimeout(done, 700));
    state = await api(path);
  }
  if (state.state !== "done") throw new Error(state.error || "It could not be made.");
}

const base = `/api/runs/${run}`, percent = (share) => `${Math.floor(100 * share)} %`;

function lost(sentence) {
  $("stage").hidden = true;
  $("preparing").hidden = true;
  $("gone").hidden = false;
  $("gone").textContent = `${sentence} Times and figures are below.`;
}

/** Find what the browser can play: the video, or a version of it that is made now. */
async function load(video) {
  try {
    const { src, playable, reason } = await api(`${base}/player`);
    if (src) video.src = src;
    else if (!playable && reason) lost(reason);
    else await convert(video);
  } catch (error) {
    lost(error.message);
  }
}

async function convert(video) {
  $("preparing").hidden = false;
  await made(`${base}/preview`, (share) => { $("preparing").textContent = `Browsers do not play this video as it is. A version that they play is being made: ${percent(share)}.`; });
  $("preparing").hidden = true;
  video.src = `${base}/preview.mp4`;
}

function openVideo(view) {
  const video = $("video");
  if (!video) return null;
  const player = new Player($("frame"), video, $("boxes"), run, view);
  video.addEventListener("error", () => {
    if (video.src.endsWith("/preview.mp4")) lost("The video cannot be played here.");
    else convert(video).catch((error) => lost(error.message));
  });
  load(video);
  return player;
}

for (const button of root.querySelectorAll("[data-make]")) {
  const path = `${base}/${button.dataset.make}`, words = button.textContent;
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      await made(path, (share) => { button.textContent = `${percent(share)} made`; });
      const address = path.replace("annotated", "annotated.mp4"), link = element("a", { href: `${address}${address.includes("?") ? "&" : "?"}download=1`, download: true }, "Download");
      button.replaceWith(link);
      link.focus();
      say("The annotated video is ready");
    } catch (error) {
      button.disabled = false;
      button.textContent = words;
      say(error.message);
      button.after(element("span", { class: "hint" }, error.message));
    }
  });
}

/** A moment from the address: #t=12.5 */
function wanted() {
  const found = /^#t=(\d+(\.\d+)?)$/.exec(location.hash);
  return found ? +found[1] : null;
}

// ---- Images

function drawImages(view) {
  const people = new Map(view.people.map((person) => [person.person_id, person])), colors = genderColors(root);
  let how = "boxes";
  const boxes = new Map(view.images.map((image) => [image.sample, image.boxes]));
  const paint = (figure) => {
    const image = figure.querySelector("img"), canvas = figure.querySelector("canvas"), density = devicePixelRatio || 1;
    if (!image.naturalWidth) return;
    const [w, h] = [Math.round(image.clientWidth * density), Math.round(image.clientHeight * density)];
    Object.assign(canvas, { width: w, height: h });
    const context = canvas.getContext("2d"), place = { left: 0, top: 0, width: w, height: h };
    const found = boxes.get(+figure.dataset.sample).map(([person, ...box]) => ({ person, box: box.map((v) => v / 10000) }));
    if (how === "blur") blurAreas(context, image, place, found.map(({ box: [x1, y1, x2, y2] }) => {
      const [dx, dy] = [(x2 - x1) * 0.25, (y2 - y1) * 0.25];
      return { box: [x1 - dx, y1 - dy, x2 + dx, y2 + dy] };
    }));
    else if (how === "boxes") drawBoxes(context, place, found, people, colors, density);
  };
  const figures = [...root.querySelectorAll("figure[data-sample]")];
  for (const figure of figures) {
    const image = figure.querySelector("img");
    if (image.complete) paint(figure);
    image.addEventListener("load", () => paint(figure));
    new ResizeObserver(() => paint(figure)).observe(image);
  }
  for (const button of $("modes").querySelectorAll("button")) {
    button.addEventListener("click", () => {
      how = button.dataset.mode;
      for (const other of $("modes").querySelectorAll("button")) other.setAttribute("aria-pressed", other === button);
      figures.forEach(paint);
    });
  }
}

// ---- Start

const view = await api(`/api/runs/${run}/view`);
if (view.kind === "images") drawImages(view);
else {
  let player = openVideo(view);
  const fallback = { moment: view.start_s };
  const show = lanes(view, (seconds) => {
    if (player && !$("stage").hidden) player.seek(seconds);
    else { fallback.moment = seconds; show(seconds); $("here").textContent = time(seconds); }
  });
  ticks(view);
  show(view.start_s);
  if (player) {
    listen(player, view, show);
    const first = wanted();
    if (first !== null) player.seek(first);
    addEventListener("hashchange", () => { const moment = wanted(); if (moment !== null) player.seek(moment); });
  }
  root.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-at]");
    if (!button || !player) return;
    player.seek(+button.dataset.at);
    $("stage").scrollIntoView({ block: "nearest" });
  });
  window.analyzerPlayer = player;      // for tests and the curious
}
root.dataset.ready = "";
