import type { ReadCosts } from "./costs";
import { unpack, type Value } from "./msgpack";
import { FeatureStoreError } from "./scripts";
import type { Described, Status } from "./types";

/**
 * What a read asks for, and what its replies are aligned with. Rows begin with the digest, where there is one. `columns`
 * are the places of the names among the `width` values of a row, where the whole row is read for some of its features.
 * `aged` is whether times are looked at.
 */
export interface Selection {
  words: string[];
  names: readonly string[];
  digest?: string;
  columns?: number[] | undefined;
  width?: number;
  costs: ReadCosts;
  aged: boolean;
}

/** What a reply is aligned with. */
export type Told = Omit<Selection, "words" | "costs" | "aged">;

/** Makes what callers get of what a script found. */
export type Make<T = unknown> = (selection: Told, found: unknown) => T;

const DIGEST = 8; // bytes
const STATUS: Record<string, Status> = { P: "present", M: "missing", D: "default", S: "stale" };

/** The values of a row: of its bytes, or of an array, if it was unpacked with others. */
export const values: Make<Value[]> = (selection, found) => {
  const { names, digest, width = names.length } = selection;
  if (digest !== undefined && (found as Buffer).toString("latin1", 0, DIGEST) !== digest)
    throw new FeatureStoreError("SCHEMA_CHANGED", `SCHEMA_CHANGED the row is not of the digest ${digest}`);
  const row = (Buffer.isBuffer(found) ? unpack(found, digest === undefined ? 0 : DIGEST) : found) as Value[];
  return picked(selection, row, width);
};

/** What belongs to the features wanted, of a value for each of the row's. */
function picked<T>({ columns }: Told, all: readonly T[], width: number): T[] {
  if (all.length !== width) throw new RangeError(`want ${width} values, not ${all.length}`);
  return columns ? columns.map((column) => all[column]!) : (all as T[]);
}

export const byName: Make<Record<string, Value>> = (selection, found) =>
  keyed(selection.names, values(selection, found));

export const described: Make<Described<Record<string, Value>>> = (selection, found) => {
  const [row, eventTime, age, letters, times] = found as [
    Buffer,
    number | null,
    number | null,
    Buffer,
    (number | null)[],
  ];
  const { names, width = names.length } = selection;
  const statuses = Array.from(letters.toString(), (letter) => STATUS[letter]!);
  return {
    features: byName(selection, row),
    eventTime,
    age,
    status: keyed(names, picked(selection, statuses, width)),
    eventTimes: keyed(names, picked(selection, times, width)),
  };
};

function keyed<T>(names: readonly string[], all: readonly T[]): Record<string, T> {
  // A feature may be called __proto__, which an assignment would not make a property of.
  if (names.includes("__proto__")) return Object.fromEntries(names.map((name, i) => [name, all[i]!]));
  const row: Record<string, T> = {};
  for (let i = 0; i < names.length; i++) row[names[i]!] = all[i]!;
  return row;
}
