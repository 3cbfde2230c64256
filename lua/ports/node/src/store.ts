import { costsOf, eventUs, isCheaper, isRationed, MOST_MADE, rowsPerCall, upsertUs, type ReadCosts } from "./costs";
import { unpack, type Value } from "./msgpack";
import { byName, described, values, type Make, type Selection } from "./rows";
import { FeatureStoreError, Scripts, type Ioredis, type NodeRedis, type Word } from "./scripts";
import type * as t from "./types";
import { LEAVE, timeOf, wordOf, type Time } from "./words";

const RECHECK = 1000; // ms after which a read makes sure that the schema still has its layout, or its service
const CONTRACT = 1;

type Names<Row> = keyof Row & string;
type Sent = { id: t.Id; values: object; time?: Time | undefined; eventId?: string | undefined };

/** The features of one kind of entity, typed as `Row`. */
export class FeatureStore<Row extends object = Record<string, Value>> {
  /** The schema as last seen. */
  schema!: t.Schema;
  private keys!: [members: string, schema: string];
  private types!: Map<string, string>; // of all features
  private places!: Map<string, number>; // of the features in the row
  private costs!: ReadCosts; // of the row
  private checked = 0; // when a read last made sure of the layout
  private described = 0; // when the schema was asked for
  private refreshing: Promise<void> | undefined;

  private constructor(
    readonly scripts: Scripts,
    private readonly prefix: string,
  ) {}

  /** Return the store of an entity, once Redis has told its schema. */
  static async open<Row extends object = Record<string, Value>>(
    client: Ioredis | NodeRedis,
    entity = "user",
    { readOnly = false, schema = `${entity}:schema` }: t.OpenOptions = {},
  ): Promise<FeatureStore<Row>> {
    if (!schema.endsWith("schema")) throw new TypeError(`the key of a schema ends in schema: ${schema}`);
    const store = new FeatureStore<Row>(new Scripts(client, readOnly), schema.slice(0, -"schema".length));
    await store.refresh();
    return store;
  }

  /** Ask for the schema again. A read that finds out that it has changed does so by itself. */
  refresh(): Promise<void> {
    this.refreshing ??= this.seeSchema().finally(() => (this.refreshing = undefined));
    return this.refreshing;
  }

  /** Read the features of one entity; null if it is unknown. */
  get<N extends Names<Row> = Names<Row>>(id: t.Id, options: t.ReadOptions<N> = {}) {
    return this.one<t.Features<Pick<Row, N>>>(id, options, byName);
  }

  /** Read the features of many entities, aligned with the ids. */
  async getMany<N extends Names<Row> = Names<Row>>(ids: readonly t.Id[], options: t.ReadOptions<N> = {}) {
    return (await this.many<t.Features<Pick<Row, N>>>(ids, options, byName)).rows;
  }

  /** Read the features of many entities as arrays, and the names that these are aligned with. */
  table(ids: readonly t.Id[], options: t.ReadOptions<Names<Row>> = {}): Promise<t.Table<Value[]>> {
    return this.many<Value[]>(ids, options, values);
  }

  /** Read the features of one entity with their times and status; null if it is unknown. */
  describe<N extends Names<Row> = Names<Row>>(id: t.Id, options: t.ReadOptions<N> = {}) {
    return this.one<t.Described<Pick<Row, N>>>(id, options, described, "?metadata");
  }

  /** Read the features of many entities with their times and status, aligned with the ids. */
  async describeMany<N extends Names<Row> = Names<Row>>(ids: readonly t.Id[], options: t.ReadOptions<N> = {}) {
    return (await this.many<t.Described<Pick<Row, N>>>(ids, options, described, "?metadata")).rows;
  }

  /** Write features of many entities. Each row stands or falls by itself. */
  upsert(rows: readonly t.Write<Row>[], { time, overwrite }: t.UpsertOptions = {}): Promise<t.WriteResult> {
    const sent = rows.map((row) => ({ ...row, values: row.features }));
    return this.write("upsert_features", overwrite ? ["?verdicts", "?overwrite"] : ["?verdicts"], sent, time);
  }

  /** Count events in the windows that the schema declares. Each event stands or falls by itself. */
  record(events: readonly t.Event[], { time }: t.WriteOptions = {}): Promise<t.WriteResult> {
    const sent = events.map(({ numbers = {}, ...event }) => {
      return { ...event, values: Object.fromEntries(Object.entries(numbers).filter(([, number]) => number != null)) };
    });
    return this.write("record_events", [], sent, time);
  }

  /** Add to numeric features of one entity, all or none. Return the new values; null if it was deleted later. */
  async increment<N extends Names<Row>>(
    id: t.Id,
    amounts: { [Name in N]: number | bigint },
    { time }: t.WriteOptions = {},
  ) {
    const words = Object.entries(amounts).flatMap(([name, amount]) => [name, String(amount)]);
    const reply = await this.scripts.call(
      "increment_features",
      [...this.keys, this.key(id)],
      [id, timeOf(time), ...words],
    );
    if (reply === null) return null;
    return byName({ names: Object.keys(amounts) }, reply) as { [Name in N]: number | bigint };
  }

  /** Remove an entity. For `keep` ms, rows with an event time up to that of the deletion are refused as older. */
  async delete(id: t.Id, { time, keep }: t.DeleteOptions = {}): Promise<"removed" | "unknown" | "newer"> {
    const words = [id, timeOf(time), ...(keep === undefined ? [] : [String(keep)])];
    const removed = await this.scripts.call("delete_entity", [...this.keys, this.key(id)], words);
    return removed === 1 ? "removed" : removed === 0 ? "unknown" : "newer";
  }

  private async seeSchema(): Promise<void> {
    const key = `${this.prefix}schema`;
    const schema = unpack((await this.scripts.call("describe_entity", [key], [])) as Buffer) as unknown as t.Schema;
    if (schema.contract !== CONTRACT) throw new Error(`the scripts' contract is ${schema.contract}, not ${CONTRACT}`);
    this.schema = schema;
    this.places = new Map(schema.row.map((name, place) => [name, place]));
    this.types = new Map(schema.features);
    this.costs = costsOf(this.typesOf(schema.row), true);
    this.checked = this.described = Date.now();
    this.keys = [schema.members, key];
  }

  private key(id: t.Id): Word {
    if (typeof id === "string") return `${this.prefix}${id}:features`;
    return Buffer.concat([Buffer.from(this.prefix), id, Buffer.from(":features")]);
  }

  private select({ names, service, maxAge }: t.ReadOptions, option?: string): Selection {
    const words = [...(option ? [option] : []), ...(maxAge === undefined ? [] : [`?max_age=${maxAge}`])];
    const { layout, row } = this.schema;
    const aged = words.length > 0;
    if (names && !names.length) throw new TypeError("name at least one feature");
    const wanted = names ?? (service === undefined ? undefined : this.listed(service));
    if (wanted) {
      const costs = costsOf(this.typesOf(wanted), false);
      const columns = wanted.map((name) => this.places.get(name) ?? -1);
      if (columns.includes(-1) || !isCheaper(this.costs, row.length - wanted.length, costs, aged))
        return { words: [...words, ...plain(wanted)], names: wanted, costs, aged };
      return { ...this.byLayout(words), names: wanted, digest: layout, columns, width: row.length, aged };
    }
    return { ...this.byLayout(words), names: row, digest: layout, aged };
  }

  /** The words of a read by layout. Once a second one makes sure of the schema. */
  private byLayout(words: string[]): { words: string[]; costs: ReadCosts } {
    const current = !words.length && Date.now() - this.checked >= RECHECK;
    if (current) this.checked = Date.now();
    return { words: [...words, ...(current ? ["?current"] : []), this.schema.layout], costs: this.costs };
  }

  private typesOf(names: readonly string[]): string[] {
    return names.map((name) => this.types.get(name) ?? ""); // of one that is not declared Redis tells
  }

  private listed(service: string): readonly string[] {
    const found = this.schema.services.find(([name]) => name === service);
    if (found) return found[2];
    const text = `UNDECLARED the schema lists no service ${service} that one call can read`;
    throw new FeatureStoreError("UNDECLARED", text);
  }

  /** Ask for the schema again where it lacks a service, or was asked for a second ago: no script tells of other lists. */
  private async seeService(service: string): Promise<void> {
    const lacks = !this.schema.services.some(([name]) => name === service);
    if (lacks || Date.now() - this.described >= RECHECK) await this.refresh();
  }

  /** Read, and a second time if the schema is not the one last seen. */
  private async read<T>(
    options: t.ReadOptions,
    option: string | undefined,
    attempt: (selection: Selection) => Promise<T>,
  ): Promise<T> {
    if (options.service !== undefined && !options.names) await this.seeService(options.service);
    const seen = this.schema;
    try {
      return await attempt(this.select(options, option));
    } catch (error) {
      if (!(error instanceof FeatureStoreError && error.code === "SCHEMA_CHANGED")) throw error;
    }
    if (this.schema === seen) await this.refresh();
    return attempt(this.select(options, option));
  }

  private one<T>(id: t.Id, options: t.ReadOptions, make: Make, option?: string): Promise<T | null> {
    return this.read(options, option, async (selection) => {
      const found = await this.scripts.call("get_features", [...this.keys, this.key(id)], [id, ...selection.words]);
      return found === null ? null : (make(selection, found) as T);
    });
  }

  private many<T>(ids: readonly t.Id[], options: t.ReadOptions, make: Make, option?: string): Promise<t.Table<T>> {
    return this.read(options, option, async (selection) => {
      const found = await this.batch(selection, ids);
      return { names: selection.names, rows: found.map((row) => (row === null ? null : (make(selection, row) as T))) };
    });
  }

  /**
   * What is found for each id. Calls hand on the rows that are stored by the layout. The others, after a change of the
   * schema all of them, are made: those beyond what one call may make come as 0, and are asked for again, a few a call.
   */
  private async batch({ words, digest, costs, aged }: Selection, ids: readonly t.Id[]): Promise<unknown[]> {
    const rationed = digest !== undefined && isRationed(costs) ? [`?most=${MOST_MADE}`, ...words] : words;
    const found = await this.rows(rationed, ids, costs.rowUs + (aged ? costs.agesUs : 0));
    for (let left = unmade(found); left.length; ) {
      const again = left.map((place) => ids[place]!);
      const made = await this.rows(rationed, again, costs.madeUs);
      left.forEach((place, i) => (found[place] = made[i]));
      const still = unmade(found);
      if (still.length === left.length) throw new Error(`get_features_batch made none of ${left.length} rows`);
      left = still;
    }
    return found;
  }

  /** Call for these ids, whose rows take so long each: calls that take about 1 ms are sent together, then the next. */
  private async rows(words: string[], ids: readonly t.Id[], us: number): Promise<unknown[]> {
    const size = rowsPerCall(us);
    const call = (part: readonly t.Id[]) => {
      const keys = [...this.keys, ...part.map((id) => this.key(id))];
      return this.scripts.call("get_features_batch", keys, [String(words.length), ...words, ...part]);
    };
    const found: unknown[] = [];
    // Redis runs all that one read of a connection brings before it serves another.
    for (const together of parts(parts(ids, size), rowsPerCall(us * size)))
      for (const reply of await Promise.all(together.map(call)))
        // By name, a reply is one msgpack array of all rows.
        found.push(...((Buffer.isBuffer(reply) ? unpack(reply) : reply) as unknown[]));
    return found;
  }

  private async write(
    script: "upsert_features" | "record_events",
    words: string[],
    rows: Sent[],
    time?: Time,
  ): Promise<t.WriteResult> {
    const own = rows.some((row) => row.time !== undefined) ? ["@event_time"] : [];
    const named = rows.some((row) => row.eventId !== undefined) ? ["@event_id"] : [];
    const names = plain([...new Set(rows.flatMap((row) => Object.keys(row.values)))]);
    const columns = [...words, ...own, ...named, ...names];
    const head = [timeOf(time), String(columns.length), ...columns];
    const result = { written: 0, skipped: 0, rejected: [] as t.Rejected[] };
    const verdicts = new Array<string>(rows.length).fill("R");
    const reject = (index: number, code: string, reason: string) =>
      result.rejected.push({ index, id: rows[index]!.id, code, reason });

    const sent = rows.flatMap((row, index) => {
      const given = new Map(Object.entries(row.values));
      const cells = names.map((name) => (given.get(name) === undefined ? LEAVE : wordOf(given.get(name))));
      const unfit = cells.indexOf(undefined);
      if (unfit >= 0) reject(index, "BADTYPE", `${names[unfit]} cannot be written: ${typeof given.get(names[unfit]!)}`);
      const front = [row.id, ...own.map(() => timeOf(row.time)), ...named.map(() => row.eventId ?? "")];
      return unfit >= 0 ? [] : [{ index, words: [...front, ...(cells as Word[])] }];
    });
    // One part after the other: rows of one entity without a time count in their order.
    const us = script === "upsert_features" ? upsertUs(names, this.types) : eventUs([...this.types.values()]);
    for (const part of parts(sent, rowsPerCall(us))) {
      const keys = [...this.keys, ...part.map(({ index }) => this.key(rows[index]!.id))];
      const reply = await this.scripts.call(script, keys, [...head, ...part.flatMap((row) => row.words)]);
      const [written, skipped, rejected, letters] = reply as [number, number, [number, Buffer, Buffer][], Buffer];
      result.written += written;
      result.skipped += skipped;
      part.forEach(({ index }, position) => (verdicts[index] = String.fromCharCode(letters[position]!)));
      for (const [position, code, reason] of rejected)
        reject(part[position]!.index, code.toString(), reason.toString());
    }
    result.rejected.sort((one, other) => one.index - other.index);
    return { ...result, verdicts: verdicts.join("") };
  }
}

/** Names that are no options or other words that mean something to the scripts. */
function plain<T extends readonly string[]>(names: T): T {
  const odd = names.find((name) => name === "" || "?@".includes(name[0]!));
  if (odd !== undefined) throw new TypeError(`${JSON.stringify(odd)} is no name of a feature`);
  return names;
}

function parts<T>(all: readonly T[], size: number): T[][] {
  return Array.from({ length: Math.ceil(all.length / size) }, (_, i) => all.slice(i * size, (i + 1) * size));
}

/** The places of the rows to be asked for again. */
function unmade(found: readonly unknown[]): number[] {
  return found.flatMap((row, place) => (row === 0 ? [place] : []));
}
