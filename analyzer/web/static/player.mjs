// A video with the boxes of the faces table drawn over it: shown, hidden, or the faces blurred.
//
// Boxes come as spans in which each moves at constant speed, the same that annotated videos draw. The times of
// the tables are those of a player; where a browser counts otherwise, `offset` is between them.

import { api } from "./common.mjs";

const CHUNK_S = 30, BOX_SCALE = 10000, ROUNDNESS = 0.4, KEPT = 20;
const GENDERS = ["female", "male", "unknown"];

export class Boxes {
  constructor(run) {
    this.run = run;
    this.chunks = new Map();
  }
  forget() { this.chunks.clear(); }

  #chunk(number, hidden) {
    const key = `${number} ${hidden}`;
    if (!this.chunks.has(key)) {
      const from = number * CHUNK_S;
      const chunk = { spans: null };
      chunk.ready = api(`/api/runs/${this.run}/boxes?start_s=${from}&end_s=${from + CHUNK_S}&hidden=${hidden}`)
        .then(({ spans }) => { chunk.spans = spans; }, () => { this.chunks.delete(key); });
      this.chunks.set(key, chunk);
      if (this.chunks.size > KEPT) this.chunks.delete(this.chunks.keys().next().value);
    }
    return this.chunks.get(key);
  }

  // The boxes at a moment: { person, box: [x1, y1, x2, y2] as shares of the frame }; null while they load.
  at(seconds, hidden = false) {
    const number = Math.max(0, Math.floor(seconds / CHUNK_S)), chunk = this.#chunk(number, hidden);
    if (seconds - number * CHUNK_S > CHUNK_S / 2) this.#chunk(number + 1, hidden);
    if (!chunk.spans) return null;
    const now = seconds + 1e-3, found = [];      // times are rounded to milliseconds
    for (const [begin, end, person, ...box] of chunk.spans) {
      if (begin > now || end <= now) continue;
      const way = Math.min(1, Math.max(0, (seconds - begin) / (end - begin)));
      const moving = box.length === 8;
      found.push({ person, box: [0, 1, 2, 3].map((i) => (moving ? box[i] + (box[i + 4] - box[i]) * way : box[i]) / BOX_SCALE) });
    }
    return found;
  }

  async load(seconds, hidden = false) {
    await this.#chunk(Math.max(0, Math.floor(seconds / CHUNK_S)), hidden).ready;
    return this.at(seconds, hidden);
  }
}

function outline(context, gender, x1, y1, x2, y2) {
  const w = x2 - x1, h = y2 - y1;
  context.beginPath();
  if (gender === 0) context.roundRect(x1, y1, w, h, Math.min(w, h) / 2 * ROUNDNESS);
  else if (gender === 1) context.rect(x1, y1, w, h);
  else {
    const dx = w / 3, dy = h / 3;
    for (const [x, sx] of [[x1, 1], [x2, -1]]) {
      for (const [y, sy] of [[y1, 1], [y2, -1]]) {
        context.moveTo(x + sx * dx, y);
        context.lineTo(x, y);
        context.lineTo(x, y + sy * dy);
      }
    }
  }
}

const overlaps = (a, b) => a[0] < b[2] && a[2] > b[0] && a[1] < b[3] && a[3] > b[1];

// Draws the boxes of people and uncounted faces on a canvas; `place` is where the frame lies on it.
export function drawBoxes(context, place, found, people, colors, scale) {
  const line = Math.max(2, Math.round(Math.min(place.width, place.height) / 330));
  const size = Math.max(11 * scale, Math.min(18 * scale, Math.min(place.width, place.height) * 0.035));
  const marks = found.map(({ person, box }) => {
    const [x1, y1, x2, y2] = box;
    return { person: people.get(person), at: [place.left + x1 * place.width, place.top + y1 * place.height, place.left + x2 * place.width, place.top + y2 * place.height] };
  });
  for (const { person, at } of marks) {
    const gender = person ? GENDERS.indexOf(person.gender) : -1;
    context.setLineDash(person ? [] : [6, 6]);
    context.lineJoin = "round";
    // A dark rim keeps bright lines visible on bright frames.
    for (const [color, width] of [["#101418", line + 2], [person ? colors[person.gender] : "#d8d8d8", person ? line : Math.max(1, line / 2)]]) {
      if (!person && width > line) continue;
      outline(context, person ? gender : 1, ...at);
      context.strokeStyle = color;
      context.lineWidth = width;
      context.stroke();
    }
  }
  context.setLineDash([]);
  context.textBaseline = "middle";
  const taken = marks.map(({ at }) => at), pad = size * 0.4, high = size * 1.45;
  for (const { person, at } of marks) {
    if (!person) continue;
    let done = false;
    for (const [words, points] of [[person.label, size], [person.short_label, size], [person.short_label, size * 0.75]]) {
      context.font = `600 ${points}px system-ui, sans-serif`;
      const wide = context.measureText(words).width + 2 * pad, tall = high * points / size;
      for (const [x, y] of [[at[0], at[1] - tall - 2], [at[0], at[3] + 2], [at[2] - wide, at[1] - tall - 2], [at[2] - wide, at[3] + 2]]) {
        const left = Math.min(Math.max(x, place.left), place.left + place.width - wide), spot = [left, y, left + wide, y + tall];
        if (spot[1] < place.top || spot[3] > place.top + place.height || taken.some((other) => overlaps(spot, other))) continue;
        context.fillStyle = colors[person.gender];
        context.beginPath();
        context.roundRect(left, y, wide, tall, points * 0.2);
        context.fill();
        context.fillStyle = person.gender === "male" ? "#ffffff" : "#000000";
        context.fillText(words, left + pad, y + tall / 2);
        taken.push(spot);
        done = true;
        break;
      }
      if (done) break;
    }
  }
}

export function blurAreas(context, source, place, found) {
  const [wide, high] = [source.videoWidth || source.naturalWidth, source.videoHeight || source.naturalHeight];
  const small = document.createElement("canvas");
  for (const { box } of found) {
    const [x1, y1, x2, y2] = box.map((v) => Math.min(1, Math.max(0, v)));
    if (x2 <= x1 || y2 <= y1) continue;
    // About four means across a face: too few for eyes and mouth, and not reversible.
    const longer = Math.max((x2 - x1) * wide, (y2 - y1) * high);
    small.width = Math.max(1, Math.round((x2 - x1) * wide / longer * 6));
    small.height = Math.max(1, Math.round((y2 - y1) * high / longer * 6));
    const one = small.getContext("2d");
    one.imageSmoothingQuality = "high";
    one.drawImage(source, x1 * wide, y1 * high, (x2 - x1) * wide, (y2 - y1) * high, 0, 0, small.width, small.height);
    const [left, top] = [place.left + box[0] * place.width, place.top + box[1] * place.height];
    const [w, h] = [(box[2] - box[0]) * place.width, (box[3] - box[1]) * place.height];
    context.save();
    context.beginPath();
    context.ellipse(left + w / 2, top + h / 2, w / 2, h / 2, 0, 0, 2 * Math.PI);
    context.clip();
    context.imageSmoothingEnabled = true;
    context.drawImage(small, place.left + x1 * place.width, place.top + y1 * place.height, (x2 - x1) * place.width, (y2 - y1) * place.height);
    context.restore();
  }
}

export function genderColors(element) {
  const style = getComputedStyle(element);
  return Object.fromEntries(GENDERS.map((gender) => [gender, style.getPropertyValue(`--${gender}`).trim()]));
}

export class Player extends EventTarget {
  // `view` is what /api/runs/{run}/view gives. Events: "moment" when the time changes, "state" when it plays or pauses.
  constructor(frame, video, canvas, run, view) {
    super();
    Object.assign(this, { frame, video, canvas, boxes: new Boxes(run), mode: "boxes", moment: view.start_s, offset: null });
    this.video = video;
    this.view = view;
    this.people = new Map(view.people.map((person) => [person.person_id, person]));
    this.colors = genderColors(frame);
    this.wanted = null;
    const follow = (_, { mediaTime }) => {
      // The first frame of the file, shown before anything was sought, is the first one of the tables.
      if (this.offset === null) {
        const apart = view.first_frame_s === null ? 0 : mediaTime - view.first_frame_s;
        this.offset = Math.abs(apart) < 0.01 ? 0 : apart;
        if (this.wanted !== null) this.seek(this.wanted);
      }
      this.#at(mediaTime);
      video.requestVideoFrameCallback(follow);
    };
    if ("requestVideoFrameCallback" in video) video.requestVideoFrameCallback(follow);
    else {
      const poll = () => {
        this.#at(video.currentTime);
        if (!video.paused && !video.ended) requestAnimationFrame(poll);
      };
      video.addEventListener("loadeddata", () => { this.offset = 0; if (this.wanted !== null) this.seek(this.wanted); poll(); });
      video.addEventListener("play", poll);
      video.addEventListener("seeked", poll);
    }
    for (const name of ["play", "pause", "ended", "ratechange", "volumechange"]) video.addEventListener(name, () => this.dispatchEvent(new Event("state")));
    new ResizeObserver(() => this.draw()).observe(frame);
  }

  #at(mediaTime) {
    this.moment = mediaTime - (this.offset || 0);
    this.draw();
    this.dispatchEvent(new Event("moment"));
  }

  // Where the frame lies on the canvas, in its pixels: the video keeps its shape.
  place() {
    const { clientWidth: w, clientHeight: h } = this.frame, { videoWidth, videoHeight } = this.video;
    const scale = Math.min(w / videoWidth, h / videoHeight), density = devicePixelRatio || 1;
    const [width, height] = [videoWidth * scale, videoHeight * scale];
    return { left: (w - width) / 2 * density, top: (h - height) / 2 * density, width: width * density, height: height * density };
  }

  draw() {
    const { canvas, frame, video, mode } = this, density = devicePixelRatio || 1;
    const [w, h] = [Math.round(frame.clientWidth * density), Math.round(frame.clientHeight * density)];
    if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h });
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, w, h);
    this.shown = [];
    if (!video.videoWidth || this.offset === null) return;
    const place = this.place();
    if (mode === "blur") {
      // The frame itself is drawn, so that no frame is ever shown before its faces are hidden.
      const hidden = this.boxes.at(this.moment, true);
      context.fillStyle = "#000";
      context.fillRect(0, 0, w, h);
      if (hidden) {
        context.drawImage(video, place.left, place.top, place.width, place.height);
        blurAreas(context, video, place, hidden);
        this.shown = hidden;
      } else this.#later(true);
    } else if (mode === "boxes") {
      const found = this.boxes.at(this.moment);
      if (found) {
        drawBoxes(context, place, found, this.people, this.colors, density);
        this.shown = found;
      } else this.#later(false);
    }
  }

  #later(hidden) {
    if (this.waiting) return;
    this.waiting = true;
    this.boxes.load(this.moment, hidden).then((found) => {
      this.waiting = false;
      if (found) this.draw();
    });
  }

  setMode(mode) {
    this.mode = mode;
    this.frame.dataset.mode = mode;
    this.draw();
  }

  seek(seconds) {
    const moment = Math.min(Math.max(seconds, this.view.start_s), Math.max(this.view.start_s, this.view.end_s - 0.02));
    this.moment = moment;
    if (this.offset === null || this.video.readyState < 1) this.wanted = moment;
    else {
      this.wanted = null;
      this.video.currentTime = moment + this.offset + 1e-4;      // the player rounds down
    }
    this.dispatchEvent(new Event("moment"));
  }

  toggle() {
    if (this.video.paused) this.video.play().catch(() => {});
    else this.video.pause();
  }
}
