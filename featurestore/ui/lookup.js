// Looks ids up: one with all that is known of it, or several side by side.

import { arrows, chip, facts, h, setText, table, td, th, tr } from "./dom.js";
import { joinIds, lookupHash, splitIds, viewHash } from "./route.js";
import * as server from "./server.js";
import { ago, count, iso, isVector, isWindow, local, span, timeNode, valueKey, valueNode, visible } from "./values.js";
import { WritePanel } from "./writing.js";

const MOST = 20, FOLLOW_MS = 2000, SUGGESTED = 5;
const STATUSES = { PRESENT: ["present", "plain"], MISSING: ["missing", "warn"], DEFAULT: ["default", "info"], STALE: ["stale", "warn"] };
const ROWS = {
  current: ["current", "good", "reads hand it on as it is stored"],
  older: ["of an older schema", "warn", "reads make it anew; featurestore repack brings it up to date"],
  missing: ["missing", "warn", "something else wrote the hash; reads make the row, featurestore repack stores it"],
  deleted: ["deleted", "bad", "a tombstone: late events do not bring it back"],
  nothing: ["nothing stored", "", "Redis has no hash for this id"],
  "no hash": ["not a hash", "bad", "something else is stored at its key"],
};

export class LookupView {
  constructor(app, entity) {
    Object.assign(this, { app, entity, shape: "" });
    this.input = h("input", { id: "ids", name: "ids", autocomplete: "off", autocapitalize: "none", spellcheck: "false",
      placeholder: "an id, or several with commas", "aria-describedby": "hint" });
    this.service = h("select", { name: "service", onchange: () => this.go() });
    this.others = h("div", { class: "row" });
    this.form = h("form", { class: "look", role: "search", onsubmit: (event) => { event.preventDefault(); this.go(); } },
      h("label", { class: "ids" }, "Ids", this.input), this.others, h("label", null, "Features", this.service),
      h("button", { class: "primary" }, "Look up"));
    this.hint = h("div", { id: "hint", class: "row quiet" });
    this.result = h("div");
    this.result.setAttribute("class", "result");
    this.writing = new WritePanel(app, entity, () => this.refresh());
    this.node = h("div", null, this.form, this.hint, this.result, this.writing.node);
    this.followed = h("input", { type: "checkbox" });
    this.only = h("input", { type: "checkbox", onchange: () => this.grid?.classList.toggle("only", this.only.checked) });
    this.timer = setInterval(() => this.followed.checked && this.route?.ids.length && !document.hidden && this.refresh(), FOLLOW_MS);
  }

  close() { clearInterval(this.timer); }

  focus() { this.input.focus(); this.input.select(); }

  shown() {
    if (this.app.wantsFocus || !this.route?.ids.length) if (!matchMedia("(pointer: coarse)").matches) this.focus();
    this.app.wantsFocus = false;
  }

  go() {
    const ids = splitIds(this.input.value), params = { service: this.service.value };
    if (params.service) for (const input of this.others.querySelectorAll("input")) params[`id.${input.name}`] = input.value.trim();
    const hash = lookupHash(this.entity, ids, params);
    if (location.hash === hash) this.refresh();
    else location.hash = hash;
  }

  fail(problem) {
    this.shape = "";
    this.result.replaceChildren(problem);
    this.writing.show(null);
  }

  async refresh() {
    try {
      await this.update(this.route, new AbortController().signal);
    } catch (error) {
      if (error.name !== "AbortError") this.fail(this.app.problem(error));
    }
  }

  async update(route, signal) {
    const moved = this.route !== route;
    this.route = route;
    if (moved && document.activeElement !== this.input) this.input.value = joinIds(route.ids);
    const schema = await server.schema(this.entity, signal);
    if (this.route !== route) return;
    this.schema = schema;
    this.offer(route, schema);
    if (!route.ids.length) return this.start(signal);
    if (route.ids.length > MOST) throw new server.Problem(422, `${route.ids.length} ids: at most ${MOST} fit side by side.`);
    const columns = await this.read(route, schema, signal);
    if (this.route !== route) return;
    this.hint.replaceChildren();
    this.show(columns);
    this.writing.show(columns.length === 1 && !columns.foreign ? columns[0] : null, schema);
  }

  /** Offer the services, and an input for each other entity that the chosen one is of. */
  offer(route, schema) {
    const chosen = route.params.get("service") || "", names = Object.keys(schema.services || {}).sort();
    if (chosen && !names.includes(chosen)) names.push(chosen);
    const key = JSON.stringify([chosen, names, schema.services?.[chosen]]);
    if (this.offered !== key) {
      this.offered = key;
      this.service.replaceChildren(h("option", { value: "" }, "all"), ...names.map((name) => h("option", { value: name }, `service ${name}`)));
      this.service.value = chosen;
      const entities = new Set((schema.services?.[chosen] || []).map(entityOf).filter((each) => each && each !== this.entity));
      this.others.replaceChildren(...[...entities].map((name) => h("label", null, `${name} id`,
        h("input", { name, autocomplete: "off", spellcheck: "false", class: "mono" }))));
    }
    for (const input of this.others.querySelectorAll("input"))
      if (document.activeElement !== input) input.value = route.params.get(`id.${input.name}`) || "";
  }

  async start(signal) {
    this.shape = "";
    this.writing.show(null);
    const held = this.app.held(this.entity), found = await this.suggested(signal);
    const some = found.ids.slice(0, SUGGESTED);
    this.hint.replaceChildren(...(some.length ? ["Some ids:", ...some.map((id) => h("a", { class: "mono", href: lookupHash(this.entity, [id]) }, visible(id).slice(0, 60)))] : []));
    const words = found.known !== 0
      ? [h("p", null, "Look one up, or compare several: put commas between ids."),
        some.length > 1 && h("p", null, h("a", { href: lookupHash(this.entity, some.slice(0, 3)) }, `Compare ${some.slice(0, 3).map((id) => visible(id).slice(0, 30)).join(", ")}`))]
      : [h("p", null, "No id is known yet. Load rows, and they are here:"), h("code", null, `featurestore load rows.ndjson --entity ${this.entity}`)];
    this.result.replaceChildren(h("div", { class: "card empty" },
      h("h2", null, found.known === null ? this.entity : `${count(found.known)} known ${found.known === 1 ? "id" : "ids"} of ${this.entity}`), words,
      held?.description && h("p", { class: "quiet" }, visible(held.description))));
  }

  /** Return some ids, and how many there are; none where the server's Redis user may not ask. */
  async suggested(signal) {
    try {
      return await server.sample(this.entity, SUGGESTED, signal);
    } catch (error) {
      if (!error.denied) throw error;
      return { known: null, ids: [] };
    }
  }

  /** Return a column for each id: its values and statuses by name, and what is stored. */
  async read(route, schema, signal) {
    const service = route.params.get("service");
    if (service && !schema.services?.[service]) throw new server.Problem(404, `${this.entity} has no service ${service}.`);
    const names = service ? schema.services[service] : Object.keys(schema.features);
    const foreign = names.some((name) => entityOf(name) && entityOf(name) !== this.entity);
    const states = server.stored(this.entity, route.ids, signal);
    if (foreign) return this.readQuery(route, schema, names, await states, signal);
    const bare = names.map((name) => name.slice(name.indexOf(":") + 1));
    const [rows, told] = await Promise.all([server.batch(this.entity, route.ids, bare, signal), states]);
    return rows.map((row, place) => ({
      id: route.ids[place], names: bare, stored: told.stored[place], known: row.features !== null,
      values: row.features || {}, statuses: row.metadata?.statuses || {},
      event_time: row.metadata?.event_time ?? null, age_ms: row.metadata?.age_ms ?? null, types: schema.features,
    }));
  }

  async readQuery(route, schema, names, told, signal) {
    const full = names.map((name) => (entityOf(name) ? name : `${this.entity}:${name}`));
    const others = {}, types = {}, entities = new Set(full.map(entityOf));
    for (const name of entities) {
      const declared = name === this.entity ? schema : await server.schema(name, signal);
      for (const [feature, type] of Object.entries(declared.features)) types[`${name}:${feature}`] = type;
      const id = route.params.get(`id.${name}`);
      if (name !== this.entity && id) others[name] = id;
    }
    const own = entities.has(this.entity), rows = route.ids.map((id) => ({ ...(own ? { [this.entity]: id } : {}), ...others }));
    const answer = await server.query(rows, full, signal);
    const columns = answer.rows.map((row, place) => {
      const about = answer.metadata[place], mine = about.entities[this.entity];
      return {
        id: [route.ids[place], ...Object.values(others)].join(" · "), names: full, stored: told.stored[place], known: Boolean(mine),
        values: Object.fromEntries(full.map((name, at) => [name, row[at]])),
        statuses: Object.fromEntries(full.map((name, at) => [name, about.statuses[at]])),
        event_time: mine?.event_time ?? null, age_ms: mine?.age_ms ?? null, types,
      };
    });
    columns.foreign = true;
    return columns;
  }

  /** Show the columns: anew where they are others, else only what has changed. */
  show(columns) {
    const shape = JSON.stringify([columns.map((each) => [each.id, each.known]), columns[0].names, this.schema.version]);
    if (shape !== this.shape) {
      this.shape = shape;
      this.cells = new Map();
      this.result.replaceChildren(columns.length === 1 && !columns.foreign ? this.single(columns[0]) : this.side(columns));
    } else {
      this.moving = true;
    }
    this.fill(columns);
    this.moving = false;
  }

  cell(name, node) {
    this.cells.set(name, { node, key: null });
    return node;
  }

  put(name, key, make) {
    const cell = this.cells.get(name);
    if (!cell || cell.key === key) return;
    const first = cell.key === null;
    cell.key = key;
    cell.node.replaceChildren(...[make()].flat().filter(Boolean));
    if (!first && this.moving) {
      cell.node.classList.remove("fresh");
      void cell.node.offsetWidth; // so that the animation begins anew
      cell.node.classList.add("fresh");
    }
  }

  head(title, ...more) {
    this.read_at = h("span", { class: "quiet" });
    return h("div", { class: "head" }, h("h2", null, title), h("span", { class: "spring" }), ...more, this.read_at,
      h("label", { class: "check" }, this.followed, "follow"));
  }

  single(column) {
    const state = facts([
      ["packed row", this.cell("row", h("span"))],
      ["event time", this.cell("time", h("span"))],
      ["age", this.cell("age", h("span"))],
      ["hash", this.cell("hash", h("span"))],
      ["expires", this.cell("expires", h("span"))],
      ["deleted", this.cell("deleted", h("span"))],
    ]);
    const options = this.schema.options || {};
    const rows = column.known && column.names.map((name) => tr(null,
      th(null, h("a", { class: "mono feature", href: viewHash("sample", this.entity, name) }, name),
        options[name]?.description && h("small", null, visible(options[name].description))),
      td({ class: "type" }, column.types[name]),
      this.cell(`value ${name}`, td({ class: "main" })),
      this.cell(`status ${name}`, td({ class: "status" })),
      this.cell(`time ${name}`, td({ class: "when same" }))));
    return arrows(h("div", { class: "card" }, this.head(visible(column.id), this.cell("known", h("span"))), h("div", { class: "body" }, state),
      column.known ? table("stack", `Features of ${column.id}`, ["Feature", "Type", "Value", "Status", "Event time"], rows)
        : h("p", { class: "foot" }, "The store does not know this id: reads of it answer 404, and null in a batch.")), "a.feature");
  }

  side(columns) {
    const about = [["row", "packed row"], ["time", "event time"], ["age", "age"]];
    const heads = ["Feature", ...columns.map((each) => ({ text: visible(each.id) }))];
    const rows = [
      ...about.map(([key, text]) => tr({ class: "about" }, th({ class: "quiet" }, text), columns.map((_, at) => this.cell(`${key} ${at}`, td())))),
      ...columns[0].names.map((name) => {
        const row = tr(null, th(null, h("a", { class: "mono feature", href: sampleHash(this.entity, name) }, name), h("small", { class: "mono" }, columns[0].types[name])),
          columns.map((_, at) => this.cell(`${at} ${name}`, td())));
        this.cells.set(`differs ${name}`, { node: row });
        return row;
      }),
    ];
    this.grid = table("compare", "Features side by side", heads, rows);
    this.grid.classList.toggle("only", this.only.checked);
    return arrows(h("div", { class: "card" }, this.head(`${columns.length} side by side`, columns.length > 1 && h("label", { class: "check" }, this.only, "only what differs")),
      h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Features side by side" }, this.grid)), "a.feature");
  }

  fill(columns) {
    setText(this.read_at, `read ${local(Date.now()).slice(11)}`);
    if (this.cells.has("known")) return this.fillSingle(columns[0]);
    for (const [at, column] of columns.entries()) {
      this.put(`row ${at}`, column.stored.row, () => rowChip(column));
      this.put(`time ${at}`, String(column.event_time), () => (column.event_time === null ? "–" : timeNode(column.event_time)));
      this.put(`age ${at}`, String(column.age_ms), () => (column.age_ms === null ? "–" : span(column.age_ms)));
      for (const name of column.names) {
        const value = column.values[name], status = column.statuses[name];
        this.put(`${at} ${name}`, valueKey([value, status]), () => [valueNode(value, column.types[name]), statusChip(status, true)]);
      }
    }
    for (const name of columns[0].names) {
      const row = this.cells.get(`differs ${name}`).node;
      const differs = columns.some((each) => valueKey(each.values[name]) !== valueKey(columns[0].values[name]));
      row.className = columns.length < 2 ? "" : differs ? "differs" : "same";
    }
  }

  fillSingle(column) {
    const { stored } = column, at = column.event_time ?? stored.event_time;
    this.put("known", String(column.known), () => chip(column.known ? "known" : "unknown", column.known ? "good" : "warn"));
    this.put("row", valueKey([stored.row, stored.row_bytes, stored.layout]), () => [rowChip(column),
      h("small", null, stored.layout ? `${count(stored.row_bytes)} bytes, layout ${visible(stored.layout)}` : ROWS[stored.row]?.[2])]);
    this.put("time", String(at), () => (at === null ? "–" : [timeNode(at), h("small", { class: "mono" }, iso(at))]));
    this.put("age", String(column.age_ms), () => (column.age_ms === null ? "–" : [span(column.age_ms), h("small", null, "by Redis’s clock")]));
    this.put("hash", String(stored.fields), () => (stored.fields === null ? "–" : `${count(stored.fields)} fields`));
    this.put("expires", valueKey(stored.expires_ms === null ? null : Math.floor(stored.expires_ms / 1000)), () => (stored.expires_ms === null ? "never" : `in ${span(stored.expires_ms)}`));
    this.put("deleted", String(stored.deleted), () => (stored.deleted === null ? "no" : [timeNode(stored.deleted), h("small", { class: "mono" }, iso(stored.deleted))]));
    for (const name of column.known ? column.names : []) {
      const value = column.values[name], status = column.statuses[name], text = stored.texts[name], type = column.types[name];
      this.put(`value ${name}`, valueKey(value), () => valueNode(value, type));
      this.put(`status ${name}`, valueKey([status, text]), () => [statusChip(status), note(status, text, value)]);
      const time = stored.event_times[name] ?? (text || ((isVector(type) || isWindow(type)) && status === "PRESENT") ? stored.event_time : null);
      const age = at !== null && column.age_ms !== null && time !== null ? column.age_ms + (at - time) : null;
      const own = time !== null && stored.event_times[name] !== undefined;
      this.cells.get(`time ${name}`).node.classList.toggle("same", !own);
      this.put(`time ${name}`, valueKey([time, own && age]), () => (time === null ? "" : [timeNode(time), own && age !== null && h("small", null, ago(age))]));
    }
  }
}

/** Return the entity before a name's colon. */
const entityOf = (name) => (name.includes(":") ? name.slice(0, name.indexOf(":")) : "");

const sampleHash = (entity, name) => viewHash("sample", entityOf(name) || entity, name.slice(name.indexOf(":") + 1));

function statusChip(status, quiet) {
  const [text, kind] = STATUSES[status] || [status || "", ""];
  return !text || (quiet && status === "PRESENT") ? null : h("span", { class: `chip ${kind}`, "data-status": status }, text);
}

function rowChip(column) {
  const [text, kind, why] = ROWS[column.stored.row] || [column.stored.row, "", ""];
  const node = chip(text, kind);
  node.title = why;
  return node;
}

/** Tell what is stored where that is not what is served. */
function note(status, text, value) {
  if (text === null || text === undefined) return null;
  if (status === "STALE") return h("small", null, `stored: ${visible(text).slice(0, 60)}`);
  if (value === null || value === undefined) return h("small", null, `stored, but not of its type: ${visible(text).slice(0, 60)}`);
  return null;
}

