// Makes elements. Text goes in as text only, so that a value can never become markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, props, children) {
  for (const [name, value] of Object.entries(props || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** Return an element with attributes, listeners (`onclick`) and children; texts become text nodes. */
export const h = (tag, props, ...children) => fill(document.createElement(tag), props, children);

/** Return the same of SVG. */
export const s = (tag, props, ...children) => fill(document.createElementNS(SVG, tag), props, children);

/** Return a table with its roles, which styles that stack cells would take away. */
export function table(kind, label, heads, rows) {
  const head = heads.map((each) => h("th", { role: "columnheader", scope: "col", class: each.num && "num" }, each.text ?? each));
  return h("table", { role: "table", class: kind, "aria-label": label },
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, head)),
    h("tbody", { role: "rowgroup" }, rows));
}

export const tr = (props, ...cells) => h("tr", { role: "row", ...props }, ...cells);
export const td = (props, ...children) => h("td", { role: "cell", ...props }, ...children);
export const th = (props, ...children) => h("th", { role: "rowheader", scope: "row", ...props }, ...children);

/** Put `text` into a node unless it is there already, so that nothing is painted twice. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Return a definition list of facts: pairs of a name and what stands for it. */
export const facts = (pairs) =>
  h("dl", { class: "facts" }, pairs.filter(Boolean).map(([name, ...what]) => h("div", null, h("dt", null, name), h("dd", null, ...what))));

export const chip = (text, kind) => h("span", { class: `chip ${kind || ""}` }, text);

/** Let the arrow keys go between the links or rows of `selector` in `node`. */
export function arrows(node, selector) {
  node.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step || !event.target.matches(selector)) return;
    const all = [...node.querySelectorAll(selector)].filter((each) => each.offsetParent);
    const next = all[all.indexOf(event.target) + step];
    if (next) next.focus();
    event.preventDefault();
  });
  return node;
}
