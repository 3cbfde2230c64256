// The server, by its public routes. Keys live in this module's memory and nowhere else.

const keys = { read: "", write: "" };

export const setKeys = (read, write) => Object.assign(keys, { read, write });
export const hasKey = () => Boolean(keys.read || keys.write);

/** What the server says is wrong; status 0 where it does not answer. */
export class Problem extends Error {
  constructor(status, text, code) {
    super(text);
    Object.assign(this, { status, code });
  }

  /** Whether the server's Redis user may not do that, which has no code of its own. */
  get denied() { return this.message.startsWith("NOPERM"); }

  get words() {
    const code = this.code && !this.message.startsWith(this.code) ? ` (${this.code})` : "";
    return this.status ? `${this.message}${code}` : this.message;
  }
}

// Ints of more digits than a double has stay texts, so that they are shown exactly.
const TOKENS = /"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*/g;
const parse = (text) => JSON.parse(text.replace(TOKENS, (each) => (/^-?\d{16,}$/.test(each) ? `"${each}"` : each)));

async function ask(path, options, key) {
  let response, text;
  try {
    const headers = { ...options.headers, ...(key ? { "X-API-Key": key } : {}) };
    response = await fetch(path, { cache: "no-store", credentials: "same-origin", ...options, headers });
    text = await response.text();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "The server does not answer.");
  }
  return { response, text };
}

function problemOf(response, text) {
  let told = {};
  try { told = JSON.parse(text); } catch { /* not from this server: its status is all there is */ }
  const words = told.detail || told.reason || told.title || response.statusText;
  return new Problem(response.status, words || `The server answered with status ${response.status}.`, told.code);
}

async function json(path, options = {}, key = keys.read || keys.write) {
  const { response, text } = await ask(path, options, key);
  if (!response.ok) throw problemOf(response, text);
  return text ? parse(text) : null;
}

const post = (path, body, signal) =>
  json(path, { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" }, signal });

const of = (entity) => `entities/${encodeURIComponent(entity)}`;

/** Return the entities; the default one alone where the server's Redis user may not ask which there are. */
export async function entities() {
  try {
    return await json("entities");
  } catch (error) {
    if (!error.denied) throw error;
    const { entity, features, version } = await json("schema");
    return { default: entity, entities: [{ entity, version, features: Object.keys(features).length, ids: null, services: [] }] };
  }
}
export const schema = (entity, signal) => json(`${of(entity)}/schema`, { signal });
export const sample = (entity, count, signal) => json(`${of(entity)}/sample?count=${count}`, { signal });
export const batch = (entity, ids, features, signal) =>
  post(`${of(entity)}/features/batch`, { ids, features, metadata: true }, signal);
export const query = (rows, features, signal) => post("features/query", { rows, features, metadata: true }, signal);
export const stored = (entity, ids, signal) =>
  json(`${of(entity)}/stored?${ids.map((id) => `id=${encodeURIComponent(id)}`).join("&")}`, { signal });

/** Return `/health` as it is, also where it says that something is wrong. */
export async function health() {
  const { response, text } = await ask("health", {}, keys.read || keys.write);
  try {
    const told = JSON.parse(text);
    if (told && (told.status in { healthy: 1, degraded: 1, unhealthy: 1 })) return told;
  } catch { /* it is no answer of /health */ }
  throw problemOf(response, text);
}

export async function metrics(signal) {
  const { response, text } = await ask("metrics", { signal, headers: { Accept: "text/plain" } }, keys.read || keys.write);
  if (!response.ok) throw problemOf(response, text);
  return text;
}

/** Write by PUT, POST or DELETE of one entity; `body` is JSON already, since its ints may be long. */
export function write(method, entity, id, body) {
  if (/^\.{1,2}$/.test(id)) throw new Problem(422, "Browsers cannot send a path that ends in this id: write it by POST /features/ingest.");
  const options = { method, body, headers: body ? { "Content-Type": "application/json" } : {} };
  return json(`${of(entity)}/features/${encodeURIComponent(id)}`, options, keys.write);
}
