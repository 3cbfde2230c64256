// Shows what is declared: features with their options and notes, services, and the other entities.

import { arrows, chip, facts, h, table, td, th, tr } from "./dom.js";
import { lookupHash, viewHash } from "./route.js";
import * as server from "./server.js";
import { count, exactly, valueNode, visible } from "./values.js";

export class SchemaView {
  constructor(app, entity) {
    Object.assign(this, { app, entity });
    this.filter = h("input", { type: "search", placeholder: "name, type, tag, owner", size: 24, "aria-label": "Filter features", oninput: () => this.sift() });
    this.node = h("div");
  }

  fail(problem) {
    this.told = null;
    this.node.replaceChildren(problem);
  }

  async update(route, signal) {
    const schema = await server.schema(this.entity, signal);
    const told = JSON.stringify([schema, this.app.entities]);
    if (this.told === told) return;
    this.told = told;
    this.node.replaceChildren(...[this.about(schema), this.features(schema), this.services(schema), this.others()].filter(Boolean));
    this.sift();
  }

  about(schema) {
    const held = this.app.held(this.entity);
    return h("div", { class: "card" },
      h("div", { class: "head" }, h("h2", null, this.entity), notes(schema)),
      h("div", { class: "body" }, schema.description && h("p", null, visible(schema.description)), facts([
        ["version", count(schema.version)],
        ["features", count(Object.keys(schema.features).length)],
        ["known ids", held?.ids === null || held?.ids === undefined ? "–" : count(held.ids)],
        ["id is called", h("code", null, visible(schema.join_key || `${this.entity}_id`))],
        ["expires after", schema.ttl_ms ? exactly(schema.ttl_ms) : "never"],
        ["oldest value served", schema.max_age_ms ? exactly(schema.max_age_ms) : "any age"],
        ["tombstones stay", exactly(schema.tombstone_ms ?? 86400000)],
        ["times ahead, at most", exactly(schema.max_ahead_ms ?? 86400000)],
        schema.partitions && ["partitions", count(schema.partitions)],
        schema.members && ["set of ids", h("code", null, visible(schema.members))],
        schema.retiring && ["being retired", visible(schema.retiring.join(", "))],
        held?.wrong && ["wrong", visible(held.wrong)],
      ])));
  }

  features(schema) {
    const options = schema.options || {};
    this.rows = Object.entries(schema.features).map(([name, type]) => {
      const option = options[name] || {}, tags = option.tags || [];
      const row = tr(null,
        th(null, h("a", { class: "mono feature", href: viewHash("sample", this.entity, name) }, name), option.description && h("small", null, visible(option.description))),
        td({ class: "type" }, type, option.always && " · always read"),
        td({ "data-label": option.default !== undefined && "default" }, option.default === undefined ? "" : valueNode(option.default, type)),
        td({ "data-label": option.max_age_ms && "max age" }, option.max_age_ms ? exactly(option.max_age_ms) : ""),
        td(null, notes(option)));
      return { row, text: [name, type, option.description, option.owner, ...tags].join(" ").toLowerCase() };
    });
    this.none = h("p", { class: "foot", hidden: true }, "No feature fits.");
    return arrows(h("div", { class: "card" }, h("div", { class: "head" }, h("h3", null, "Features"), h("span", { class: "spring" }), this.filter),
      table("stack", `Features of ${this.entity}`, ["Feature", "Type", "Default", "Max age", "Owner, tags"], this.rows.map((each) => each.row)), this.none), "a.feature");
  }

  sift() {
    const words = this.filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const { row, text } of this.rows || []) row.hidden = !words.every((word) => text.includes(word));
    if (this.none) this.none.hidden = !this.rows.length || this.rows.some((each) => !each.row.hidden);
  }

  services(schema) {
    const services = Object.entries(schema.services || {}).sort();
    if (!services.length) return null;
    return h("div", { class: "card" }, h("div", { class: "head" }, h("h3", null, "Services")),
      table("stack", "Services", ["Service", "Features", ""], services.map(([name, features]) => tr(null,
        th({ class: "mono" }, visible(name)),
        td({ class: "main" }, h("span", { class: "chips" }, features.map((each) => chip(each)))),
        td(null, h("a", { href: lookupHash(this.entity, [], { service: name }) }, "look up"))))));
  }

  others() {
    if (this.app.entities.length < 2) return null;
    return h("div", { class: "card" }, h("div", { class: "head" }, h("h3", null, "All entities")),
      table("stack", "All entities", ["Entity", { text: "Ids", num: true }, { text: "Features", num: true }, { text: "Version", num: true }, "Services"],
        this.app.entities.map((each) => tr(null,
          th(null, h("a", { class: "mono", href: viewHash("schema", each.entity) }, each.entity), each.description && h("small", null, visible(each.description)), each.wrong && h("small", null, chip(visible(each.wrong), "bad"))),
          td({ class: "num", "data-label": "ids" }, each.ids === null ? "–" : count(each.ids)), td({ class: "num", "data-label": "features" }, count(each.features)),
          td({ class: "num", "data-label": "version" }, count(each.version)), td(null, visible(each.services.join(", ")))))));
  }
}

const notes = (note) => (note.owner || note.tags?.length
  ? h("span", { class: "chips" }, note.owner && h("span", null, visible(note.owner)), (note.tags || []).map((tag) => chip(visible(tag))))
  : "");
