// The view as the address has it: #/user/ann,bob?service=s, #schema/user, #sample/user/age, #live

const VIEWS = new Set(["schema", "sample", "live"]);
const decode = (text) => {
  try { return decodeURIComponent(text); } catch { return text; }
};

/** Return the view, entity, ids, feature and options of an address; `entity` is empty where it names none. */
export function parseRoute(hash) {
  const [path, options = ""] = hash.replace(/^#/, "").split("?", 2);
  const [view, entity = "", rest = ""] = path.split("/");
  const params = new URLSearchParams(options);
  const base = { view: VIEWS.has(view) ? view : "lookup", entity: decode(entity), ids: [], feature: "", params };
  if (base.view === "lookup") base.ids = rest.split(",").filter(Boolean).map(decode);
  else base.feature = decode(rest);
  return base;
}

export function lookupHash(entity, ids = [], params = {}) {
  const options = new URLSearchParams(Object.entries(params).filter(([, value]) => value)).toString();
  return `#/${encodeURIComponent(entity)}${ids.length ? `/${ids.map(encodeURIComponent).join(",")}` : ""}${options ? `?${options}` : ""}`;
}

export function viewHash(view, entity, feature = "") {
  if (view === "lookup") return lookupHash(entity);
  if (view === "live") return "#live";
  return `#${view}/${encodeURIComponent(entity)}${feature ? `/${encodeURIComponent(feature)}` : ""}`;
}

/** Return the ids of a line of text: between commas, where `\,` is a comma of an id. */
export const splitIds = (text) =>
  [...new Set((text.match(/(?:\\[\s\S]|[^,\\])+/g) || []).map((each) => each.trim().replace(/\\([,\\])/g, "$1")).filter(Boolean))];

export const joinIds = (ids) => ids.map((id) => id.replace(/[,\\]/g, "\\$&")).join(", ");
