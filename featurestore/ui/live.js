// Shows what the server does now, from /metrics and /health.

import { Spark } from "./charts.js";
import { chip, facts, h, setText, table, td, th, tr } from "./dom.js";
import { Look } from "./metrics.js";
import * as server from "./server.js";
import { count, figure, latency, percent, visible } from "./values.js";

const EVERY_MS = 2000, POINTS = 60;
const REQUESTS = "featurestore_requests_total", DURATIONS = "featurestore_request_duration_seconds";
const SERVED = "featurestore_sampled_features_total";
const REASONS = [["featurestore_problems_total", "answer"], ["featurestore_refused_total", "refused unread"], ["featurestore_rows_rejected_total", "row"], ["featurestore_rejections_total", "row"]];
const isWork = ({ route }) => !/^\/(ui|health|readyz|livez|metrics|docs|openapi)/.test(route) && !/^\/entities(\/\{entity\}\/(sample|stored|schema))?$/.test(route);
const own = (name) => !isWork({ route: name.split(" ")[1] });
const isFailed = ({ status }) => status >= "500" || status === "other";

/** Return a tile, and what fills it. */
function tile(name) {
  const value = h("span", null, "–"), unit = h("small"), under = h("div", { class: "under" }), spark = new Spark(`${name}, the last minutes`, POINTS), past = [];
  const node = h("div", { class: "tile", role: "group", "aria-label": name }, h("h3", null, name), h("div", { class: "figure" }, value, unit), under, spark.node);
  return { node, put(number, [text, of], words) {
    past.push(number);
    if (past.length > POINTS) past.shift();
    setText(value, text);
    setText(unit, of);
    setText(under, words || "");
    spark.draw(past);
  } };
}

/** A table whose rows are known by their names: what is there stays, and only its figures change. */
class Rows {
  constructor(title, heads, none) {
    this.rows = new Map();
    this.table = table("stack figures", title, heads, []);
    this.body = this.table.lastChild;
    this.heads = heads;
    this.none = h("p", { class: "foot" }, none);
    this.node = h("div", { class: "card" }, h("div", { class: "head" }, h("h3", null, title)), this.table, this.none);
  }

  put(found) {
    for (const [name, cells] of found) {
      let row = this.rows.get(name);
      if (!row) {
        row = tr({ class: this.quiet?.(name) && "quiet" }, th({ class: "mono" }, visible(name)), cells.map((_, at) => td({ class: "num", "data-label": this.heads[at + 1].text })));
        this.rows.set(name, row);
        this.body.append(row);
      }
      cells.forEach((text, at) => setText(row.children[at + 1], text));
    }
    for (const [name, row] of this.rows) if (!found.has(name)) { row.remove(); this.rows.delete(name); }
    this.none.hidden = this.rows.size > 0;
    this.table.hidden = !this.none.hidden;
  }
}

const num = (text) => ({ text, num: true });
const perSecond = (rate) => (Number.isFinite(rate) ? figure(rate) : "–");
const timed = (seconds) => latency(seconds).join(" ").trim();

export class LiveView {
  constructor(app) {
    this.app = app;
    this.tiles = { requests: tile("Requests"), median: tile("Latency, median"), tail: tile("Latency, 99 %"), rows: tile("Rows written"), failed: tile("Failed") };
    this.routes = new Rows("By route", ["Route", num("per s"), num("p50"), num("p95"), num("p99"), num("failed per s"), num("total")], "No request yet.");
    this.routes.quiet = own;
    this.verdicts = new Rows("Rows by verdict", ["Verdict", num("per s"), num("total")], "No row was written over HTTP yet.");
    this.statuses = new Rows("Answers that are errors", ["Status", num("per s"), num("total")], "No request was refused, and none failed.");
    this.calls = new Rows("Calls of Redis", ["Script", num("per s"), num("p50"), num("p99"), num("total")], "");
    this.reasons = new Rows("Why", ["Reason", num("per s"), num("total")], "");
    this.served = new Rows("Values served, a sample", ["Status", num("share"), num("total")], "");
    this.state = h("div", { class: "body" });
    this.redis = h("div", { class: "card" }, h("div", { class: "head" }, h("h3", null, "Redis")), this.state);
    this.raw = h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "All metrics" });
    this.all = h("details", { class: "card", ontoggle: () => this.showRaw() }, h("summary", null, "All metrics"), this.raw);
    this.problems = h("div", { hidden: true });
    this.content = h("div", null, h("div", { class: "tiles" }, Object.values(this.tiles).map((each) => each.node)), this.routes.node,
      h("div", { class: "two" }, this.verdicts.node, this.statuses.node), h("div", { class: "two" }, this.redis, this.calls.node), h("div", { class: "two" }, this.reasons.node, this.served.node), this.all,
      h("p", { class: "quiet" }, `All workers together, every ${EVERY_MS / 1000} s. Latency is the server's own, by the histogram's buckets. The tiles leave out health checks, /metrics and the files and looks of this page.`));
    this.content.className = "result";
    this.node = h("div", null, this.problems, this.content);
    this.timer = setInterval(() => !document.hidden && this.poll(), EVERY_MS);
  }

  close() { clearInterval(this.timer); }

  update(_route, signal) {
    return this.poll(signal);
  }

  async poll(signal) {
    if (this.polling) return;
    this.polling = true;
    try {
      const text = await server.metrics(signal);
      this.look = new Look(text, performance.now(), this.look);
      this.show(this.look);
      this.problems.hidden = true;
    } catch (error) {
      if (error.name === "AbortError") return;
      this.problems.replaceChildren(this.app.problem(error));
      this.problems.hidden = false;
    } finally {
      this.polling = false;
    }
  }

  show(look) {
    const rate = look.rate(REQUESTS, isWork), rows = look.rate("featurestore_rows_total"), failed = look.rate(REQUESTS, (labels) => isWork(labels) && isFailed(labels));
    const [median, tail] = look.quantiles(DURATIONS, [0.5, 0.99], isWork), [medianOfAll, tailOfAll] = look.quantiles(DURATIONS, [0.5, 0.99], isWork, { all: true });
    this.tiles.requests.put(rate, [perSecond(rate), "per s"], `${count(look.total(REQUESTS, isWork))} since the start`);
    this.tiles.median.put(median, latency(median), `${timed(medianOfAll)} since the start`);
    this.tiles.tail.put(tail, latency(tail), `${timed(tailOfAll)} since the start`);
    this.tiles.rows.put(rows, [perSecond(rows), "per s"], `${count(look.total("featurestore_rows_total"))} over HTTP since the start`);
    this.tiles.failed.put(failed, [perSecond(failed), "per s"], `${count(look.total(REQUESTS, (labels) => isWork(labels) && isFailed(labels)))} since the start`);
    this.showRoutes(look);
    this.verdicts.put(new Map([...look.by("featurestore_rows_total", "verdict")].filter(([, each]) => each.total).map(([name, each]) => [name, [perSecond(each.rate), count(each.total)]])));
    this.statuses.put(new Map([...look.by(REQUESTS, "status", ({ status }) => status >= "400")].sort().map(([name, each]) => [name, [perSecond(each.rate), count(each.total)]])));
    this.showReasons(look);
    this.showCalls(look);
    this.showRedis(look);
    if (this.all.open) this.showRaw();
  }

  showRoutes(look) {
    const groups = look.by(REQUESTS, ({ method, route }) => `${method} ${route}`), found = new Map();
    for (const [name, each] of [...groups].sort((one, other) => own(one[0]) - own(other[0]) || other[1].total - one[1].total)) {
      const [method, route] = name.split(" "), mine = (labels) => labels.method === method && labels.route === route;
      const [p50, p95, p99] = look.quantiles(DURATIONS, [0.5, 0.95, 0.99], mine).map(timed);
      found.set(name, [perSecond(each.rate), p50, p95, p99, perSecond(look.rate(REQUESTS, (labels) => mine(labels) && isFailed(labels))), count(each.total)]);
    }
    this.routes.put(found);
  }

  /** Show what only some servers tell: why requests and rows were refused, and the statuses of what was served. */
  showReasons(look) {
    const found = REASONS.flatMap(([name, kind]) => [...look.by(name, (labels) => Object.values(labels)[0])].filter(([, each]) => each.total)
      .map(([reason, each]) => [`${kind} ${reason}`, [perSecond(each.rate), count(each.total)]]));
    this.reasons.put(new Map(found));
    this.reasons.node.hidden = !found.length;
    const all = look.total(SERVED);
    this.served.put(new Map([...look.by(SERVED, "status")].map(([status, each]) => [status, [percent(each.total / all), count(each.total)]])));
    this.served.node.hidden = !all;
  }

  showCalls(look) {
    const name = "featurestore_redis_call_duration_seconds";
    this.calls.node.hidden = !look.has(`${name}_count`);
    const found = [...look.by(`${name}_count`, "script")].map(([script, each]) => {
      const [p50, p99] = look.quantiles(name, [0.5, 0.99], (labels) => labels.script === script).map(timed);
      return [script, [perSecond(each.rate), p50, p99, count(each.total)]];
    });
    this.calls.put(new Map(found));
  }

  showRedis(look) {
    const health = this.app.health || { status: "unknown" };
    const kinds = { healthy: "good", degraded: "warn", unhealthy: "bad" };
    const families = [...look.samples.keys()].filter((each) => /^featurestore_(redis_(?!call_duration)|workers$)/.test(each) && !/_(created|bucket|sum|count)$/.test(each));
    const lines = families.flatMap((name) => look.of(name).map((each) => [[name.replace(/^featurestore_(redis_)?|_total$/g, "").replace(/_/g, " "), ...Object.values(each.labels)].join(" "), count(each.value)]));
    const key = JSON.stringify([health, lines]);
    if (this.redisKey === key) return;
    this.redisKey = key;
    const nodes = health.nodes || [];
    this.state.replaceChildren(...[
      h("p", null, chip(health.status, kinds[health.status]), " ", health.reason ? visible(health.reason) : health.share !== undefined ? `${(health.share * 100).toFixed(1)} % of the ids can be served` : health.status === "healthy" ? "It answers, and holds a schema." : ""),
      nodes.length > 0 && table("stack", "Servers", ["Server", "Role", "Answers"], nodes.map((each) => tr(null, th({ class: "mono" }, visible(each.node)), td(null, each.role), td(null, chip(each.answers ? "answers" : "no answer", each.answers ? "good" : "bad"))))),
      lines.length > 0 && facts(lines.map(([name, value]) => [visible(name), value])),
    ].filter(Boolean));
  }

  showRaw() {
    if (!this.all.open || !this.look) return;
    const lines = [...this.look.samples].filter(([name]) => !name.endsWith("_bucket") && !name.endsWith("_created")).flatMap(([name, samples]) => samples.map((each) => [`${name} ${Object.values(each.labels).join(" ")}`, each, name]));
    if (!this.rawRows) {
      this.rawRows = new Map();
      const made = table("", "All metrics", ["Metric", "Labels", num("Value")], []);
      this.rawBody = made.lastChild;
      this.raw.replaceChildren(made);
    }
    for (const [key, each, name] of lines) {
      let row = this.rawRows.get(key);
      if (!row) {
        row = tr(null, th({ class: "mono" }, name), td({ class: "quiet" }, visible(Object.entries(each.labels).map(([label, value]) => `${label}=${value}`).join(" "))), td({ class: "num" }));
        this.rawRows.set(key, row);
        this.rawBody.append(row);
      }
      setText(row.lastChild, Number.isInteger(each.value) ? count(each.value) : figure(each.value));
    }
  }
}
