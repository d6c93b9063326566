// Compare groups of runs: figures with intervals, and differences between any two groups.

import { api, clock, element, say } from "./common.mjs";

const $ = (id) => document.getElementById(id);
const root = $("compare"), MOST_ROWS = 60;
const leftOut = new Set();
let found = null, asking = null, listing = null;

// ---- Search

function words(value, unit) {
  if (value === null || value === undefined) return "–";
  if (unit === "share") return `${(100 * value).toFixed(Math.abs(value) < 0.01 && value ? 1 : 0)} %`;
  if (unit === "clock") return clock(value);
  if (unit === "years") return value.toFixed(0);
  return value.toLocaleString("en-GB", { maximumFractionDigits: 1 });
}
function change(value, unit) {
  if (value === null) return "–";
  const sign = value > 0 ? "+" : value < 0 ? "−" : "";
  return unit === "share" ? `${sign}${Math.abs(100 * value).toFixed(1)} points` : sign + words(Math.abs(value), unit);
}
const span = (low, high, say) => low === null || high === null ? "" : `${say(low)} to ${say(high)}`;

// ---- Which runs

const filters = () => ({ q: $("q").value.trim(), since: $("since").value || null, kind: $("kind").value });

async function list() {
  const { q, since, kind } = filters();
  listing?.abort();
  listing = new AbortController();
  const query = new URLSearchParams({ q, kind, limit: 100, ...(since ? { since } : {}) });
  let answer;
  try {
    answer = await api(`/api/compare/runs?${query}`, { signal: listing.signal });
  } catch (error) {
    if (error.name !== "AbortError") problem(error.message);
    return;
  }
  $("runs").replaceChildren(...answer.runs.map((run) => {
    const box = element("input", { type: "checkbox", "aria-label": `Compare ${run.title}`, value: run.id });
    box.checked = !leftOut.has(run.id);
    return element("tr", {}, element("td", {}, box), element("th", { scope: "row" }, element("a", { href: `/runs/${run.id}` }, run.title)), element("td", {}, run.channel ?? ""), element("td", {}, run.day), element("td", { class: "n" }, run.people));
  }));
  const more = answer.total - answer.runs.length;
  $("more").textContent = more > 0 ? `${more.toLocaleString("en-GB")} more match and are compared too.` : "";
  root.dataset.total = answer.total;
  count();
}
function count() {
  const total = +root.dataset.total, n = Math.max(0, total - leftOut.size);
  $("runs-words").textContent = `${n.toLocaleString("en-GB")} of ${total.toLocaleString("en-GB")} runs that match are compared`;
}

// ---- The comparison

function problem(sentence) {
  $("problem").hidden = !sentence;
  $("problem").textContent = sentence;
}

async function compare() {
  asking?.abort();
  asking = new AbortController();
  const mine = asking;
  problem("");
  root.setAttribute("aria-busy", "true");
  say("Comparing");
  try {
    found = await api("/api/compare", { method: "POST", signal: mine.signal, json: { ...filters(), by: $("by").value, left_out: [...leftOut], min_people: +$("min-people").value } });
    show();
    say(`${found.groups.length} groups, ${found.runs} runs`);
  } catch (error) {
    if (error.name === "AbortError") return;
    problem(error.message);
  }
  if (mine === asking) root.setAttribute("aria-busy", "false");
}

function options(select, entries, wanted) {
  const before = select.value;
  select.replaceChildren(...entries.map(([value, text]) => element("option", { value }, text)));
  if (entries.some(([value]) => String(value) === before)) select.value = before;
  else if (wanted !== undefined) select.value = wanted;
}

function show() {
  $("found").hidden = false;
  const known = found.figures.filter((figure) => found.groups.some((group) => group.cells[figure.name].text));
  const drawn = found.drawn.filter((one) => one.values.some(([value]) => value !== null) && !known.some((figure) => figure.name === one.name));
  options($("figure"), [...known, ...drawn].map((figure) => [figure.name, figure.words]), known.some(({ name }) => name === "female_people_share") ? "female_people_share" : known[0]?.name);
  showChart();
  const head = element("thead", {}, element("tr", {}, element("th", { scope: "col" }, $("by").selectedOptions[0].textContent), ...found.figures.map((figure) => element("th", { scope: "col", class: "n", title: figure.meaning }, figure.words))));
  const rows = [...found.groups.slice(0, 500), found.total].map((group) => element("tr", {}, element("th", { scope: "row", class: "name" }, group.name), ...found.figures.map((figure) => {
    const cell = group.cells[figure.name];
    return element("td", { class: "n", "data-label": figure.words }, cell.text ?? element("span", { class: "none" }, cell.why), cell.span ? element("small", {}, cell.span) : null);
  })));
  $("groups").replaceChildren(head, element("tbody", {}, ...rows));
  showPairs();
  $("skipped").replaceChildren(...found.skipped.map((line) => element("li", {}, line)));
}

function showChart() {
  const name = $("figure").value, figure = found.figures.find((one) => one.name === name), drawn = found.drawn.find((one) => one.name === name);
  if (!figure && !drawn) {
    $("chart").replaceChildren(element("p", { class: "hint" }, "There are too few people for a figure."));
    return;
  }
  const { unit } = figure ?? drawn;
  const points = found.groups.map((group, i) => {
    const [value, low, high] = drawn ? drawn.values[i] : [group.cells[name].value ?? null, null, null];
    return { label: group.name, value, low, high };
  }).filter(({ value }) => value !== null).slice(0, MOST_ROWS);
  const top = unit === "share" ? 1 : Math.max(1e-9, ...points.map(({ value, high }) => high ?? value));
  const at = (value) => `${100 * Math.min(1, Math.max(0, value / top))}%`;
  const rows = points.map(({ label, value, low, high }) => {
    const line = element("span", { class: "bar" }), mark = element("b");
    if (low !== null) {
      const bar = element("i");
      bar.style.left = at(low);
      bar.style.width = `${100 * (Math.min(high, top) - low) / top}%`;
      line.append(bar);
    }
    mark.style.left = at(value);
    line.append(mark);
    const range = span(low, high, (v) => words(v, unit));
    return element("div", {}, element("span", { class: "label", title: label }, label), line, element("span", { class: "value" }, words(value, unit), range ? element("small", {}, ` ${range}`) : null));
  });
  const box = element("div", { class: "rows" }, ...rows);
  const more = found.groups.length - points.length;
  $("chart").replaceChildren(box, ...(more > 0 && points.length === MOST_ROWS ? [element("p", { class: "hint" }, `The first ${MOST_ROWS} of ${found.groups.length} groups; the table has more.`)] : []));
  $("chart").setAttribute("aria-label", `${(figure ?? drawn).words} by group: ${points.slice(0, 12).map(({ label, value }) => `${label} ${words(value, unit)}`).join(", ")}`);
  const about = drawn ? "Bars are 95 % intervals that also hold how much depends on the choice of videos; those of the table are of the estimates alone." : "";
  $("meaning").textContent = [figure?.meaning, about].filter(Boolean).join(" ");
}

function showPairs() {
  const places = [...new Set(found.differences.flatMap(([first, second]) => [first, second]))].sort((a, b) => a - b);
  const few = places.length < 2;
  for (const box of document.querySelectorAll("#differences-tools, #differences")) box.hidden = few;
  if (few) {
    $("differences-words").textContent = found.groups.length < 2 ? "There is a single group, so nothing to compare: group by something else, or choose more runs." : "The groups have too few people to compare.";
    return;
  }
  const entries = places.map((place) => [place, found.groups[place].name]);
  options($("first"), entries, found.timely ? places.at(-2) : places[0]);
  options($("second"), entries, found.timely ? places.at(-1) : places[1]);
  showDifferences();
}

function showDifferences() {
  const first = +$("first").value, second = +$("second").value;
  const rows = found.differences.flatMap(([one, other, figure, value, low, high, exceeds]) => {
    if (one === first && other === second) return [{ figure, value, low, high, exceeds }];
    if (one === second && other === first) return [{ figure, value: value === null ? null : -value, low: high === null ? null : -high, high: low === null ? null : -low, exceeds }];
    return [];
  });
  const [a, b] = [found.groups[first].name, found.groups[second].name];
  $("differences-words").textContent = first === second ? "Choose two different groups." : `${b} minus ${a}, with 95 % intervals. ${found.groups.length > 12 && !found.timely ? "The twelve groups with the most people can be chosen." : ""}`;
  const head = element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "Figure"), element("th", { scope: "col", class: "n" }, a), element("th", { scope: "col", class: "n" }, b), element("th", { scope: "col", class: "n" }, "Difference"), element("th", { scope: "col" }, element("span", { class: "out" }, "Chart")), element("th", { scope: "col" }, "Verdict")));
  const body = rows.map(({ figure, value, low, high, exceeds }) => {
    const { words: what, unit, values } = found.drawn[figure];
    const reach = Math.max(1e-9, ...[value, low, high].map((v) => Math.abs(v ?? 0))) * 1.05, at = (v) => `${50 + 50 * v / reach}%`;
    const bar = element("span", { class: "change", "aria-hidden": "true" });
    if (low !== null) {
      const range = element("i");
      range.style.left = at(low);
      range.style.width = `${50 * (high - low) / reach}%`;
      bar.append(range);
    }
    if (value !== null) {
      const mark = element("b");
      mark.style.left = at(value);
      bar.append(mark);
    }
    const verdict = exceeds === null ? "not known: one run" : exceeds ? `${value > 0 ? "higher" : "lower"}, beyond error bars` : "within error bars";
    const cell = (label, ...children) => element("td", { class: "n", "data-label": label }, ...children);
    return element("tr", {}, element("th", { scope: "row" }, what), cell(a, words(values[first][0], unit)), cell(b, words(values[second][0], unit)), cell("difference", change(value, unit), low === null ? null : element("small", {}, span(low, high, (v) => change(v, unit)).replace(" points", ""))), element("td", { "data-label": "" }, bar), element("td", { "data-label": "verdict", class: exceeds ? "verdict" : null }, verdict));
  });
  $("differences").replaceChildren(head, element("tbody", {}, ...body));
}

// ---- Events

let typed = null;
for (const id of ["q", "since", "kind"]) {
  $(id).addEventListener("input", () => {
    clearTimeout(typed);
    typed = setTimeout(() => { leftOut.clear(); list(); }, 250);
  });
}
$("runs").addEventListener("change", (event) => {
  if (event.target.checked) leftOut.delete(event.target.value);
  else leftOut.add(event.target.value);
  count();
});
$("choose").addEventListener("submit", (event) => { event.preventDefault(); compare(); });
for (const id of ["by", "min-people"]) $(id).addEventListener("change", compare);
$("figure").addEventListener("change", showChart);
for (const id of ["first", "second"]) $(id).addEventListener("change", showDifferences);

await list();
if (+root.dataset.total) await compare();
else problem("There are no runs to compare yet.");
root.dataset.ready = "";
