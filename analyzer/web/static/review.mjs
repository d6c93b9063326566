// The review: put right what the machine found. Every correction shows at once; the server follows, one request
// at a time, and what it says in the end replaces what was assumed. If it refuses, the assumption is taken back.

import { api, clock, element, say } from "./common.mjs";

const $ = (id) => document.getElementById(id);
const root = $("review"), run = root.dataset.run, gallery = $("gallery"), pictures = gallery.dataset.media === "yes";
const base = `/api/runs/${run}`;
const CROPS = 3;

const state = {
  view: null,             // what the server said last
  people: [],             // what is shown: that, with the corrections it has not answered yet
  suggestions: [], order: [], current: null, selected: new Set(), dismissed: new Set(), seen: new Set(),
  waiting: [],            // corrections that were not sent yet
  sending: false, bands: [], history: [],
};

// ---- Words

const titleOf = (person) => person.name || `Person ${person.person_id}`;
const byId = (id) => state.people.find((person) => person.person_id === id);
const listed = (words) => words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`;
const numbers = (ids) => listed(ids.map((id) => String(id)));

// What can be done comes first; a check only asks to look.
function suggestionsOf(id) {
  const mine = state.suggestions.filter((one) => one.people.includes(id) && one.people.every((other) => byId(other)) && !state.dismissed.has(keyOf(one)));
  return mine.sort((a, b) => (a.kind === "check") - (b.kind === "check") || b.score - a.score);
}
const keyOf = (one) => `${one.kind} ${one.people.join(",")}`;
const cropUrl = (person, n) => `${base}/people/${person.person_id}/crops/${n}.jpg?v=${person.crops ?? ""}`;

// ---- Cards

const cards = new Map();
const drawn = new Map();      // what a card shows, to change only what has changed

function picture(url, words, kind = "") {
  const image = element("img", { src: url, alt: words, loading: "lazy", class: kind, width: 150, height: 150, draggable: "false" });
  image.addEventListener("error", () => image.remove());
  return image;
}

function suggestionBox(person, one) {
  const others = one.people.filter((id) => id !== person.person_id), other = others.length ? byId(others[0]) : null;
  const does = { merge: "Same person", split: "Split…", check: "Look closer" }[one.kind];
  const yes = element("button", { type: "button", tabindex: "-1" }, does, " ", element("kbd", {}, "Y"));
  yes.addEventListener("click", (event) => { event.stopPropagation(); accept(person.person_id, one); });
  const no = element("button", { type: "button", tabindex: "-1" }, one.kind === "merge" ? "Two people" : "Right as it is", " ", element("kbd", {}, "K"));
  no.addEventListener("click", (event) => { event.stopPropagation(); dismiss(one); });
  const line = element("div", { class: "why" });
  if (other && pictures) line.append(picture(cropUrl(other, 0), `${titleOf(other)}`, "other"));
  line.append(element("span", {}, one.reason));
  return element("div", { class: "unsure" }, line, element("div", { class: "answers" }, one.kind === "check" ? null : yes, no));
}

function card(person) {
  const item = element("li", {});
  const box = element("div", { class: "person", role: "group", tabindex: "-1", draggable: "true" });
  box.dataset.person = person.person_id;
  item.append(box);
  box.addEventListener("focus", () => setCurrent(person.person_id, false));
  box.addEventListener("click", (event) => {
    if (event.target.closest("button, a")) return;
    setCurrent(person.person_id);
    if (event.target.closest(".tick") || event.ctrlKey || event.metaKey || event.shiftKey) toggle(person.person_id);
  });
  box.addEventListener("dragstart", (event) => {
    event.dataTransfer.setData("text/plain", String(person.person_id));
    event.dataTransfer.effectAllowed = "move";
    box.classList.add("dragged");
    state.dragged = person.person_id;
  });
  box.addEventListener("dragend", () => { state.dragged = null; box.classList.remove("dragged"); });
  box.addEventListener("dragover", (event) => {
    if (!state.dragged || state.dragged === person.person_id) return;
    event.preventDefault();
    box.classList.add("onto");
  });
  box.addEventListener("dragleave", () => box.classList.remove("onto"));
  box.addEventListener("drop", (event) => {
    event.preventDefault();
    box.classList.remove("onto");
    const dragged = state.selected.has(state.dragged) ? [...state.selected] : [state.dragged];
    if (state.dragged && state.dragged !== person.person_id) merge([...new Set([person.person_id, ...dragged])]);
  });
  return item;
}

function fill(item, person) {
  const box = item.firstElementChild, mine = suggestionsOf(person.person_id);
  const facts = [`perceived ${person.gender}, age ${person.age_text}`, `on screen ${person.on_screen_text}`];
  const what = JSON.stringify([person, mine, state.selected.has(person.person_id), person.waiting]);
  if (drawn.get(person.person_id) !== what) {
    drawn.set(person.person_id, what);
    const crops = element("div", { class: "crops" });
    const old = box.querySelector(".crops");
    if (old && old.dataset.key === `${person.crops}`) crops.replaceWith(old);
    else if (pictures) for (let n = 0; n < CROPS; n++) crops.append(picture(cropUrl(person, n), n ? "" : `${titleOf(person)}, picture`));
    else crops.append(element("span", { class: "no" }, `seen from ${clock(person.first_s)} to ${clock(person.last_s)}`));
    crops.dataset.key = `${person.crops}`;
    const pick = element("input", { type: "checkbox", class: "tick", tabindex: "-1", "aria-label": `Select ${titleOf(person)}` });
    pick.checked = state.selected.has(person.person_id);
    const sets = person.confirmed.map((of) => element("span", { class: "set" }, `${of} set`));
    const parts = [
      old && old.dataset.key === `${person.crops}` ? old : crops, pick,
      element("h3", {}, element("span", { class: `sign ${person.gender}`, "aria-hidden": "true" }), element("span", {}, titleOf(person)), person.name ? element("small", {}, `person ${person.person_id}`) : null),
      element("p", { class: "about" }, ...facts.map((words) => element("span", {}, words))),
      sets.length ? element("p", { class: "sets" }, ...sets) : null,
      ...mine.map((one) => suggestionBox(person, one)),
    ];
    box.replaceChildren(...parts.filter(Boolean));
    const words = [titleOf(person), ...facts, ...mine.map((one) => one.reason), state.selected.has(person.person_id) ? "selected" : ""];
    box.setAttribute("aria-label", words.filter(Boolean).join(", "));
    box.classList.toggle("waiting", Boolean(person.waiting));
  }
  box.classList.toggle("selected", state.selected.has(person.person_id));
  box.classList.toggle("current", state.current === person.person_id);
  box.tabIndex = state.current === person.person_id ? 0 : -1;
}

function render() {
  const there = new Set(state.people.map((person) => person.person_id));
  state.order = state.order.filter((id) => there.has(id));
  for (const id of there) {
    if (state.order.includes(id)) continue;
    const after = state.order.indexOf(state.splitFrom);
    state.order.splice(after < 0 ? state.order.length : after + 1, 0, id);
  }
  for (const id of [...state.selected]) if (!there.has(id)) state.selected.delete(id);
  if (!there.has(state.current)) state.current = state.order[0] ?? null;
  for (const [id, item] of cards) {
    if (there.has(id)) continue;
    item.remove();
    cards.delete(id);
    drawn.delete(id);
  }
  let before = null;
  for (const id of state.order) {
    if (!cards.has(id)) cards.set(id, card(byId(id)));
    const item = cards.get(id);
    fill(item, byId(id));
    const place = before ? before.nextSibling : gallery.firstChild;
    if (place !== item) gallery.insertBefore(item, place);
    before = item;
  }
  $("empty").hidden = state.order.length > 0;
  const open = state.suggestions.filter((one) => !state.dismissed.has(keyOf(one)) && one.people.every((id) => byId(id))).length;
  $("progress").textContent = open ? `${open} to look at, first` : "nothing looks unsure";
  renderBar();
}

function renderBar() {
  const acting = targets();
  $("chosen").textContent = state.selected.size ? `${state.selected.size} selected` : acting.length ? titleOf(byId(acting[0])) : "";
  for (const button of $("bar").querySelectorAll("button")) {
    const act = button.dataset.act;
    const able = act === "undo" ? state.history.some((one) => !one.undone && one.action !== "undo") || state.waiting.length > 0
      : act === "merge" ? mergeable().length > 1
      : act === "split" || act === "name" ? acting.length === 1 : acting.length > 0;
    button.disabled = !able;
  }
}

function renderFigures(view) {
  for (const figure of view.figures) {
    const box = document.querySelector(`#figures [data-figure="${figure.name}"] dd`);
    if (!box) continue;
    const small = element("small", {}, figure.span);
    const changed = box.textContent !== figure.text + figure.span;
    box.replaceChildren(figure.text, small);
    if (changed) {
      box.classList.remove("changed");
      requestAnimationFrame(() => box.classList.add("changed"));
    }
  }
}

function renderHistory() {
  $("history-count").textContent = state.history.filter((one) => one.action !== "undo" && !one.undone).length;
  $("history").replaceChildren(...state.history.filter((one) => one.action !== "undo").map((one) => element("li", { class: one.undone ? "undone" : null }, one.words)));
}

// ---- Moving and selecting

function setCurrent(id, focus = true) {
  const before = state.current;
  state.current = id;
  for (const one of [before, id]) if (cards.has(one) && byId(one)) fill(cards.get(one), byId(one));
  renderBar();
  const box = cards.get(id)?.firstElementChild;
  if (focus && box && document.activeElement !== box) {
    box.focus({ preventScroll: true });
    box.scrollIntoView({ block: "nearest" });
  }
}

function columns() {
  const first = cards.get(state.order[0])?.offsetTop;
  let n = 0;
  while (n < state.order.length && cards.get(state.order[n]).offsetTop === first) n++;
  return Math.max(1, n);
}

function move(by) {
  const at = state.order.indexOf(state.current), to = Math.min(state.order.length - 1, Math.max(0, at + by));
  if (state.order[to] !== undefined) setCurrent(state.order[to]);
}

function toggle(id) {
  if (state.selected.has(id)) state.selected.delete(id);
  else state.selected.add(id);
  fill(cards.get(id), byId(id));
  renderBar();
  say(`${titleOf(byId(id))} ${state.selected.has(id) ? "selected" : "not selected"}, ${state.selected.size} selected`);
}

function targets() {
  if (state.selected.size) return state.order.filter((id) => state.selected.has(id));
  return state.current !== null && byId(state.current) ? [state.current] : [];
}

// Selected people, and with a single one selected also the current one.
function mergeable() {
  const chosen = new Set(state.selected);
  if (chosen.size < 2 && state.current !== null) chosen.add(state.current);
  return [...chosen].filter((id) => byId(id));
}

// ---- Corrections

// Each changes what is shown at once, and is then sent; those made while one is being sent go together.
function correct(correction, words) {
  problem("");
  state.waiting.push(correction);
  state.history.push({ words, action: correction.action, mine: true });
  assume();
  say(words);
  send();
}

// What the server said last, with everything that it has not answered yet.
function assume() {
  const people = state.view.people.map((person) => ({ ...person, confirmed: [...person.confirmed] }));
  state.people = [...(state.sent || []), ...state.waiting].reduce(applied, people);
  renderHistory();
  render();
}

function applied(people, correction) {
  const find = (id) => people.find((person) => person.person_id === id);
  switch (correction.action) {
    case "merge": {
      const [kept, ...gone] = [...correction.people].sort((a, b) => a - b);
      const one = find(kept);
      if (one) {
        const name = one.name || gone.map(find).find((person) => person?.name)?.name || "";
        Object.assign(one, { waiting: true, name });
      }
      return people.filter((person) => !gone.includes(person.person_id));
    }
    case "not_a_person":
    case "drop":
      return people.filter((person) => person.person_id !== correction.person);
    case "gender": {
      const one = find(correction.person);
      if (one) Object.assign(one, { gender: correction.gender, waiting: true, confirmed: [...new Set([...one.confirmed, "gender"])] });
      return people;
    }
    case "age": {
      const one = find(correction.person);
      if (one) Object.assign(one, { age_text: correction.age_band ?? String(correction.age_years), waiting: true, confirmed: [...new Set([...one.confirmed, "age"])] });
      return people;
    }
    case "name": {
      const one = find(correction.person);
      if (one) Object.assign(one, { name: correction.name, waiting: true });
      return people;
    }
    case "split": {
      const one = find(correction.person);
      if (one) one.waiting = true;
      return people;
    }
  }
  return people;
}

async function send() {
  if (state.sending) return;
  state.sending = true;
  root.dataset.busy = "";
  while (state.waiting.length) {
    const undo = state.waiting[0].action === "undo";
    const until = state.waiting.findIndex((one) => (one.action === "undo") !== undo);
    state.sent = state.waiting.splice(0, undo ? 1 : until < 0 ? state.waiting.length : until);
    try {
      const answer = undo ? await api(`${base}/corrections/last`, { method: "DELETE" }) : await api(`${base}/corrections`, { method: "POST", json: { corrections: state.sent } });
      state.sent = [];
      take(answer);
    } catch (error) {
      state.sent = state.waiting = [];
      problem(`${error.message} What was not saved was taken back.`);
      $("alerts").textContent = error.message;
      await reload().catch(() => {});
    }
    assume();
    if (state.lost) focusCard();
  }
  state.sending = false;
  delete root.dataset.busy;
}

function take(answer) {
  const before = state.view?.figures.find((figure) => figure.name === "people")?.text;
  state.view = answer.view;
  state.suggestions = answer.suggestions;
  state.history = answer.history;
  state.bands = answer.age_bands;
  $("cast").replaceChildren(...answer.cast.map((name) => element("option", { value: name })));
  renderFigures(answer.view);
  const now = answer.view.figures.find((figure) => figure.name === "people")?.text;
  if (before !== undefined && before !== now) say(`Saved. ${now} people now.`);
}

const reload = async () => take(await api(`${base}/review`));

function problem(words) {
  $("problem").hidden = !words;
  $("problem").textContent = words;
}

function focusCard() {
  state.lost = false;
  const box = cards.get(state.current)?.firstElementChild;
  if (box && !document.querySelector("dialog[open]")) box.focus({ preventScroll: true });
}

// Corrections that take people away move on to the next one.
function leaving(ids, act) {
  const at = state.order.findIndex((id) => ids.includes(id)), rest = state.order.filter((id) => !ids.includes(id));
  const next = rest[Math.min(Math.max(at, 0), rest.length - 1)] ?? null;
  state.selected.clear();
  act();
  if (next !== null) setCurrent(next);
}

function merge(ids) {
  if (ids.length < 2) return;
  const people = [...ids].sort((a, b) => a - b);
  state.selected.clear();
  correct({ action: "merge", people }, `merge ${numbers(people)}`);
  setCurrent(people[0]);
}

const acts = {
  merge: () => merge(mergeable()),
  split: () => { const [id] = targets(); if (id !== undefined) openSplit(id); },
  not_a_person: () => { const ids = targets(); if (ids.length) leaving(ids, () => ids.forEach((id) => correct({ action: "not_a_person", person: id }, `${id} is not a person`))); },
  drop: () => { const ids = targets(); if (ids.length) leaving(ids, () => ids.forEach((id) => correct({ action: "drop", person: id }, `leave out ${id}`))); },
  gender: () => { const ids = targets(); if (ids.length) askGender(ids); },
  age: () => { const ids = targets(); if (ids.length) askAge(ids); },
  name: () => { const [id] = targets(); if (id !== undefined) askName(id); },
  confirm: () => {
    const ids = targets();
    for (const id of ids) confirm(byId(id));
    state.selected.clear();
    if (ids.length === 1) move(1);
    else render();
  },
  undo: () => {
    const last = state.waiting.at(-1);
    if (last && last.action !== "undo") {      // it was not sent yet
      state.waiting.pop();
      state.history.pop();
      assume();
      say("Taken back");
    } else {
      state.waiting.push({ action: "undo" });
      say("Undone");
      send();
    }
  },
};

function confirm(person) {
  const id = person.person_id;
  if (person.gender !== "unknown" && !person.confirmed.includes("gender")) correct({ action: "gender", person: id, gender: person.gender }, `gender of ${id}: ${person.gender}`);
  if (person.age_band !== "unknown" && !person.confirmed.includes("age")) correct({ action: "age", person: id, age_band: person.age_band }, `age of ${id}: ${person.age_band}`);
  for (const one of suggestionsOf(id).filter(({ kind }) => kind === "check")) state.dismissed.add(keyOf(one));
}

function accept(id, one) {
  if (one.kind === "merge") merge(one.people);
  else if (one.kind === "split") openSplit(id, one.tracklets);
}

function dismiss(one) {
  state.dismissed.add(keyOf(one));
  try { sessionStorage.setItem(`dismissed ${run}`, JSON.stringify([...state.dismissed])); } catch { /* it holds for this page */ }
  render();
}

function keep() {
  const mine = suggestionsOf(state.current);
  if (mine.length) dismiss(mine[0]);
  if (mine.length < 2) move(1);
}

// ---- Dialogs

let answered = null;
function ask(title, body, onAnswer, { buttons = true } = {}) {
  $("ask-title").textContent = title;
  $("ask-body").replaceChildren(...body);
  $("ask-ok").hidden = !buttons;
  answered = onAnswer;
  $("ask").showModal();
  $("ask-body").querySelector("input, button")?.focus();
}
function closed(dialog) {
  dialog.addEventListener("close", () => { answered = null; focusCard(); });
  for (const button of dialog.querySelectorAll("[data-close]")) button.addEventListener("click", () => dialog.close());
}
$("ask-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const act = answered;
  const done = act ? act() : true;
  if (done !== false) $("ask").close();
});

function askGender(ids) {
  const choose = (gender) => {
    $("ask").close();
    for (const id of ids) correct({ action: "gender", person: id, gender }, `gender of ${id}: ${gender}`);
    state.selected.clear();
    render();
    focusCard();
  };
  const buttons = [["female", "F"], ["male", "M"]].map(([gender, key]) => {
    const button = element("button", { type: "button", class: "quiet" }, element("span", { class: `sign ${gender}`, "aria-hidden": "true" }), gender, " ", element("kbd", {}, key));
    button.dataset.key = key.toLowerCase();
    button.addEventListener("click", () => choose(gender));
    return button;
  });
  ask(`Perceived gender of ${ids.length === 1 ? titleOf(byId(ids[0])) : `${ids.length} people`}`, [element("div", { class: "choices" }, ...buttons)], null, { buttons: false });
}

function askAge(ids) {
  const years = element("input", { type: "number", min: "0", max: "120", step: "1", inputmode: "numeric", id: "ask-years" });
  const band = element("select", { id: "ask-band" }, element("option", { value: "" }, "choose"), ...state.bands.map((name) => element("option", { value: name }, name)));
  const fields = [element("label", {}, "Age in years", years), element("label", {}, "or an age band", band)];
  ask(`Age of ${ids.length === 1 ? titleOf(byId(ids[0])) : `${ids.length} people`}`, fields, () => {
    if (!years.value && !band.value) { years.focus(); return false; }
    const value = years.value ? { age_years: +years.value } : { age_band: band.value };
    for (const id of ids) correct({ action: "age", person: id, ...value }, `age of ${id}: ${years.value || band.value}`);
    state.selected.clear();
    render();
    return true;
  });
}

function askName(id) {
  const name = element("input", { type: "text", list: "cast", maxlength: "100", autocomplete: "off", id: "ask-name", value: byId(id).name || null });
  ask(`Name of person ${id}`, [element("label", {}, "Name", name)], () => {
    const given = name.value.trim();
    if (!given) { name.focus(); return false; }
    correct({ action: "name", person: id, name: given }, `name of ${id}: ${given}`);
    return true;
  });
  name.select();
}

async function openSplit(id, marked = []) {
  let stretches;
  try {
    stretches = await api(`${base}/people/${id}/tracklets`);
  } catch (error) {
    problem(error.message);
    return;
  }
  if (stretches.length < 2) {
    problem(`Person ${id} was tracked in one stretch: there is nothing to split.`);
    return;
  }
  const wanted = new Set(marked);
  $("stretches").replaceChildren(...stretches.map((one) => {
    const box = element("input", { type: "checkbox", value: one.tracklet_id });
    box.checked = wanted.has(one.tracklet_id);
    return element("label", { class: "stretch" }, box,
      pictures ? picture(`${base}/people/${id}/tracklets/${one.tracklet_id}.jpg`, "") : null, `${clock(one.start_s)} to ${clock(one.end_s)}`, element("br"), one.text);
  }));
  $("split-title").textContent = `Person ${id}: who is somebody else?`;
  $("split").dataset.person = id;
  $("split").showModal();
  ($("stretches").querySelector("input:checked") || $("stretches").querySelector("input")).focus();
}

$("split-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const id = +$("split").dataset.person, boxes = [...$("stretches").querySelectorAll("input")];
  const tracklets = boxes.filter((box) => box.checked).map((box) => +box.value);
  if (!tracklets.length || tracklets.length === boxes.length) {
    $("alerts").textContent = "Mark some of the pictures, but not all.";
    return;
  }
  $("split").close();
  state.splitFrom = id;
  for (const one of suggestionsOf(id).filter(({ kind }) => kind === "split")) state.dismissed.add(keyOf(one));
  correct({ action: "split", person: id, tracklets }, `split ${id}`);
});

$("split").addEventListener("keydown", (event) => {
  const boxes = [...$("stretches").querySelectorAll("input")], at = boxes.indexOf(document.activeElement);
  const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
  if (at >= 0 && event.key in steps) {
    event.preventDefault();
    boxes[Math.min(boxes.length - 1, Math.max(0, at + steps[event.key]))].focus();
  }
});

$("ask").addEventListener("keydown", (event) => {
  if (event.target.closest("input, select") || event.ctrlKey || event.altKey || event.metaKey) return;
  const button = $("ask-body").querySelector(`button[data-key="${CSS.escape(event.key.toLowerCase())}"]`);
  if (button) { event.preventDefault(); button.click(); }
});

for (const dialog of [$("ask"), $("split"), $("help")]) closed(dialog);
$("help-open").addEventListener("click", () => $("help").showModal());

// ---- Keys

const keys = {
  ArrowRight: () => move(1), ArrowLeft: () => move(-1), ArrowDown: () => move(columns()), ArrowUp: () => move(-columns()),
  Home: () => move(-state.order.length), End: () => move(state.order.length),
  " ": () => { if (state.current !== null) toggle(state.current); },
  Escape: () => { state.selected.clear(); render(); },
  y: () => { const [one] = suggestionsOf(state.current); if (one) accept(state.current, one); },
  k: keep, c: acts.confirm, m: acts.merge, s: acts.split, g: acts.gender, a: acts.age, n: acts.name, x: acts.not_a_person, d: acts.drop, u: acts.undo,
  o: () => { const person = byId(state.current); if (person) location.assign(`/runs/${run}#t=${person.first_s}`); },
  "?": () => $("help").showModal(),
};

document.addEventListener("keydown", (event) => {
  if (document.querySelector("dialog[open]") || event.target.closest("input:not(.tick), select, textarea")) return;
  if (event.altKey || event.metaKey) return;
  if (event.ctrlKey) {
    if (event.key === "z") { event.preventDefault(); acts.undo(); }
    return;
  }
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key, act = keys[key];
  const onCard = event.target.closest(".person") || event.target === document.body || event.target.closest("main") === event.target;
  // Arrows and space belong to the gallery; letters work everywhere on the page.
  if (!act || (!onCard && (event.key.length > 1 || event.key === " "))) return;
  event.preventDefault();
  act();
});

$("bar").addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button && !button.disabled) acts[button.dataset.act]();
});

// ---- Start

try {
  for (const key of JSON.parse(sessionStorage.getItem(`dismissed ${run}`) || "[]")) state.dismissed.add(key);
} catch { /* without storage */ }
await reload();
// Unsure people first, the least sure at the front; later the order stays, so that nothing moves under a hand.
const doubt = new Map();
for (const one of state.suggestions) for (const id of one.people) doubt.set(id, Math.max(doubt.get(id) ?? 0, one.score + (one.kind === "check" ? 0 : 1)));
state.order = state.view.people.map((person) => person.person_id).sort((a, b) => (doubt.get(b) ?? -1) - (doubt.get(a) ?? -1) || a - b);
state.current = state.order[0] ?? null;
assume();
root.dataset.ready = "";
