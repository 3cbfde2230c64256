// Writes one feature of one entity, adds to a number, or deletes the entity.

import { h } from "./dom.js";
import * as server from "./server.js";
import { isVector, isWindow, valueNode, visible } from "./values.js";

export class WritePanel {
  constructor(app, entity, written) {
    Object.assign(this, { app, entity, written, id: null });
    this.feature = h("select", { onchange: () => this.suit() });
    this.action = h("select", { onchange: () => this.suit() });
    this.value = h("input", { autocomplete: "off", spellcheck: "false" });
    this.valueLabel = h("label", { class: "grow" }, "Value", this.value);
    this.form = h("form", { class: "write", onsubmit: (event) => { event.preventDefault(); this.send(); } },
      h("label", null, "Feature", this.feature), h("label", null, "What", this.action), this.valueLabel,
      h("button", { class: "primary" }, "Write"));
    this.outcome = h("div", { role: "status" });
    this.remove = h("div", { class: "row" });
    this.node = h("details", { class: "card", hidden: true }, h("summary", null, "Write"),
      h("div", { class: "body" }, this.form, this.outcome, this.remove,
        h("p", { class: "quiet" }, "Writes need a key: it is entered by “Keys”, and stays in this page’s memory.")));
  }

  /** Be for the id of a column; for none where it is null. */
  show(column, schema) {
    const id = column ? column.id : null;
    this.node.hidden = id === null;
    if (id === this.id) return;
    this.id = id;
    this.outcome.replaceChildren();
    if (id === null) return;
    this.types = schema.features;
    const names = Object.keys(this.types).filter((name) => !isWindow(this.types[name]));
    this.feature.replaceChildren(...names.map((name) => h("option", { value: name }, name)));
    this.ask(false);
    this.suit();
  }

  /** Offer what can be done with the chosen feature. */
  suit() {
    const type = this.types[this.feature.value] || "", before = this.action.value;
    const adds = type === "int" || type === "float";
    const actions = [["set", "set"], ...(adds ? [["add", "add"]] : []), ["clear", "remove its value"]];
    this.action.replaceChildren(...actions.map(([value, text]) => h("option", { value }, text)));
    if (actions.some(([value]) => value === before)) this.action.value = before;
    this.valueLabel.hidden = this.action.value === "clear";
    this.value.placeholder = { bool: "true or false", string: "text, as it is", int: "a whole number", float: "a number" }[type] || `[0.5, …]`;
  }

  async send() {
    const name = this.feature.value, type = this.types[name], action = this.action.value;
    const value = action === "clear" ? "null" : literal(this.value.value, type);
    const body = `{${JSON.stringify(action === "add" ? "incr" : "features")}:{${JSON.stringify(name)}:${value}}}`;
    await this.attempt(async () => {
      const told = await server.write(action === "add" ? "POST" : "PUT", this.entity, this.id, body);
      const now = told.features?.[name];
      return `${told.verdict || "added"}: ${name} is ${now === undefined ? "unchanged" : valueNode(now, type).textContent.slice(0, 80)}`;
    });
  }

  /** Show the button that deletes, or the question whether to. */
  ask(sure) {
    const button = (text, kind, onclick) => h("button", { type: "button", class: kind, onclick }, text);
    if (!sure) return this.remove.replaceChildren(button("Delete this entity…", "danger", () => { this.ask(true); this.remove.querySelector("button").focus(); }));
    this.remove.replaceChildren(h("span", null, `Delete ${visible(this.id).slice(0, 60)} with all its features? It cannot be taken back.`),
      button("Keep it", "", () => { this.ask(false); this.remove.querySelector("button").focus(); }),
      button("Delete it", "danger", () => { this.ask(false); this.attempt(async () => { await server.write("DELETE", this.entity, this.id); return "deleted"; }); }));
  }

  async attempt(write) {
    let outcome;
    try {
      const told = await write();
      outcome = h("div", { class: "done" }, told);
      this.written();
    } catch (error) {
      outcome = this.app.problem(error);
    }
    this.outcome.replaceChildren(outcome);
  }
}

/** Return what was typed as JSON. What is no value of the type goes as text: the server says what is wrong with it. */
function literal(text, type) {
  const trimmed = text.trim();
  if ((type === "int" || type === "float") && /^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$/.test(trimmed)) return trimmed;
  if (type === "bool" && /^(true|false)$/.test(trimmed)) return trimmed;
  if (isVector(type)) {
    try { if (Array.isArray(JSON.parse(trimmed))) return trimmed; } catch { /* told by the server */ }
  }
  return JSON.stringify(type === "string" ? text : trimmed);
}
