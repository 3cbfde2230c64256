import type { Value } from "./msgpack";
import type { Given, Time } from "./words";

/** An entity's id: text, or bytes. */
export type Id = string | Buffer;

/** What `describe_entity` tells, under the names that it uses. Spans are ms. */
export interface Schema {
  contract: number;
  version: number;
  layout: string;
  features: [name: string, type: string][];
  /** The names of the packed row: what is read where nothing is named. */
  row: string[];
  services: [name: string, digest: string, features: string[]][];
  join_key: string | null;
  members: string;
  ttl: number | null;
  max_age: number | null;
  tombstone: number;
  max_ahead: number;
  options: [word: string, value: string][];
}

export interface OpenOptions {
  /** Send reads as EVALSHA_RO: for replicas, and for users who may not write. Redis 7.0 or later, or Valkey. */
  readOnly?: boolean;
  /** Key of the schema, which ends in `schema`; `<entity>:schema` by default. */
  schema?: string;
}

/** What is read: the names given, the features of a service, or, without both, those of the packed row. */
export interface ReadOptions<Name = string> {
  names?: readonly Name[];
  service?: string;
  /** Values older than that many ms are null. */
  maxAge?: number;
}

/** Features by name. Any of them may be null: there is none, or it is too old. */
export type Features<Row> = { [Name in keyof Row]: Row[Name] | null };

/** Rows aligned with the ids, null for an unknown one. `names` says what the values of a row are. */
export interface Table<Row> {
  names: readonly string[];
  rows: (Row | null)[];
}

export type Status = "present" | "missing" | "default" | "stale";

/** Features with what is known of them. Times are ms since 1970; the age is in ms, by Redis's clock. */
export interface Described<Row> {
  features: Features<Row>;
  eventTime: number | null;
  age: number | null;
  status: { [Name in keyof Row]: Status };
  eventTimes: { [Name in keyof Row]: number | null };
}

export interface WriteOptions {
  /** When it happened, for what has no time of its own. Without one: now, and written whatever is stored. */
  time?: Time;
}

export interface UpsertOptions extends WriteOptions {
  /** Write what is older than the stored values too. */
  overwrite?: boolean;
}

export interface DeleteOptions extends WriteOptions {
  /** How long, in ms, the deletion is remembered; by default what the schema says. */
  keep?: number;
}

/** Features to be written. null and undefined remove one; a name that is not there keeps it. */
export interface Write<Row = Record<string, Value>> {
  id: Id;
  features: { [Name in keyof Row]?: Given };
  time?: Time;
}

/** Something that happened to an entity, with the numbers that windows sum. The same `eventId` is counted once. */
export interface Event {
  id: Id;
  numbers?: Record<string, number | null | undefined>;
  time?: Time;
  eventId?: string;
}

/** A row or an event that was not written. */
export interface Rejected {
  index: number;
  id: Id;
  code: string;
  reason: string;
}

/** What became of rows or events. `verdicts` has a letter for each; R is for those that are rejected. */
export interface WriteResult {
  written: number;
  skipped: number;
  rejected: Rejected[];
  verdicts: string;
}
