// How values, times and figures are written.

import { h, s } from "./dom.js";

const LONG = 160, SHOWN = 120, SHOWN_NUMBERS = 6;
// Characters that hide, or that change the order of others: a value must not look like another one.
const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;
const ESCAPES = { "\n": "\\n", "\r": "\\r", "\t": "\\t" };

/** Return a text with escapes in place of what cannot be seen. */
export const visible = (text) =>
  text.replace(UNSEEN, (each) => ESCAPES[each] || `\\u${each.charCodeAt(0).toString(16).padStart(4, "0")}`);

export const isVector = (type) => type.startsWith("float32[");
export const isWindow = (type) => /^(count|sum)\(/.test(type);
export const isNumber = (type) => type === "float" || type === "int" || isWindow(type);

function number(value, type) {
  if (typeof value !== "number") return String(value); // an int beyond 2^53 has come as its digits
  const text = String(value);
  return type !== "int" && !type.startsWith("count(") && /^-?\d+$/.test(text) ? `${text}.0` : text;
}

function folded(kind, short, whole, what) {
  const text = h("span", { class: `value ${kind}` }, short);
  let open = false;
  const button = h("button", { type: "button", class: "fold", "aria-expanded": "false", onclick: () => {
    open = !open;
    text.textContent = open ? whole : short;
    text.classList.toggle("open", open);
    button.textContent = open ? "fold" : what;
    button.setAttribute("aria-expanded", String(open));
  } }, what);
  return h("span", null, text, button);
}

/** Return a feature's value as an element. Long ones are folded. */
export function valueNode(value, type) {
  if (value === null || value === undefined) return h("span", { class: "value none" }, "null");
  if (Array.isArray(value)) {
    const few = value.slice(0, SHOWN_NUMBERS).map((each) => Number(each).toPrecision(4).replace(/\.?0+$/, ""));
    if (value.length <= SHOWN_NUMBERS) return h("span", { class: "value" }, `[${value.join(", ")}]`);
    return folded("", `[${few.join(", ")}, …]`, `[${value.join(", ")}]`, `all ${count(value.length)} numbers`);
  }
  if (type === "string") {
    const text = visible(String(value)), size = String(value).length;
    if (text.length <= LONG) return h("bdi", { class: "value string" }, `"${text}"`);
    return folded("string", `"${text.slice(0, SHOWN)}…`, `"${text}"`, `all ${count(size)} characters`);
  }
  return h("span", { class: "value" }, typeof value === "boolean" ? String(value) : number(value, type));
}

/** Return what tells a value from another one. */
export const valueKey = (value) => JSON.stringify(value ?? null);

export const count = (value) => Number(value).toLocaleString("en-US");

const pad = (value, size = 2) => String(value).padStart(size, "0");

/** Return a moment in the browser's own time zone. */
export function local(ms) {
  const at = new Date(ms);
  return `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())} ${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}`;
}

export const iso = (ms) => (Math.abs(ms) <= 8.64e15 ? new Date(ms).toISOString() : `${ms} ms`);

export const timeNode = (ms) => h("time", { datetime: iso(ms), title: iso(ms) }, local(ms));

const SPANS = [[86400000, "d"], [3600000, "h"], [60000, "min"], [1000, "s"]];

/** Return a span of ms in words, such as `3 min`. */
export function span(ms) {
  const size = Math.abs(ms), sign = ms < 0 ? "−" : "";
  for (const [each, unit] of SPANS) if (size >= each) return `${sign}${count(Math.floor(size / each))} ${unit}`;
  return `${sign}${Math.round(size)} ms`;
}

export const ago = (ms) => (ms < 0 ? `${span(-ms)} ahead` : `${span(ms)} ago`);

/** Return an option of ms exactly, such as `90 d` or `90 min`. */
export function exactly(ms) {
  for (const [each, unit] of SPANS) if (ms >= each && ms % each === 0) return `${ms / each} ${unit}`;
  return `${ms} ms`;
}

/** Return a figure with three digits that count. */
export function figure(value) {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size >= 1e9 || size < 1e-3)) return value.toExponential(2);
  if (size >= 100) return count(Math.round(value));
  return String(Number(value.toPrecision(3)));
}

export const percent = (share) => (share > 0 && share < 0.001 ? "<0.1 %" : `${Number((share * 100).toFixed(1))} %`);

/** Return seconds as a latency and its unit. */
export function latency(seconds) {
  if (!Number.isFinite(seconds)) return ["–", ""];
  return seconds < 1 ? [figure(seconds * 1000), "ms"] : [figure(seconds), "s"];
}

export const meter = (share, kind) =>
  s("svg", { class: `meter ${kind || ""}`, viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" },
    s("rect", { width: 100 * Math.max(0, Math.min(1, share)), height: 10 }));

export const share = (part, kind) => h("span", { class: "share" }, meter(part, kind), percent(part));
