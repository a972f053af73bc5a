// The live page: asks for a run once, then follows its server-sent events. Texts of runs are set as text, never as HTML.

const at = (id) => document.getElementById(id);
const state = { run: null, rows: [], live: new Map(), source: null, curves: [], hidden: new Set(), metric: null, step: null };
const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a7a00", "#7d5ba6"];
const DASHES = ["", "7 3", "2 3", "9 3 2 3"];
const SHORT = { "eval/reward/total": "reward", "reward/mean": "reward", "train/loss": "loss" };
// as tables in the terminal call it
const shortName = (name) => SHORT[name] ?? name.replace(/^eval\/(reward\/)?/, "");
const ORDER = ["running", "failed", "interrupted", "ok", "cached", "pending", "skipped", "not run"];

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key === "text") made.textContent = value;
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

function drawn(name, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

async function ask(path) {
  const answer = await fetch(path);
  const body = await answer.json().catch(() => null);
  if (!answer.ok) throw new Error(body?.error ?? `${path}: ${answer.status}`);
  return body;
}

function problem(message) {
  at("problem").hidden = !message;
  at("problem").textContent = message ?? "";
}

const guarded = (work) => (...args) => Promise.resolve(work(...args)).catch((error) => problem(error.message));

function duration(seconds) {
  if (seconds === null || seconds === undefined) return "";
  const whole = Math.round(seconds);
  const pad = (value) => String(value).padStart(2, "0");
  if (whole < 60) return seconds < 10 ? `${seconds.toFixed(1)}s` : `${whole}s`;
  if (whole < 3600) return `${Math.floor(whole / 60)}m${pad(whole % 60)}s`;
  return `${Math.floor(whole / 3600)}h${pad(Math.floor((whole % 3600) / 60))}m`;
}

function number(value) {
  if (value === null || value === undefined) return "";
  const size = Math.abs(value);
  if (size !== 0 && (size < 0.001 || size >= 1e6)) return value.toExponential(2);
  return size >= 100 ? value.toFixed(1) : value.toFixed(3);
}

// ---- runs

async function listRuns() {
  const runs = await ask("/api/runs");
  const choice = at("run");
  const wanted = new URLSearchParams(location.search).get("run") ?? runs[0]?.run;
  choice.replaceChildren(...runs.map((run) => {
    const when = run.started_at ? new Date(run.started_at).toLocaleString() : "";
    const recipes = run.recipes.map((path) => path.split("/").pop()).join(" ");
    return element("option", { value: run.run, text: `${run.run.slice(-6)}  ${run.status}  ${recipes}  ${when}` });
  }));
  if (!runs.length) {
    problem("Nothing has been run here yet. `orchestrate run RECIPE` runs a recipe; this page then shows it.");
    at("connection").textContent = "no run";
    return;
  }
  choice.value = runs.some((run) => run.run === wanted) ? wanted : runs[0].run;
  await openRun(choice.value);
}

async function openRun(run) {
  state.source?.close();
  at("report").href = `/runs/${run}/report`;
  at("report").hidden = false;
  Object.assign(state, { run, rows: [], live: new Map(), curves: [], hidden: new Set(), step: null });
  problem(null);
  takeRun(await ask(`/api/runs/${run}`));
  await listMetrics();
  await showCompletions();
  const source = new EventSource(`/api/runs/${run}/events`);
  state.source = source;
  source.onopen = () => connection("live", true);
  source.onerror = () => connection("no connection; trying again", false);
  const on = (name, take) => source.addEventListener(name, (event) => take(JSON.parse(event.data)));
  on("run", takeRun);
  on("live", (lines) => {
    state.live = new Map(lines.map((line) => [line.key, line]));
    showRows();
  });
  on("steps", takeSteps);
  on("completions", takeCompletions);
  on("problem", problem);
}

function connection(text, live) {
  at("connection").textContent = text;
  at("connection").classList.toggle("live", live);
}

function takeRun(run) {
  const before = new Set(state.rows.filter((row) => row.status === "running").map((row) => row.key));
  state.rows = run.stages;
  state.about = run;
  if (run.unreadable_lines) problem(`${run.unreadable_lines} lines of the run's log cannot be read and are left out.`);
  showSummary();
  showRows();
  listCompletionStages();
  const began = state.rows.some((row) => row.status === "running" && !before.has(row.key));
  if (began && state.source) guarded(listMetrics)();
}

function showSummary() {
  const run = state.about;
  const count = (...statuses) => state.rows.filter((row) => statuses.includes(row.status)).length;
  const done = count("ok", "cached");
  const end = run.ended_at ? new Date(run.ended_at) : new Date();
  const elapsed = run.started_at ? (end - new Date(run.started_at)) / 1000 : null;
  const facts = [
    ["Status", run.status], ["Stages done", `${done} of ${state.rows.length}`], ["Cached", count("cached")],
    ["Running", count("running")], ["Failed", count("failed")], ["Elapsed", duration(elapsed)],
    ["Recipe", run.recipes.join(" ")],
  ];
  at("facts").replaceChildren(...facts.map(([name, value]) =>
    element("div", {}, element("dt", { text: name }), element("dd", { text: value }))));
  fill(at("whole"), done, state.rows.length);
  document.title = `${done}/${state.rows.length} ${run.status} · orchestrate`;
}

function fill(bar, value, total) {
  bar.setAttribute("aria-valuenow", value);
  bar.setAttribute("aria-valuemax", total);
  bar.firstElementChild.style.width = `${total ? (100 * value) / total : 0}%`;
}

// ---- stages

function matches(row, text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const about = `${row.stage} ${row.variant} ${row.status ?? ""} ${row.kind}`.toLowerCase();
  return words.every((word) => about.includes(word));
}

function variants(row) {
  const names = row.variant.split(" ").filter(Boolean);
  return names.length > 4 ? `${names.slice(0, 3).join(" ")} +${names.length - 3}` : names.join(" ");
}

function showRows() {
  const text = at("filter").value;
  const rows = state.rows.filter((row) => matches(row, text));
  rows.sort((a, b) => ORDER.indexOf(a.status) - ORDER.indexOf(b.status));
  at("shown").textContent = `${rows.length} of ${state.rows.length} stages`;
  at("rows").replaceChildren(...rows.slice(0, 500).map((row) => {
    const live = row.status === "running" ? state.live.get(row.key) : null;
    const progress = element("td", { class: "progress" });
    if (live) {
      const bar = element("div", { class: "bar", role: "progressbar", "aria-label": `Steps of ${row.stage}` }, element("span"));
      fill(bar, live.step, live.total_steps);
      progress.append(bar);
    }
    progress.append(live ? live.text : row.message ?? mainResults(row));
    const seconds = row.seconds ?? (row.started_at && live ? (Date.now() - new Date(row.started_at)) / 1000 : null);
    return element("tr", {},
      element("th", { scope: "row", text: row.stage }),
      element("td", { class: "variants", text: variants(row), title: row.variant }),
      element("td", { class: `status ${row.status.replace(" ", "-")}`, text: row.status }),
      progress,
      element("td", { class: "number", text: duration(seconds) }));
  }));
}

function mainResults(row) {
  const names = ["eval/accuracy", "eval/perplexity", "train/loss", "reward/mean"];
  const found = names.filter((name) => row.metrics[name]).slice(0, 3);
  return found.map((name) => {
    const { value, interval } = row.metrics[name];
    const range = interval ? ` [${number(interval[0])}, ${number(interval[1])}]` : "";
    return `${shortName(name)} ${number(value)}${range}`;
  }).join("  ");
}

// ---- curves

async function listMetrics() {
  const names = await ask(`/api/runs/${state.run}/metrics`);
  const choice = at("metric");
  const wanted = names.includes(state.metric) ? state.metric : names[0];
  choice.replaceChildren(...names.map((name) => element("option", { value: name, text: name })));
  state.metric = wanted ?? null;
  if (wanted) choice.value = wanted;
  await loadCurves();
}

async function loadCurves() {
  const metric = state.metric;
  const curves = metric ? await ask(`/api/runs/${state.run}/curves?metric=${encodeURIComponent(metric)}`) : [];
  if (metric !== state.metric) return;
  state.curves = curves;
  showCurves();
}

function takeSteps({ key, steps }) {
  let curve = state.curves.find((one) => one.key === key);
  if (!curve) {
    if (steps.some((step) => state.metric in step.metrics)) guarded(loadCurves)();
    else if (!state.metric) guarded(listMetrics)();
    return;
  }
  for (const step of steps) {
    const value = step.metrics[state.metric];
    // a resumed worker does steps again: what it says counts
    curve.points = curve.points.filter(([other]) => other < step.step);
    if (value !== undefined) curve.points.push([step.step, value, value, value]);
  }
  showCurves();
}

function showCurves() {
  const fitting = state.curves.filter((curve) => matches(curve, at("curve-filter").value));
  const curves = fitting.slice(0, 32);
  const look = (curve) => {
    const position = curves.indexOf(curve);
    return { stroke: COLOURS[position % COLOURS.length], "stroke-dasharray": DASHES[Math.floor(position / COLOURS.length) % DASHES.length] };
  };
  const shown = curves.filter((curve) => !state.hidden.has(curve.key) && curve.points.length);
  at("chart").replaceChildren(shown.length ? chart(shown, look) : element("p", { class: "quiet", text: "No steps yet." }));
  const thinned = shown.some((curve) => curve.steps > curve.points.length);
  const notes = [];
  if (thinned) notes.push("Long curves are means over stretches of steps; the shade is their lowest and highest value.");
  if (fitting.length > curves.length) notes.push(`${curves.length} of ${fitting.length} curves; filter to see others.`);
  at("chart-note").textContent = notes.join(" ");
  at("legend").replaceChildren(...curves.map((curve) => {
    const sample = drawn("svg", { width: 26, height: 8, "aria-hidden": "true" }, drawn("line", { x1: 0, x2: 26, y1: 4, y2: 4, "stroke-width": 2.5, ...look(curve) }));
    const button = element("button", { type: "button", "aria-pressed": String(!state.hidden.has(curve.key)), "data-key": curve.key }, sample, `${curve.stage} ${variants(curve)}`);
    button.addEventListener("click", () => {
      if (!state.hidden.delete(curve.key)) state.hidden.add(curve.key);
      showCurves();
      at("legend").querySelector(`[data-key="${curve.key}"]`)?.focus();
    });
    return element("li", {}, button);
  }));
  at("last").replaceChildren(...curves.filter((curve) => curve.points.length).map((curve) => {
    const [step, value] = curve.points.at(-1);
    return element("tr", {}, element("th", { scope: "row", text: curve.stage }), element("td", { class: "variants", text: curve.variant }),
      element("td", { class: "number", text: step }), element("td", { class: "number", text: number(value) }));
  }));
}

function ticks(low, high, wanted) {
  const rough = (high - low) / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-9; value += step) found.push(Number(value.toPrecision(12)));
  return found;
}

function chart(curves, look) {
  const [width, height, left, right, top, bottom] = [960, 330, 62, 12, 10, 34];
  const all = curves.flatMap((curve) => curve.points);
  const extent = (values) => values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
  let [first, last] = extent(all.map((point) => point[0]));
  let [low, high] = extent(all.flatMap((point) => [point[2], point[3]]));
  if (first === last) [first, last] = [first - 1, last + 1];
  const margin = (high - low) * 0.05 || Math.abs(high) * 0.1 || 1;
  [low, high] = [low - margin, high + margin];
  const x = (step) => left + ((step - first) / (last - first)) * (width - left - right);
  const y = (value) => top + ((high - value) / (high - low)) * (height - top - bottom);
  const name = `${state.metric} over steps, ${curves.length} ${curves.length === 1 ? "curve" : "curves"}; the last values are in the table below`;
  const svg = drawn("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": name });
  for (const value of ticks(low, high, 5)) {
    const label = drawn("text", { x: left - 8, y: y(value) + 4, "text-anchor": "end" });
    label.textContent = number(value).replace(/(\.\d*?)0+$/, "$1").replace(/\.$/, "");
    svg.append(drawn("line", { class: "grid", x1: left, x2: width - right, y1: y(value), y2: y(value) }), label);
  }
  for (const value of ticks(first, last, 8).filter(Number.isInteger)) {
    const label = drawn("text", { x: x(value), y: height - bottom + 18, "text-anchor": "middle" });
    label.textContent = value;
    svg.append(label);
  }
  const axis = drawn("text", { x: (left + width - right) / 2, y: height - 2, "text-anchor": "middle" });
  axis.textContent = "step";
  svg.append(axis);
  for (const curve of curves) {
    const place = (index) => (point) => `${x(point[0]).toFixed(1)},${y(point[index]).toFixed(1)}`;
    const { stroke } = look(curve);
    if (curve.points.some((point) => point[2] !== point[3])) {
      const outline = [...curve.points.map(place(3)), ...curve.points.map(place(2)).reverse()];
      svg.append(drawn("polygon", { class: "extent", points: outline.join(" "), fill: stroke }));
    }
    const title = drawn("title");
    title.textContent = `${curve.stage} ${curve.variant}: ${number(curve.points.at(-1)[1])} at step ${curve.points.at(-1)[0]}`;
    if (curve.points.length === 1) svg.append(drawn("circle", { cx: x(curve.points[0][0]), cy: y(curve.points[0][1]), r: 3, fill: stroke }, title));
    else svg.append(drawn("polyline", { class: "curve", points: curve.points.map(place(1)).join(" "), ...look(curve) }, title));
  }
  return svg;
}

// ---- completions

function listCompletionStages() {
  const choice = at("completion-stage");
  const rows = state.rows.filter((row) => ["grpo", "eval", "arena"].includes(row.kind) && ["running", "ok", "cached", "failed", "interrupted"].includes(row.status));
  const chosen = choice.value;
  const keys = rows.map((row) => row.key).join();
  if (choice.dataset.keys === keys) return;
  choice.dataset.keys = keys;
  choice.replaceChildren(...rows.map((row) => element("option", { value: row.key, text: `${row.stage}  ${variants(row)}` })));
  const running = rows.find((row) => row.status === "running");
  choice.value = rows.some((row) => row.key === chosen) ? chosen : (running ?? rows[0])?.key ?? "";
  if (choice.value !== chosen && state.source) guarded(showCompletions)();
}

async function showCompletions(step = null) {
  const key = at("completion-stage").value;
  state.step = step;
  if (!key) {
    at("completions-note").textContent = "Stages of the kinds grpo and eval sample completions.";
    at("completion-step").replaceChildren();
    at("cards").replaceChildren();
    return;
  }
  const found = await ask(`/api/runs/${state.run}/completions?key=${key}${step === null ? "" : `&step=${step}`}`);
  if (key !== at("completion-stage").value) return;
  at("completion-step").replaceChildren(
    element("option", { value: "", text: "newest" }),
    ...found.steps.toReversed().map((one) => element("option", { value: one, text: one })));
  at("completion-step").value = step ?? "";
  at("completions-note").textContent = found.completions.length ? `Step ${found.step}` : "None yet.";
  at("cards").replaceChildren(...found.completions.map(card));
}

function takeCompletions({ key, completions }) {
  if (key !== at("completion-stage").value || state.step !== null) return;
  const newest = completions.at(-1).step;
  const before = Number(at("cards").dataset.step);
  if (newest !== before) at("cards").replaceChildren();
  at("cards").dataset.step = newest;
  at("completions-note").textContent = `Step ${newest}`;
  const known = new Set([...at("cards").children].map((one) => one.dataset.id));
  at("cards").append(...completions.filter((one) => one.step === newest).map(card).filter((one) => !known.has(one.dataset.id)));
  const steps = at("completion-step");
  if (![...steps.options].some((option) => option.value === String(newest))) {
    steps.options[0]?.after(element("option", { value: newest, text: newest }));
  }
}

function card(completion) {
  const scores = element("ul", { class: "scores", "aria-label": "Scores" });
  if (completion.reward !== null) scores.append(element("li", { class: "total", text: `reward ${number(completion.reward)}` }));
  for (const [name, part] of Object.entries(completion.parts)) {
    const missing = part.value === null;
    scores.append(element("li", { class: missing ? "missing" : null, title: part.missing, text: `${name} ${missing ? "missing" : number(part.value)}` }));
  }
  if (completion.advantage !== null) scores.append(element("li", { text: `advantage ${number(completion.advantage)}` }));
  const half = (title, text) => element("div", {}, element("h4", { text: title }), element("pre", { text }));
  const pair = element("div", { class: "pair" }, half(`Completion (${completion.tokens} tokens${completion.stop_reason === "length" ? ", cut" : ""})`, completion.completion));
  if (completion.reference) pair.append(half(completion.answer ? `Reference, answer ${completion.answer}` : "Reference", completion.reference));
  return element("article", { "data-id": `${completion.step}/${completion.row}/${completion.index}` },
    element("h3", { text: `row ${completion.row}, completion ${completion.index}` }),
    element("details", {}, element("summary", { text: "Prompt" }), element("pre", { text: completion.prompt })),
    pair, scores);
}

// ---- colours

const THEMES = ["auto", "light", "dark"];

function theme(name) {
  if (name === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  at("theme").textContent = `Colours: ${name}`;
  localStorage.setItem("theme", name);
}

at("theme").addEventListener("click", () => {
  const now = localStorage.getItem("theme") ?? "auto";
  theme(THEMES[(THEMES.indexOf(now) + 1) % THEMES.length]);
});
theme(THEMES.includes(localStorage.getItem("theme")) ? localStorage.getItem("theme") : "auto");

at("run").addEventListener("change", guarded((event) => {
  history.replaceState(null, "", `?run=${event.target.value}`);
  return openRun(event.target.value);
}));
at("filter").addEventListener("input", showRows);
at("curve-filter").addEventListener("input", showCurves);
at("metric").addEventListener("change", guarded((event) => {
  state.metric = event.target.value;
  return loadCurves();
}));
at("completion-stage").addEventListener("change", guarded(() => showCompletions()));
at("completion-step").addEventListener("change", guarded((event) => showCompletions(event.target.value ? Number(event.target.value) : null)));
setInterval(() => state.about && showSummary(), 1000);
guarded(listRuns)();
