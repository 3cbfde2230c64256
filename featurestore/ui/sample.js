// Reads a random sample of ids, and shows for each feature how much is missing and how its values lie.

import { bars, histogram, quantile, rangeWords } from "./charts.js";
import { arrows, facts, h, table, td, th, tr } from "./dom.js";
import { viewHash } from "./route.js";
import * as server from "./server.js";
import { count, figure, isNumber, isVector, local, meter, percent, share, visible } from "./values.js";

const SIZES = [100, 200, 500, 1000], TOPS = 12;

export class SampleView {
  constructor(app, entity) {
    Object.assign(this, { app, entity, found: null });
    this.size = h("select", { "aria-label": "Ids in the sample", onchange: () => this.again() }, SIZES.map((each) => h("option", { value: each, selected: each === 200 }, `${each} ids`)));
    this.told = h("span", { class: "quiet" });
    this.detail = h("div");
    this.list = h("div");
    this.node = h("div", null, h("div", { class: "row" }, this.size, h("button", { type: "button", onclick: () => this.again() }, "New sample"), this.told), this.detail, this.list);
  }

  fail(problem) {
    this.found = null;
    this.detail.replaceChildren();
    this.list.replaceChildren(problem);
  }

  async again() {
    this.found = null;
    try {
      await this.update(this.route, new AbortController().signal);
    } catch (error) {
      this.fail(this.app.problem(error));
    }
  }

  async update(route, signal) {
    this.route = route;
    if (!this.found) {
      const [schema, drawn] = await Promise.all([server.schema(this.entity, signal), server.sample(this.entity, Number(this.size.value), signal)]);
      const names = Object.keys(schema.features).filter((name) => !isVector(schema.features[name]) || schema.options?.[name]?.always);
      const rows = drawn.ids.length && names.length ? await server.batch(this.entity, drawn.ids, names, signal) : [];
      this.found = { schema, drawn, rows, summaries: new Map(names.map((name) => [name, summary(rows, name, schema.features[name])])) };
      this.tell();
    }
    const { schema, summaries, drawn } = this.found, name = route.feature;
    if (name && !(name in schema.features)) throw new server.Problem(404, `${this.entity} has no feature ${name}.`);
    if (name && drawn.ids.length && !summaries.has(name)) {
      summaries.set(name, summary(await server.batch(this.entity, drawn.ids, [name], signal), name, schema.features[name]));
    }
    this.detail.replaceChildren(...(name && summaries.has(name) && drawn.ids.length ? [detail(name, schema, summaries.get(name))] : []));
    for (const row of this.list.querySelectorAll("tr[data-name]")) {
      row.className = row.dataset.name === name ? "chosen" : "";
      row.querySelector("a").toggleAttribute("aria-current", row.dataset.name === name);
    }
    this.detail.hidden = !this.detail.firstChild;
  }

  tell() {
    const { schema, drawn, rows, summaries } = this.found;
    const gone = rows.filter((row) => row.features === null).length;
    this.told.textContent = `${count(drawn.ids.length)} of ${count(drawn.known)} known ids, read ${local(Date.now()).slice(11)}${gone ? `; ${gone} have no features any more` : ""}`;
    if (!drawn.ids.length) {
      this.list.replaceChildren(h("div", { class: "card empty" }, h("h2", null, "No id is known yet"), h("code", null, `featurestore load rows.ndjson --entity ${this.entity}`)));
      return;
    }
    const left = Object.keys(schema.features).filter((name) => !summaries.has(name));
    const rowsShown = [...summaries].map(([name, each]) => tr({ "data-name": name },
      th(null, h("a", { class: "mono feature", href: viewHash("sample", this.entity, name) }, name)),
      td({ class: "type" }, schema.features[name]),
      td({ "data-label": "null" }, share(each.nulls, "missing")),
      td({ class: "main" }, small(each)),
      td({ class: "quiet" }, each.words)));
    this.list.replaceChildren(arrows(h("div", { class: "card" },
      table("stack middle", "Distributions in the sample", ["Feature", "Type", "Null", "Distribution", "In words"], rowsShown),
      left.length > 0 && h("p", { class: "foot" }, "Read only when chosen: ", left.map((name, at) => [at > 0 && ", ", h("a", { class: "mono", href: viewHash("sample", this.entity, name) }, name)]))), "a.feature"));
  }
}

/** Return what the sample tells of a feature. */
function summary(rows, name, type) {
  const known = rows.filter((row) => row.features !== null), values = known.map((row) => row.features[name]).filter((each) => each !== null && each !== undefined);
  const statuses = {};
  for (const row of known) {
    const status = row.metadata?.statuses?.[name];
    if (status) statuses[status] = (statuses[status] || 0) + 1;
  }
  const found = { type, rows: known.length, values: values.length, nulls: known.length ? 1 - values.length / known.length : 0, statuses, words: "no value in this sample" };
  if (!values.length) return found;
  if (type === "bool") {
    found.yes = values.filter(Boolean).length / values.length;
    found.words = `${percent(found.yes)} true`;
  } else if (isVector(type)) {
    found.what = "length (Euclidean norm)";
    numbers(found, values.map((each) => Math.hypot(...each)));
  } else if (isNumber(type)) {
    numbers(found, values.map(Number));
  } else {
    const counts = new Map();
    for (const each of values) counts.set(each, (counts.get(each) || 0) + 1);
    found.tops = [...counts].sort((one, other) => other[1] - one[1] || (one[0] < other[0] ? -1 : 1));
    found.words = `${count(counts.size)} different, most often “${visible(found.tops[0][0]).slice(0, 24)}”`;
  }
  return found;
}

function numbers(found, values) {
  const sorted = Float64Array.from(values).sort();
  const at = (part) => quantile(sorted, part), mean = values.reduce((sum, each) => sum + each / values.length, 0);
  found.histogram = histogram([...sorted]);
  found.figures = [["least", at(0)], ["1 %", at(0.01)], ["25 %", at(0.25)], ["median", at(0.5)], ["mean", mean], ["75 %", at(0.75)], ["99 %", at(0.99)], ["largest", at(1)]];
  found.words = sorted[0] === sorted[sorted.length - 1] ? `always ${figure(sorted[0])}` : `${figure(at(0))} to ${figure(at(1))}, median ${figure(at(0.5))}`;
}

function small(found) {
  if (found.histogram) return found.histogram.counts.length < 2 ? "" : bars(found.histogram.counts, found.words, { small: true });
  if (found.tops) return bars(found.tops.slice(0, 24).map(([, each]) => each), found.words, { small: true });
  return found.yes === undefined ? "" : share(found.yes);
}

function detail(name, schema, found) {
  const parts = ["PRESENT", "DEFAULT", "MISSING", "STALE"].filter((each) => found.statuses[each]).map((each) => [each.toLowerCase(), percent(found.statuses[each] / found.rows)]);
  const description = schema.options?.[name]?.description;
  return h("div", { class: "card", "data-detail": name },
    h("div", { class: "head" }, h("h2", { class: "mono" }, name), h("span", { class: "quiet" }, found.type), description && h("span", { class: "quiet" }, visible(description))),
    h("div", { class: "body split" }, chart(found), h("div", null,
      facts([["values", `${count(found.values)} of ${count(found.rows)}`], ["null", percent(found.nulls)], ...parts]),
      found.figures && facts(found.figures.map(([text, value]) => [text, figure(value)])))));
}

function chart(found) {
  if (found.histogram) {
    const { beyond, counts } = found.histogram;
    return h("div", null, h("p", { class: "quiet" }, `${found.what || "values"}: ${rangeWords(found.histogram)}${beyond ? `; ${count(beyond)} far beyond, not drawn` : ""}`),
      bars(counts, `Histogram of ${found.words}`, {}), h("div", { class: "axis" }, h("span", null, figure(found.histogram.low)), h("span", null, figure(found.histogram.high))));
  }
  if (found.yes !== undefined) return top([["true", found.yes], ["false", 1 - found.yes]], (text) => text);
  if (found.tops) {
    const rest = found.tops.slice(TOPS).reduce((sum, [, each]) => sum + each, 0);
    return h("div", null, top(found.tops.slice(0, TOPS).map(([text, each]) => [text, each / found.values]), (text) => `"${visible(text).slice(0, 60)}"`),
      rest > 0 && h("p", { class: "quiet" }, `${count(found.tops.length - TOPS)} others, ${percent(rest / found.values)}`));
  }
  return h("p", { class: "quiet" }, "No value in this sample.");
}

const top = (pairs, written) => h("div", { class: "tops" }, pairs.map(([text, part]) => [h("bdi", { class: "value" }, written(text)), meter(part / pairs[0][1] || 0), h("span", { class: "quiet" }, percent(part))]));
