// The frame: address, tabs, entity, health, keys, theme, keyboard.

import { h, setText } from "./dom.js";
import { LiveView } from "./live.js";
import { LookupView } from "./lookup.js";
import { parseRoute, viewHash } from "./route.js";
import { SampleView } from "./sample.js";
import { SchemaView } from "./schema.js";
import * as server from "./server.js";
import { count } from "./values.js";

const HEALTH_MS = 5000, AWAY_MS = 1000, SLOW_MS = 200;
const VIEWS = { lookup: LookupView, schema: SchemaView, sample: SampleView, live: LiveView };
const $ = (id) => document.getElementById(id);

/** What views share: the entities, and ways to speak to the user. */
const app = {
  entities: null, fallback: "", health: null,

  say: (text) => setText($("said"), text),

  /** Return what is wrong as an element; where a key would help, with a button for it. */
  problem(error) {
    if (!(error instanceof server.Problem)) console.error(error);
    const words = error instanceof server.Problem ? error.words : `This page failed: ${error.message}`;
    const wantsKey = error.status === 401 || error.status === 403;
    const mayPass = error.status >= 500 && error.status !== 503; // after 503 the page comes back by itself
    return h("div", { class: "problem", role: "alert" }, h("span", null, words),
      mayPass && h("button", { type: "button", onclick: again }, "Read again"),
      wantsKey && h("button", { type: "button", onclick: openKeys }, "Enter a key"));
  },

  /** Return what the server says in words, for places that have room for nothing else. */
  held: (entity) => app.entities?.find((each) => each.entity === entity),
};

let current = null, route = null, asked = null;
const lookups = new Map(); // of each entity the address of what was looked up last

const entityOf = (found) => found.entity || app.fallback;

async function show() {
  route = parseRoute(location.hash);
  asked?.abort();
  const mine = asked = new AbortController();
  for (const tab of $("tabs").children) {
    const chosen = tab.dataset.view === route.view;
    tab.setAttribute("aria-selected", String(chosen));
    tab.tabIndex = chosen ? 0 : -1;
  }
  $("panel").setAttribute("aria-labelledby", `tab-${route.view}`);
  if (!app.entities && !(await learn())) return;
  if (mine.signal.aborted) return;
  const entity = entityOf(route);
  if (route.view === "lookup") lookups.set(entity, location.hash || viewHash("lookup", entity));
  linkTabs(entity);
  chooseEntity(entity);
  const named = { ...route, entity };
  const title = { lookup: route.ids.join(", ").slice(0, 60) || entity, schema: `schema of ${entity}`, sample: `${route.feature || entity}, distribution`, live: "live" };
  document.title = `${title[route.view]} · Feature store`;
  if (!app.entities.length && route.view !== "live") return replace(noSchema());
  if (current?.view !== route.view || current.entity !== entity) {
    current?.instance.close?.();
    current = { view: route.view, entity, instance: new VIEWS[route.view](app, entity) };
    current.fresh = true;
  }
  const { instance } = current, slow = setTimeout(() => $("progress").classList.add("busy"), SLOW_MS);
  try {
    await instance.update(named, mine.signal);
  } catch (error) {
    if (error.name === "AbortError" || mine.signal.aborted) return;
    instance.fail ? instance.fail(app.problem(error)) : replace(h("div", null, app.problem(error)));
    if (error.status === 401) openKeys();
    if (error.status === 0 || error.status === 503) look();
  } finally {
    clearTimeout(slow);
    if (asked === mine) $("progress").classList.remove("busy");
  }
  if (asked === mine && instance.node && $("panel").firstChild !== instance.node) replace(instance.node);
  if (current?.fresh) {
    current.fresh = false;
    instance.shown?.();
  }
}

const replace = (node) => $("panel").replaceChildren(node);

function noSchema() {
  current?.instance.close?.();
  current = null;
  return h("div", null, h("div", { class: "card empty" }, h("h2", null, "No schema yet"),
    h("p", null, "This Redis holds no entity. Declare features, and they are here:"),
    h("code", null, "featurestore apply user.toml"),
    h("button", { type: "button", onclick: again }, "Look again")));
}

/** Ask which entities there are; return whether the server told. */
async function learn() {
  try {
    const told = await server.entities();
    offerEntities(told.entities, told.default);
    return true;
  } catch (error) {
    if (error.status === 403 && route.entity) { // the key is for some entities alone
      offerEntities([{ entity: route.entity, features: 0, ids: null }], route.entity);
      return true;
    }
    replace(h("div", null, app.problem(error)));
    current = null;
    if (error.status === 401) openKeys();
    else look();
    return false;
  }
}

function offerEntities(entities, fallback) {
  Object.assign(app, { entities, fallback });
  $("entity").replaceChildren(...entities.map((each) => h("option", { value: each.entity, title: each.description }, each.entity)));
}

function again() {
  app.entities = null;
  return show();
}

function chooseEntity(entity) {
  const select = $("entity");
  if (entity && ![...select.options].some((each) => each.value === entity)) select.append(h("option", { value: entity }, entity));
  select.value = entity;
  const held = app.held(entity);
  select.title = held ? `${count(held.features)} features, ${held.ids === null ? "?" : count(held.ids)} ids` : "";
}

function linkTabs(entity) {
  for (const tab of $("tabs").children) tab.href = (tab.dataset.view === "lookup" && lookups.get(entity)) || viewHash(tab.dataset.view, entity);
}

// Health

const WORDS = { healthy: "healthy", degraded: "degraded", unhealthy: "unhealthy", gone: "no answer", unknown: "…" };

async function look() {
  let told;
  try {
    told = await server.health();
  } catch (error) {
    told = error.status === 401 || error.status === 403 ? { status: "unknown" } : { status: "gone", reason: error.message };
  }
  const before = app.health?.status;
  app.health = told;
  $("health").dataset.state = told.status;
  setText($("health").lastChild, WORDS[told.status]);
  const missing = (told.missing || []).map((each) => `${each.node}: ${each.reason}`).join("; ");
  const reason = told.reason || (missing && `Some ids cannot be served. ${missing}`) || "";
  $("health").title = reason;
  const banner = $("banner"), lacks = told.status === "unhealthy" && app.entities && !app.entities.length;
  banner.hidden = !reason || lacks;
  banner.classList.toggle("warn", told.status === "degraded");
  setText(banner, banner.hidden ? "" : reason);
  const back = before && before !== told.status && (told.status === "healthy" || told.status === "degraded");
  if (back || (told.status === "healthy" && (!app.entities || !app.entities.length))) again();
}

// Keys

function openKeys() {
  if (!$("keys-dialog").open) $("keys-dialog").showModal();
}

$("keys").addEventListener("click", openKeys);
$("keys-dialog").addEventListener("close", () => {
  const chosen = $("keys-dialog").returnValue;
  $("keys-dialog").returnValue = "";
  if (chosen === "forget") for (const id of ["read-key", "write-key"]) $(id).value = "";
  if (chosen !== "use" && chosen !== "forget") return;
  server.setKeys($("read-key").value.trim(), $("write-key").value.trim());
  setText($("keys"), server.hasKey() ? "Keys ✓" : "Keys");
  app.say(server.hasKey() ? "The keys are used from now on." : "The keys are forgotten.");
  again();
  look();
});

// Theme

const THEMES = ["auto", "light", "dark"];

function setTheme(name) {
  document.documentElement.dataset.theme = name;
  setText($("theme"), `◐ ${name}`);
  $("theme").setAttribute("aria-label", `Colours: ${name}. Change them`);
  try { localStorage.setItem("featurestore-theme", name); } catch { /* it is for this visit, then */ }
}

const nextTheme = () => setTheme(THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % THEMES.length]);

function storedTheme() {
  try { return localStorage.getItem("featurestore-theme"); } catch { return null; }
}

const stored = storedTheme();
setTheme(THEMES.includes(stored) ? stored : "auto");
$("theme").addEventListener("click", nextTheme);

// Keyboard

$("help").addEventListener("click", () => $("help-dialog").showModal());
$("skip").addEventListener("click", (event) => {
  event.preventDefault();
  $("panel").focus();
});
$("entity").addEventListener("change", (event) => {
  const { view } = parseRoute(location.hash);
  location.hash = viewHash(view === "live" ? "lookup" : view, event.target.value);
});
$("tabs").addEventListener("keydown", (event) => {
  const tabs = [...$("tabs").children], at = tabs.indexOf(event.target);
  const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tabs.length - 1 }[event.key];
  if (at < 0 || to === undefined) return;
  event.preventDefault();
  const tab = tabs[(to + tabs.length) % tabs.length];
  tab.focus();
  location.hash = tab.getAttribute("href");
});

const SHORTCUTS = {
  "/": () => {
    if (route.view === "lookup" && current) return current.instance.focus();
    app.wantsFocus = true;
    location.hash = viewHash("lookup", entityOf(route));
  },
  "?": () => $("help-dialog").showModal(),
  r: () => show(),
  t: nextTheme,
};
for (const [place, view] of Object.keys(VIEWS).entries()) SHORTCUTS[place + 1] = () => { location.hash = viewHash(view, entityOf(route)); };

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input, select, textarea, dialog");
  if (typing || event.ctrlKey || event.metaKey || event.altKey || !Object.hasOwn(SHORTCUTS, event.key)) return;
  event.preventDefault();
  SHORTCUTS[event.key]();
});

addEventListener("hashchange", show);
document.addEventListener("visibilitychange", () => !document.hidden && look());

/** Look again and again; sooner where something is wrong, so that the page is back soon after Redis is. */
async function keepLooking() {
  if (!document.hidden) await look();
  setTimeout(keepLooking, app.health?.status === "healthy" ? HEALTH_MS : AWAY_MS);
}

show();
keepLooking();
