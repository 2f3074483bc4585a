// The page of `reprise compare`: a table to sort and filter, charts of the rows that are ticked. All text is set as text.
"use strict";

const found = JSON.parse(document.getElementById("data").textContent);
const FIRST_DRAWN = 6, CHIPS = 5;
const LIGHT = ["#0072b2", "#d55e00", "#009e73", "#b5518e", "#b87d00", "#3b8fc4", "#6a4c9c", "#6b6b6b"];
const DARK = ["#4fb0ee", "#ff8f50", "#35cf9f", "#ee9ecb", "#f2c04d", "#9bd7fa", "#bfa0ea", "#b4b4b4"];
const DASHES = ["solid", "dash", "dot", "dashdot"];
const at = (id) => document.getElementById(id);
const dash = "–";
let table, drawn, order;

function make(tag, classes, ...children) {
  const node = document.createElement(tag);
  if (classes) node.className = classes;
  node.append(...children);
  return node;
}

const grouped = (value) => value === null ? dash : Math.round(value).toLocaleString("en-US");
const seconds = (value) => value === null ? dash : value < 10 ? `${value.toFixed(1)} s` : value < 600 ? `${Math.round(value)} s` : `${(value / 60).toFixed(1)} min`;
const megabytes = (value) => value === null ? dash : `${grouped(value / 1e6)} MB`;
const figure = (value) => value.toFixed(table.decimals);
const plain = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;"); // Plotly reads a little HTML in what it writes
const label = (group) => `${group.rank} ${group.name}${group.telling}`;
const said = (value) => value ?? dash;

const COLUMNS = [
  { title: "experiment", value: (g) => g.name, cell: nameCell, classes: "name" },
  { title: "#", value: (g) => g.rank, cell: (g) => [String(g.rank)], classes: "number" },
  { title: "", value: (g) => g.mean, cell: meanCell, classes: "number mean" },
  { title: "95 % interval", value: (g) => g.interval && g.interval[1] - g.interval[0], cell: whisker },
  { title: "seeds", value: (g) => g.n, cell: (g) => [String(g.n)], classes: "number" },
  { title: "against the next", value: (g) => g.words, cell: badge },
  { title: "parameters", value: (g) => g.parameters, cell: (g) => [grouped(g.parameters)], classes: "number" },
  { title: "training", value: (g) => g.train_seconds, cell: (g) => [seconds(g.train_seconds)], classes: "number" },
  { title: "samples/s", value: (g) => g.samples_per_second, cell: (g) => [grouped(g.samples_per_second)], classes: "number" },
  { title: "peak memory", value: (g) => g.peak_memory, cell: (g) => [megabytes(g.peak_memory)], classes: "number" },
  { title: "config", value: (g) => g.searched, cell: chips },
];

function nameCell(group) {
  const box = make("input"), dot = make("span", "dot");
  box.type = "checkbox";
  box.checked = drawn.includes(group);
  box.ariaLabel = `Draw ${label(group)}`;
  box.addEventListener("change", () => {
    drawn = box.checked ? [...drawn, group] : drawn.filter((other) => other !== group);
    draw();
  });
  group.dot = dot;
  const tick = make("label", "tick", box, dot, make("span", "", group.name));
  tick.title = group.name;
  return [tick];
}

function meanCell(group) {
  return group.std === null ? [figure(group.mean)] : [figure(group.mean), make("span", "std", ` ± ${figure(group.std)}`)];
}

function whisker(group) {
  const place = (value) => `${100 * Math.min(1, Math.max(0, (value - table.from) / (table.to - table.from || 1)))}%`;
  const shown = make("div", "whisker");
  if (group.interval) {
    const line = make("i"), [low, high] = group.interval;
    line.style.left = place(low);
    line.style.right = `calc(100% - ${place(high)})`;
    shown.append(line);
    shown.title = `${figure(low)} – ${figure(high)}`;
  }
  const dot = make("b");
  dot.style.left = place(group.mean);
  shown.append(dot);
  return [shown];
}

function badge(group) {
  const [verdict, hint] = group.words.split(": ");
  const shown = make("span", `badge ${verdict.split(" ")[0]}`, verdict);
  return hint ? [shown, make("span", "hint", hint)] : [shown];
}

function chips(group) {
  const first = table.groups[0], shown = make("div", "chips");
  const sorted = [...table.differing].sort((a, b) => isOther(b, group, first) - isOther(a, group, first));
  for (const key of sorted.slice(0, CHIPS)) {
    const chip = make("span", isOther(key, group, first) ? "chip other" : "chip", `${key}=${said(group.config[key])}`);
    chip.title = chip.textContent;
    shown.append(chip);
  }
  if (sorted.length > CHIPS) shown.append(make("span", "hint", `+${sorted.length - CHIPS}`));
  return [shown];
}

const isOther = (key, group, first) => group.config[key] !== first.config[key];

function open(chosen) {
  table = chosen;
  table.decimals = table.decimals ?? digits(Math.abs(table.groups[0].mean));
  scale();
  for (const group of table.groups)
    group.searched = group.searched ?? [group.name, group.words, ...Object.entries(group.config).map(([key, value]) => `${key}=${said(value)}`), ...group.runs.map((run) => run.name)].join(" ").toLowerCase();
  tell_apart();
  drawn = table.groups.slice(0, FIRST_DRAWN);
  order = { column: COLUMNS[1], down: false };
  COLUMNS[2].title = table.metric;
  for (const [place, button] of [...at("sets").children].entries()) {
    button.ariaPressed = String(found.tables[place] === table);
    if (found.tables[place] === table) button.scrollIntoView({ block: "nearest", inline: "center" });
  }
  at("title").textContent = `${table.data}: ${table.metric}, ${table.higher_is_better ? "higher" : "lower"} is better`;
  at("summary").textContent = summary();
  at("filter").value = "";
  head();
  const body = at("groups").tBodies[0];
  for (const group of table.groups) {
    group.row = make("tr");
    for (const column of COLUMNS) group.row.append(make("td", column.classes ?? "", ...column.cell(group)));
  }
  body.replaceChildren(...table.groups.map((group) => group.row));
  filter();
  pictures();
  draw();
}

const digits = (best) => best ? Math.min(8, Math.max(0, 3 - Math.floor(Math.log10(best)))) : 4;

/** Groups of one name are called by the settings that tell most of them apart as well, by two at most. */
function tell_apart() {
  const keys = [];
  const told = (...more) => new Set(table.groups.map((group) => JSON.stringify([group.name, ...[...keys, ...more].map((key) => group.config[key])]))).size;
  while (keys.length < 2 && told() < table.groups.length) {
    const next = table.differing.reduce((best, key) => best && told(best) >= told(key) ? best : key, null);
    if (!next || told(next) === told()) break;
    keys.push(next);
  }
  const named = Map.groupBy(table.groups, (group) => group.name);
  for (const group of table.groups)
    group.telling = named.get(group.name).length > 1 ? keys.map((key) => `, ${key.split(".").at(-1)}=${said(group.config[key])}`).join("") : "";
}

/** Where whiskers begin and end: all means, and the usual interval beside them; what reaches further is cut off. */
function scale() {
  const means = table.groups.map((group) => group.mean);
  const halves = table.groups.filter((group) => group.interval).map((group) => (group.interval[1] - group.interval[0]) / 2).sort((a, b) => a - b);
  const beside = halves.length ? halves[Math.floor(halves.length / 2)] : 0;
  table.from = Math.min(...means) - beside;
  table.to = Math.max(...means) + beside;
}

function summary() {
  const first = table.groups[0], test = table.metric.startsWith("test/") ? " Of runs that `evaluate` opened, alone." : "";
  return `${table.groups.length} configs, ${table.groups.reduce((sum, group) => sum + group.n, 0)} runs. First is ${first.name} with ${figure(first.mean)}: ${first.words.replace(":", ";")}.${test}`;
}

function head() {
  const row = make("tr");
  for (const column of COLUMNS) {
    const cell = make("th", column.classes ?? "", make("button", "", column.title));
    cell.scope = "col";
    if (order.column === column) cell.ariaSort = order.down ? "descending" : "ascending";
    cell.firstChild.type = "button";
    cell.firstChild.addEventListener("click", () => sort(column));
    row.append(cell);
  }
  at("groups").tHead.replaceChildren(row);
}

function sort(column) {
  order = { column, down: order.column === column && !order.down };
  const sign = order.down ? -1 : 1;
  const compare = (a, b) => {
    const [one, other] = [column.value(a), column.value(b)];
    if (one === null || other === null) return (one === null) - (other === null); // what is not known goes last
    return sign * (typeof one === "string" ? one.localeCompare(other, "en", { numeric: true }) : one - other) || a.rank - b.rank;
  };
  at("groups").tBodies[0].append(...[...table.groups].sort(compare).map((group) => group.row));
  head();
}

function filter() {
  const words = at("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const group of table.groups) {
    group.row.hidden = !words.every((word) => group.searched.includes(word));
    shown += !group.row.hidden;
  }
  at("count").textContent = shown === table.groups.length ? `${shown} configs` : `${shown} of ${table.groups.length} configs`;
}

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

const colour = (place, alpha = "") => (isDark() ? DARK : LIGHT)[place % LIGHT.length] + alpha;

function layout(more) {
  const body = getComputedStyle(document.body), line = getComputedStyle(document.querySelector("section")).borderTopColor;
  const axis = { gridcolor: line, zeroline: false, linecolor: line, automargin: true, ticks: "outside", tickcolor: line, title: { standoff: 8 } };
  return {
    paper_bgcolor: "transparent", plot_bgcolor: "transparent", hovermode: "closest", margin: { l: 56, r: 12, t: 8, b: 44 },
    font: { family: body.fontFamily, size: 13, color: body.color }, showlegend: false, ...more,
    xaxis: { ...axis, ...more.xaxis, title: { ...axis.title, text: more.xaxis.text } },
    yaxis: { ...axis, title: { ...axis.title, text: plain(table.metric) }, ...more.yaxis },
  };
}

const TOOLS = { responsive: true, displaylogo: false, displayModeBar: false, typesetMath: false };

function draw() {
  drawn.sort((a, b) => a.rank - b.rank);
  for (const group of table.groups) group.dot.style.background = drawn.includes(group) ? colour(drawn.indexOf(group)) : "";
  for (const [id, chart] of Object.entries(CHARTS)) if (near.has(id)) chart();
  differences();
}

const CHARTS = {
  "curves": curves,
  "against-time": () => pareto("against-time", "train_seconds", "training, seconds"),
  "against-parameters": () => pareto("against-parameters", "parameters", "parameters"),
};
const near = new Set(); // charts that were scrolled to: the others wait, so that the table is there at once
const watcher = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries)
    if (isIntersecting && !near.has(target.id)) {
      near.add(target.id);
      CHARTS[target.id]();
    }
}, { rootMargin: "300px" });

function curves() {
  const traces = [], settled = [];
  for (const [place, group] of drawn.entries()) {
    const { epochs, mean, low, high } = group.curve;
    const shared = { x: epochs, legendgroup: String(group.rank), mode: "lines" };
    if (group.n > 1)
      traces.push({ ...shared, x: [...epochs, ...[...epochs].reverse()], y: [...high, ...[...low].reverse()], fill: "toself", fillcolor: colour(place, "2e"), line: { width: 0 }, hoverinfo: "skip", showlegend: false });
    traces.push({ ...shared, y: mean, name: plain(label(group)), line: { color: colour(place), width: 2, dash: DASHES[Math.floor(place / LIGHT.length) % DASHES.length] }, hovertemplate: "epoch %{x}: %{y}" });
    const from = Math.floor(epochs.length / 6);
    settled.push(...low.slice(from), ...high.slice(from));
  }
  at("curves").style.height = matchMedia("(max-width: 720px)").matches ? `${300 + 25 * drawn.length}px` : ""; // room for a list of names
  const [least, most] = [Math.min(...settled), Math.max(...settled)], room = 0.06 * (most - least) || 0.01;
  Plotly.react("curves", traces, layout({
    xaxis: { text: "epoch", rangemode: "tozero" },
    yaxis: { title: { text: plain(table.curve_metric) }, ...(settled.length ? { range: [least - room, most + room] } : {}) },
    showlegend: true, legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" },
  }), TOOLS);
}

function pareto(place, cost, title) {
  const known = table.groups.filter((group) => group[cost] !== null), sign = table.higher_is_better ? 1 : -1;
  const front = [];
  for (const group of [...known].sort((a, b) => a[cost] - b[cost] || sign * (b.mean - a.mean)))
    if (!front.length || sign * (group.mean - front.at(-1).mean) > 0) front.push(group);
  const points = (groups, more) => ({
    type: "scatter", mode: "markers", x: groups.map((group) => group[cost]), y: groups.map((group) => group.mean),
    customdata: groups.map((group) => plain(label(group))), hovertemplate: "%{customdata}<br>%{x}, %{y}<extra></extra>", ...more,
  });
  const faint = getComputedStyle(at("asked")).color;
  const shades = drawn.map((group, position) => [group, colour(position)]).filter(([group]) => group[cost] !== null);
  Plotly.react(place, [
    points(front, { mode: "lines", line: { color: faint, width: 1.5, dash: "dot" }, hoverinfo: "skip", hovertemplate: null }),
    points(known.filter((group) => !drawn.includes(group)), { marker: { color: faint, size: 7, opacity: 0.5 } }),
    ...shades.map(([group, shade]) => points([group], {
      mode: "markers+text", text: [String(group.rank)], textposition: "top right", textfont: { color: shade },
      marker: { color: shade, size: 10 }, error_y: { type: "data", array: [group.std ?? 0], color: shade, thickness: 1.2, width: 3 },
    })),
  ], layout({ xaxis: { text: title, type: "log", ...ticks(known.map((group) => group[cost])) } }), TOOLS);
}

/** Of a logarithmic axis: powers of ten, or 1, 2 and 5 of each, or 1 to 9; Plotly's own leave out which power. */
function ticks(values) {
  const [least, most] = [Math.min(...values), Math.max(...values)].map(Math.log10), powers = [];
  for (let power = Math.floor(least) - 1; power <= Math.ceil(most); power += 1) powers.push(10 ** power);
  const steps = most - least > 2 ? [1] : most - least > 0.5 ? [1, 2, 5] : [1, 2, 3, 4, 5, 6, 7, 8, 9];
  const shown = powers.flatMap((power) => steps.map((step) => step * power));
  return { tickvals: shown, ticktext: shown.map((value) => value.toLocaleString("en-US", { notation: "compact", maximumSignificantDigits: 2 })) };
}

function differences() {
  const keys = table.differing.filter((key) => new Set(drawn.map((group) => group.config[key])).size > 1);
  at("differences").hidden = !keys.length;
  const row = make("tr", "", make("th", "", "key"));
  for (const [place, group] of drawn.entries()) {
    const dot = make("span", "dot");
    dot.style.background = colour(place);
    row.append(make("th", "", dot, label(group)));
  }
  at("config").tHead.replaceChildren(row);
  at("config").tBodies[0].replaceChildren(...keys.map((key) => {
    const line = make("tr", "", make("th", "", key));
    line.firstChild.title = key;
    for (const group of drawn) {
      const cell = make("td", isOther(key, group, drawn[0]) ? "other" : "", said(group.config[key]));
      cell.title = cell.textContent;
      line.append(cell);
    }
    return line;
  }));
}

function pictures() {
  const with_picture = table.groups.filter((group) => group.picture);
  at("pictures").hidden = !with_picture.length;
  for (const [position, side] of ["left", "right"].entries()) {
    const choice = at(side), image = choice.nextElementSibling;
    choice.replaceChildren(...with_picture.map((group) => new Option(`${label(group)} (${group.picture.run})`)));
    const show = () => {
      const { picture } = with_picture[choice.selectedIndex] ?? {};
      if (picture) [image.src, image.alt] = [picture.source, `${picture.file} of ${picture.run}`];
    };
    choice.selectedIndex = Math.min(position, with_picture.length - 1);
    choice.onchange = show;
    show();
  }
}

function left_out() {
  at("left-out").hidden = !found.left_out.length;
  const reasons = Map.groupBy(found.left_out, (run) => run.why);
  at("left-out").lastElementChild.replaceChildren(...[...reasons].map(([why, runs]) => make("details", "",
    make("summary", "", `${runs.length} ${runs.length === 1 ? "run" : "runs"}: ${why}`),
    make("ul", "", ...runs.map((run) => make("li", "", run.name))))));
}

at("asked").textContent = found.command;
at("filter").addEventListener("input", filter);
at("theme").addEventListener("click", () => {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  if (table) draw();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => table && draw());
left_out();
if (found.tables.length > 1)
  at("sets").append(...found.tables.map((one) => {
    const button = make("button", "", one.data);
    button.type = "button";
    button.addEventListener("click", () => open(one));
    return button;
  }));
const runs = (one) => one.groups.reduce((sum, group) => sum + group.n, 0);
addEventListener("DOMContentLoaded", () => { // Plotly comes last, so that the table is seen first
  for (const id of Object.keys(CHARTS)) watcher.observe(at(id));
});
open(found.tables.reduce((most, one) => runs(one) > runs(most) ? one : most));
