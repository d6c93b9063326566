// The page of live cameras: frames go to the server one at a time, faces come back and are drawn.

import { clock, element, say, sentence } from "./common.mjs";

const by = (id) => document.getElementById(id);
const [video, frame, boxes] = [by("video"), by("frame"), by("boxes")];
const grabbed = document.createElement("canvas");

const HISTORY_S = 300;
const HEARTBEAT_MS = 10000;
/** Widths of the frames that are sent; narrower ones while answers are late. */
const WIDTHS = [640, 480, 320];
const LATE_MS = 300;
const GENDERS = ["female", "male", "unknown"];
const LABEL_PX = 13;

let socket = null;
let stream = null;
let sentAt = null;
let width = 0;
let history = [];
let latencies = [];
let answers = [];
let running = false;
let heartbeat = 0;

function fail(words) {
  by("error").textContent = sentence(words);
  by("error").hidden = false;
  stop();
}

function color(gender) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${gender}`).trim();
}

/** Which camera was chosen: an empty name is the visitor's. */
function chosen() {
  return by("source").value;
}

async function start() {
  by("error").hidden = true;
  by("recorded").hidden = true;
  running = true;
  [history, latencies, answers, width, sentAt] = [[], [], [], 0, null];
  by("start").textContent = "Stop";
  by("source").disabled = true;
  by("hint").textContent = "Starting…";
  say("Starting the camera");
  if (!chosen()) {
    if (!navigator.mediaDevices?.getUserMedia) {
      fail("Browsers give pages a camera over HTTPS or on this machine only: docs/web.md explains how to serve with TLS");
      return;
    }
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1280 }, height: { ideal: 720 } }, audio: false });
    } catch (error) {
      fail(error.name === "NotAllowedError" ? "The browser does not give this page the camera: allow it in the address bar" : "No camera can be opened");
      return;
    }
    if (!running) { release(); return; }
    video.srcObject = stream;
    await video.play();
    video.hidden = false;
    by("hint").textContent = "Loading the models…";
  }
  connect();
}

function connect() {
  const query = chosen() ? `?camera=${encodeURIComponent(chosen())}` : "";
  socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/api/live${query}`);
  socket.binaryType = "arraybuffer";
  const mine = socket;
  socket.onmessage = (event) => {
    if (mine !== socket) return;
    if (typeof event.data === "string") heard(JSON.parse(event.data));
    else shown(event.data);
  };
  socket.onclose = () => { if (mine === socket && running) fail("The connection has ended: press Start to begin again"); };
  heartbeat = setInterval(() => { if (chosen() && mine.readyState === WebSocket.OPEN) mine.send('{"type":"shown"}'); }, HEARTBEAT_MS);
}

function heard(message) {
  if (message.type === "ready") {
    by("hint").hidden = true;
    by("record").disabled = false;
    say("The camera is being analyzed");
    if (!chosen()) capture();
  } else if (message.type === "faces") {
    latencies = [...latencies.slice(-20), performance.now() - sentAt];
    found(message);
    setTimeout(capture, 0);
  } else if (message.type === "dropped") {
    setTimeout(capture, 200);
  } else if (message.type === "recording") {
    by("record").setAttribute("aria-pressed", message.on);
    by("record").textContent = message.on ? "Stop recording" : "Record";
    by("record").disabled = false;
    say(message.on ? "Recording" : "The recording has ended");
  } else if (message.type === "recorded") {
    by("recorded").replaceChildren("Recorded: ", element("a", { href: `/runs/${message.run}` }, message.title), ".");
    by("recorded").hidden = false;
  } else if (message.type === "error") {
    if (message.error.startsWith("nothing was recorded")) {
      by("error").textContent = sentence(message.error);
      by("error").hidden = false;
    } else fail(message.error);
  }
}

/** Send the newest frame of the visitor's camera. */
function capture() {
  if (!running || socket?.readyState !== WebSocket.OPEN) return;
  if (!video.videoWidth) { setTimeout(capture, 50); return; }
  const late = latencies.length >= 10 && median(latencies) > LATE_MS;
  if (late && width < WIDTHS.length - 1) { width += 1; latencies = []; }
  const scale = Math.min(1, WIDTHS[width] / video.videoWidth);
  grabbed.width = Math.round(video.videoWidth * scale);
  grabbed.height = Math.round(video.videoHeight * scale);
  sentAt = performance.now();
  grabbed.getContext("2d").drawImage(video, 0, 0, grabbed.width, grabbed.height);
  const mine = socket;
  grabbed.toBlob((blob) => { if (blob && mine === socket && mine.readyState === WebSocket.OPEN) mine.send(blob); }, "image/jpeg", 0.8);
}

/** Show a frame of the server's camera: 4 bytes of length, JSON, JPEG. */
async function shown(data) {
  const length = new DataView(data).getUint32(0);
  const message = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
  const picture = await createImageBitmap(new Blob([new Uint8Array(data, 4 + length)], { type: "image/jpeg" })).catch(() => null);
  if (!running) return;
  if (picture) {
    [frame.width, frame.height] = [picture.width, picture.height];
    frame.getContext("2d").drawImage(picture, 0, 0);
    frame.hidden = false;
    picture.close();
  }
  found(message);
  if (socket?.readyState === WebSocket.OPEN) socket.send('{"type":"shown"}');
}

function median(values) {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
}

function found(message) {
  const now = performance.now();
  answers = [...answers.filter((time) => time > now - 3000), now];
  draw(message);
  const counts = { female: 0, male: 0, unknown: 0 };
  for (const face of message.faces) counts[face.gender] += 1;
  history.push({ time: now / 1000, ...counts });
  while (history[0].time < now / 1000 - HISTORY_S) history.shift();
  by("now").textContent = message.faces.length;
  const people = message.people;
  by("total").textContent = people.female + people.male + people.unknown;
  by("split").textContent = GENDERS.filter((gender) => people[gender]).map((gender) => `${people[gender]} ${gender}`).join(" · ");
  const each = latencies.length ? ` · ${Math.round(median(latencies))} ms from camera to boxes` : "";
  by("state").textContent = `${(answers.length / Math.min(3, Math.max(0.1, (now - answers[0]) / 1000 + 0.001))).toFixed(1)} frames a second${each}`;
  const rows = message.faces.map((face) => element("tr", {}, element("th", { scope: "row" }, `${face.person + 1}`), element("td", {}, face.gender), element("td", {}, face.age === null ? "–" : `about ${face.age}`)));
  document.querySelector("#faces tbody").replaceChildren(...rows);
  chart();
}

function caption(face) {
  return `#${face.person + 1} ${face.text}`;
}

function draw(message) {
  by("screen").style.aspectRatio = `${message.width} / ${message.height}`;
  const unit = message.width / Math.max(1, by("screen").clientWidth); // a CSS pixel, in those of the frame
  const ratio = (window.devicePixelRatio || 1) / unit;
  boxes.width = Math.round(message.width * ratio);
  boxes.height = Math.round(message.height * ratio);
  const context = boxes.getContext("2d");
  context.scale(ratio, ratio);
  context.font = `600 ${LABEL_PX * unit}px sans-serif`;
  context.textBaseline = "bottom";
  for (const face of message.faces) {
    const [x1, y1, x2, y2] = face.box;
    context.setLineDash([]);
    context.lineWidth = 4 * unit;
    context.strokeStyle = "rgb(0 0 0 / 0.6)";
    context.strokeRect(x1, y1, x2 - x1, y2 - y1);
    context.lineWidth = 2 * unit;
    context.strokeStyle = color(face.gender);
    context.setLineDash(face.gender === "male" ? [7 * unit, 4 * unit] : []);
    context.strokeRect(x1, y1, x2 - x1, y2 - y1);
    const words = caption(face);
    const wide = context.measureText(words).width + 8 * unit;
    const left = Math.max(0, Math.min(x1 - unit, message.width - wide));
    const bottom = y1 > 22 * unit ? y1 - 2 * unit : Math.min(message.height, y2 + 22 * unit);
    context.fillStyle = "rgb(0 0 0 / 0.75)";
    context.fillRect(left, bottom - 20 * unit, wide, 20 * unit);
    context.fillStyle = "#fff";
    context.fillText(words, left + 4 * unit, bottom - 2 * unit);
  }
  boxes.setAttribute("aria-label", message.faces.length ? `Faces: ${message.faces.map(caption).join("; ")}` : "No faces");
}

/** Faces on screen in each second so far: stacked columns. */
function chart() {
  const first = history[0].time;
  const last = history.at(-1).time;
  const span = Math.max(30, last - first);
  const steps = Math.min(100, Math.ceil(span));
  const columns = Array.from({ length: steps }, () => ({ samples: 0, female: 0, male: 0, unknown: 0 }));
  for (const one of history) {
    const column = columns[Math.min(steps - 1, Math.floor(((one.time - last + span) / span) * steps))];
    column.samples += 1;
    for (const gender of GENDERS) column[gender] += one[gender];
  }
  const means = [];
  for (const one of columns) {
    const before = means.at(-1) ?? { female: 0, male: 0, unknown: 0 }; // what was seen last holds until the next answer
    means.push(one.samples ? Object.fromEntries(GENDERS.map((gender) => [gender, one[gender] / one.samples])) : before);
  }
  const top = Math.max(2, ...means.map((one) => one.female + one.male + one.unknown));
  const svg = by("chart");
  const step = 600 / steps;
  const bars = [];
  means.forEach((one, index) => {
    let y = 160;
    for (const gender of GENDERS) {
      if (!one[gender]) continue;
      const height = (one[gender] / top) * 150;
      y -= height;
      const bar = document.createElementNS("http://www.w3.org/2000/svg", "rect");
      for (const [name, value] of Object.entries({ class: gender, x: index * step, y, width: Math.max(0.5, step - 1), height })) bar.setAttribute(name, value);
      bars.push(bar);
    }
  });
  svg.replaceChildren(...bars);
  by("from").textContent = `${clock(span)} ago`;
  const now = means.at(-1);
  svg.setAttribute("aria-label", `Faces on screen in the last ${clock(span)}; now ${GENDERS.map((gender) => `${Math.round(now[gender])} ${gender}`).join(", ")}`);
}

function release() {
  stream?.getTracks().forEach((track) => track.stop());
  stream = null;
  video.srcObject = null;
}

function stop() {
  running = false;
  clearInterval(heartbeat);
  const mine = socket;
  socket = null;
  mine?.close();
  release();
  video.hidden = true;
  frame.hidden = true;
  boxes.width = boxes.width;
  boxes.setAttribute("aria-label", "No faces");
  by("start").textContent = "Start";
  by("source").disabled = false;
  by("record").disabled = true;
  by("record").textContent = "Record";
  by("record").setAttribute("aria-pressed", "false");
  by("hint").hidden = false;
  by("hint").textContent = "Press Start to begin again.";
}

/** Stop; a recording is finished first, so that its link can be shown. */
function stopOrFinish() {
  if (by("record").getAttribute("aria-pressed") === "true") {
    by("record").click();
    return;
  }
  stop();
}

by("start").addEventListener("click", () => { if (running) stopOrFinish(); else start(); });
// A recording that has not begun would be lost, and one that is going on would end.
addEventListener("beforeunload", (event) => {
  if (running && by("record").textContent !== "Record") event.preventDefault();
});
by("record").addEventListener("click", () => {
  const on = by("record").getAttribute("aria-pressed") !== "true";
  by("record").disabled = true;
  by("record").textContent = on ? "Starting…" : "Finishing…";
  socket?.send(JSON.stringify({ type: "record", on }));
});
addEventListener("pagehide", () => { if (running) stop(); });
