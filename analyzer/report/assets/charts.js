"use strict";
// Draws charts as SVG: areas, bars, points with error bars, labels; a tip shows the value under the pointer.
// All text is inserted through textContent.
const Charts = (() => {
const NS = "http://www.w3.org/2000/svg";
const CAP = 5, NEAR = 30, CLICK = 5;

function make(name, attributes, parent) {
  const one = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) if (value != null) one.setAttribute(key, value);
  if (parent) parent.append(one);
  return one;
}
const round = (value) => Math.round(value * 100) / 100;

function axes(layout) {
  const { width, height, margin } = layout, found = {};
  const wide = width - margin.l - margin.r, high = height - margin.t - margin.b;
  for (const [key, axis] of Object.entries(layout)) {
    const match = /^([xy])axis(\d*)$/.exec(key);
    if (!match) continue;
    const [start, end] = axis.domain || [0, 1], [low, size] = match[1] === "x" ? [margin.l + start * wide, (end - start) * wide] : [margin.t + high, -high];
    const [from, to] = axis.range;
    found[match[1] + match[2]] = { ...axis, start: low, size, to: (value) => low + size * (value - from) / (to - from), from: (place) => from + (place - low) / size * (to - from) };
  }
  return found;
}

// One fill for each pattern and color: stripes and dots are distinguishable with any color vision.
function fillOf(color, pattern, defs, prefix) {
  if (!pattern) return color;
  const id = `${prefix}-${pattern.shape}-${(pattern.fgcolor + color).replace(/[^a-z0-9]/gi, "")}`;
  if (!defs.querySelector(`[id="${id}"]`)) {
    const size = pattern.size || 6;
    const box = make("pattern", { id, width: size, height: size, patternUnits: "userSpaceOnUse", patternTransform: pattern.shape === "/" ? "rotate(45)" : null }, defs);
    make("rect", { width: size, height: size, fill: color }, box);
    if (pattern.shape === ".") make("circle", { cx: size / 2, cy: size / 2, r: size / 5, fill: pattern.fgcolor }, box);
    else make("rect", { width: size * 0.28, height: size, fill: pattern.fgcolor }, box);
  }
  return `url(#${id})`;
}

function text(parent, words, x, y, { anchor = "middle", font = {}, base = {}, bold = false, baseline = "central" }) {
  const one = make("text", { x: round(x), y: round(y), "text-anchor": anchor, "dominant-baseline": baseline, "font-size": font.size || base.size, fill: font.color || base.color, "font-weight": bold ? 600 : null }, parent);
  one.textContent = words;
  return one;
}
const ANCHORS = { left: "start", center: "middle", right: "end" };
const BASELINES = { top: "hanging", middle: "central", bottom: "auto" };

function drawAxes(under, over, layout, all) {
  const { height, margin, font } = layout;
  for (const [id, axis] of Object.entries(all)) {
    const across = id[0] === "x";
    (axis.tickvals || []).forEach((value, i) => {
      const place = round(axis.to(value));
      if (axis.showgrid) {
        make("path", { class: "grid", stroke: axis.gridcolor, d: across ? `M${place},${margin.t}V${height - margin.b}` : `M${margin.l},${place}H${layout.width - margin.r}` }, under);
      }
      if (axis.showticklabels === false) return;
      const options = { font: axis.tickfont, base: font };
      const words = axis.ticktext ? axis.ticktext[i] : String(value);
      if (across) {
        const half = words.length * 3.4;      // a label at an end is moved in rather than cut off
        const anchor = place + half > layout.width ? "end" : place - half < 0 ? "start" : "middle";
        text(over, words, anchor === "end" ? layout.width : anchor === "start" ? 0 : place, height - margin.b + 14, { ...options, anchor });
      }
      else text(over, words, margin.l - 7, place, { ...options, anchor: "end" });
    });
    if (axis.title) text(over, axis.title.text, axis.start + axis.size / 2, height - 9, { font: axis.title.font, base: font });
  }
}

function spot(layout, all, xref, yref, x, y) {
  const { width, height, margin } = layout;
  const [px, py] = [xref === "paper" ? margin.l + x * (width - margin.l - margin.r) : all[xref || "x"].to(x), yref === "paper" ? margin.t + (1 - y) * (height - margin.t - margin.b) : all[yref || "y"].to(y)];
  return [px, py];
}
function drawShapes(parent, layout, all) {
  for (const shape of layout.shapes || []) {
    const [x0, y0] = spot(layout, all, shape.xref, shape.yref, shape.x0, shape.y0), [x1, y1] = spot(layout, all, shape.xref, shape.yref, shape.x1, shape.y1);
    if (shape.type === "line") make("path", { d: `M${round(x0)},${round(y0)}L${round(x1)},${round(y1)}`, stroke: shape.line.color, "stroke-width": shape.line.width, fill: "none" }, parent);
    else make("rect", { x: round(Math.min(x0, x1)), y: round(Math.min(y0, y1)), width: round(Math.abs(x1 - x0)), height: round(Math.abs(y1 - y0)), fill: shape.fillcolor }, parent);
  }
}
function drawAnnotations(parent, layout, all) {
  for (const one of layout.annotations || []) {
    const [x, y] = spot(layout, all, one.xref, one.yref, one.x, one.y);
    text(parent, one.text, x + (one.xshift || 0), y - (one.yshift || 0) - (one.yanchor === "bottom" ? 4 : 0), { anchor: ANCHORS[one.xanchor || "center"], baseline: BASELINES[one.yanchor || "middle"], font: one.font, base: layout.font, bold: one.bold });
  }
}

// Stacked areas; each interval with values above 0 has its own outline.
function drawArea(parent, trace, x, y, below, context) {
  const values = trace.y.map((value) => value || 0), tops = values.map((value, i) => value + below[i]);
  const last = values.length - 1;
  let d = "";
  for (let i = 0; i < last; i++) {
    if (!values[i]) continue;
    let after = i;
    while (after < last && values[after]) after++;
    d += `M${round(x.to(trace.x[i]))},${round(y.to(below[i]))}`;
    for (let k = i; k < after; k++) d += `V${round(y.to(tops[k]))}H${round(x.to(trace.x[k + 1]))}`;
    for (let k = after - 1; k >= i; k--) d += `V${round(y.to(below[k]))}H${round(x.to(trace.x[k]))}`;
    d += "Z";
    i = after - 1;
  }
  make("path", { class: "area", d, fill: fillOf(trace.fillcolor, trace.fillpattern, context.defs, context.prefix), stroke: trace.line.color, "stroke-width": trace.line.width }, parent);
  return tops;
}

function drawBars(parent, trace, x, y, context) {
  const group = make("g", { class: "bars" }, parent), flat = trace.orientation === "h";
  const wide = trace.width || 1 - (context.layout.bargap ?? 0.2), offset = trace.offset ?? -wide / 2;
  trace.x.forEach((_, i) => {
    const value = flat ? trace.x[i] : trace.y[i], place = flat ? trace.y[i] : trace.x[i], base = trace.base ? trace.base[i] : 0;
    if (value == null) return;
    const [along, over] = flat ? [x, y] : [y, x];
    let [a0, a1] = [along.to(base), along.to(base + value)], [b0, b1] = [over.to(place + offset), over.to(place + offset + wide)];
    if (a0 > a1) [a0, a1] = [a1, a0];
    if (b0 > b1) [b0, b1] = [b1, b0];
    if (trace.base) a1 = Math.max(a1, a0 + 1);      // keeps the shortest span visible
    const [x0, x1, y0, y1] = flat ? [a0, a1, b0, b1] : [b0, b1, a0, a1];
    const { marker } = trace, color = Array.isArray(marker.color) ? marker.color[i] : marker.color;
    make("path", { d: `M${round(x0)},${round(y0)}H${round(x1)}V${round(y1)}H${round(x0)}Z`, fill: fillOf(color, marker.pattern, context.defs, context.prefix), stroke: marker.line && marker.line.color, "stroke-width": marker.line && marker.line.width }, group);
    context.marks.push({ trace, index: i, x0, x1, y0, y1 });
  });
}

function symbolPath(symbol, x, y, r) {
  if (symbol === "square") return `M${round(x - r * 0.89)},${round(y - r * 0.89)}h${round(r * 1.78)}v${round(r * 1.78)}h${round(-r * 1.78)}Z`;
  if (symbol === "diamond") return `M${round(x)},${round(y - r * 1.25)}l${round(r * 1.25)},${round(r * 1.25)}l${round(-r * 1.25)},${round(r * 1.25)}l${round(-r * 1.25)},${round(-r * 1.25)}Z`;
  if (symbol === "triangle") return `M${round(x)},${round(y - r * 1.15)}L${round(x + r * 1.15)},${round(y + r * 0.9)}H${round(x - r * 1.15)}Z`;
  return `M${round(x - r)},${round(y)}a${r},${r} 0 1 0 ${2 * r},0a${r},${r} 0 1 0 ${-2 * r},0Z`;
}
function drawErrors(parent, trace, x, y) {
  for (const [name, axis] of [["error_x", x], ["error_y", y]]) {
    const bars = trace[name];
    if (!bars) continue;
    let d = "";
    trace.x.forEach((_, i) => {
      const value = name === "error_x" ? trace.x[i] : trace.y[i];
      if (value == null || !(bars.array[i] || bars.arrayminus[i])) return;
      const low = round(axis.to(value - bars.arrayminus[i])), high = round(axis.to(value + bars.array[i]));
      const across = round(name === "error_x" ? y.to(trace.y[i]) : x.to(trace.x[i]));
      d += name === "error_x" ? `M${low},${across}H${high}M${low},${across - CAP}v${2 * CAP}M${high},${across - CAP}v${2 * CAP}` : `M${across},${low}V${high}M${across - CAP},${low}h${2 * CAP}M${across - CAP},${high}h${2 * CAP}`;
    });
    if (d) make("path", { class: "errors", d, stroke: bars.color, "stroke-width": bars.thickness, fill: "none" }, parent);
  }
}
function drawPoints(parent, trace, x, y, context) {
  const known = trace.x.map((value, i) => value != null && trace.y[i] != null);
  if (trace.mode.includes("lines")) {
    let d = "";
    trace.x.forEach((_, i) => { if (known[i]) d += `${i && known[i - 1] ? "L" : "M"}${round(x.to(trace.x[i]))},${round(y.to(trace.y[i]))}`; });
    make("path", { class: "line", d, stroke: trace.line.color, "stroke-width": trace.line.width, fill: "none" }, parent);
  }
  drawErrors(parent, trace, x, y);
  const each = (value, i) => Array.isArray(value) ? value[i] : value;
  trace.x.forEach((_, i) => {
    if (!known[i]) return;
    const { marker } = trace, r = each(marker.size, i) / 2, px = x.to(trace.x[i]), py = y.to(trace.y[i]);
    make("path", { class: "point", d: symbolPath(each(marker.symbol, i), px, py, r), fill: each(marker.color, i), stroke: marker.line.color, "stroke-width": marker.line.width }, parent);
    context.marks.push({ trace, index: i, x0: px - r, x1: px + r, y0: py - r, y1: py + r });
  });
}

function draw(box, { traces, layout }) {
  const { width, height, margin, font } = layout, all = axes(layout), prefix = box.id;
  for (const old of box.querySelectorAll(":scope > svg, :scope > .tip")) old.remove();
  const svg = make("svg", { width, height, viewBox: `0 0 ${width} ${height}`, "font-family": font.family, "aria-hidden": "true" });
  const defs = make("defs", {}, svg);
  make("rect", { x: margin.l, y: margin.t, width: Math.max(0, width - margin.l - margin.r), height: Math.max(0, height - margin.t - margin.b) }, make("clipPath", { id: `${prefix}-clip` }, defs));
  const clip = layout.clip ? `url(#${prefix}-clip)` : null;
  const under = make("g", { "clip-path": clip }, svg), marks = make("g", { "clip-path": clip }, svg), over = make("g", {}, svg);
  const context = { defs, prefix, layout, marks: [] };
  drawShapes(under, layout, all);
  drawAxes(under, over, layout, all);
  let tops = null, reading = null;
  for (const trace of traces) {
    const x = all[trace.xaxis || "x"], y = all[trace.yaxis || "y"];
    if (trace.type === "reading") reading = trace;
    else if (trace.type === "area") tops = drawArea(marks, trace, x, y, tops || trace.y.map(() => 0), context);
    else if (trace.type === "bar") { drawBars(marks, trace, x, y, context); drawErrors(marks, trace, x, y); }
    else drawPoints(marks, trace, x, y, context);
  }
  drawAnnotations(over, layout, all);
  const area = make("rect", { class: "area", x: margin.l, y: margin.t, width: Math.max(0, width - margin.l - margin.r), height: Math.max(0, height - margin.t - margin.b), fill: "transparent" }, svg);
  box.prepend(svg);
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  box.append(tip);
  box.layout = layout;
  box.chart = { all, marks: context.marks, reading, tip, svg, area };
  if (!box.listens) listen(box);
}

// ---- The pointer

function under(box, event) {
  const { marks, reading, all } = box.chart, rect = box.getBoundingClientRect();
  const px = event.clientX - rect.left, py = event.clientY - rect.top, { width, height, margin } = box.layout;
  if (reading) {
    if (px < margin.l || px > width - margin.r || py < 0 || py > height) return null;
    let best = 0;
    for (let i = 1; i < reading.x.length; i++) if (Math.abs(all.x.to(reading.x[i]) - px) < Math.abs(all.x.to(reading.x[best]) - px)) best = i;
    return { index: best, trace: reading, x: all.x.to(reading.x[best]), y: Math.min(py, height - margin.b), px };
  }
  let best = null, nearest = NEAR;
  for (const mark of marks) {
    const dx = Math.max(mark.x0 - px, 0, px - mark.x1), dy = Math.max(mark.y0 - py, 0, py - mark.y1), away = Math.hypot(dx, dy);
    if (away < nearest || away === 0) [best, nearest] = [mark, away];
  }
  return best && { ...best, x: Math.min(Math.max(px, best.x0), best.x1), y: (best.y0 + best.y1) / 2, px };
}
function showTip(box, found) {
  const { tip, svg } = box.chart;
  svg.querySelector(".spike")?.remove();
  tip.hidden = !found;
  if (!found) return;
  const [head, ...lines] = found.trace.text[found.index];
  const bold = document.createElement("b");
  bold.textContent = head;
  tip.replaceChildren(bold, ...lines.map((words) => {
    const line = document.createElement("span");
    line.textContent = words;
    return line;
  }));
  const { width, height, margin } = box.layout;
  if (found.trace.type === "reading") make("path", { class: "spike", d: `M${round(found.x)},${margin.t}V${height - margin.b}`, stroke: box.layout.font.color }, svg);
  const left = found.x + 12 + tip.offsetWidth > width ? found.x - 12 - tip.offsetWidth : found.x + 12;
  tip.style.left = `${Math.max(0, Math.min(left, width - tip.offsetWidth))}px`;
  tip.style.top = `${Math.max(0, Math.min(found.y - tip.offsetHeight / 2, height - tip.offsetHeight))}px`;
}
function listen(box) {
  box.listens = true;
  let from = null, drag = null;
  const place = (event) => event.clientX - box.getBoundingClientRect().left;
  box.addEventListener("pointermove", (event) => {
    if (from != null && box.layout.zooms && Math.abs(place(event) - from) > CLICK) {
      drag = drag || make("rect", { class: "drag", y: box.layout.margin.t, height: box.layout.height - box.layout.margin.t - box.layout.margin.b }, box.chart.svg);
      drag.setAttribute("x", Math.min(from, place(event)));
      drag.setAttribute("width", Math.abs(place(event) - from));
      showTip(box, null);
    } else showTip(box, under(box, event));
  });
  box.addEventListener("pointerleave", () => { if (from == null) showTip(box, null); });
  box.addEventListener("pointerdown", (event) => {
    if (event.button || !box.layout.zooms) return;
    from = place(event);
    box.setPointerCapture(event.pointerId);
  });
  const end = (event) => {
    if (drag) {
      const { all } = box.chart, range = [from, place(event)].map((px) => all.x.from(px));
      drag.remove();
      box.dragged = true;
      setTimeout(() => { box.dragged = false; });
      if (box.chartEvents?.zoom) box.chartEvents.zoom(Math.min(...range), Math.max(...range));
    }
    from = drag = null;
  };
  box.addEventListener("pointerup", end);
  box.addEventListener("pointercancel", () => { if (drag) drag.remove(); from = drag = null; });
  box.addEventListener("click", (event) => {
    const found = box.dragged ? null : under(box, event);
    if (found && box.chartEvents?.click) box.chartEvents.click(found, event);
    showTip(box, found);
  });
  box.addEventListener("dblclick", () => box.chartEvents?.reset && box.chartEvents.reset());
}
return { draw };
})();
