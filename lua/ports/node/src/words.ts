import type { Word } from "./scripts";

/** A value to be written. null removes the feature; undefined leaves it as it is, as a name that is left out does. */
export type Given = number | bigint | string | boolean | Float32Array | readonly number[] | Buffer | null | undefined;
/** When something happened: ms since 1970, ISO 8601, or a Date. */
export type Time = number | string | Date;

/** What stands in a value's place. Bytes: the string "\xff" would be sent as the two bytes of the letter ÿ. */
export const FORGET = Buffer.from([0xff]),
  LEAVE = Buffer.from([0xfe]);

/** A value as the scripts take it; undefined if it is of no type that can be written. */
export function wordOf(value: unknown): Word | undefined {
  if (value === null) return FORGET;
  if (typeof value === "string" || Buffer.isBuffer(value)) return value;
  if (typeof value === "number" || typeof value === "bigint" || typeof value === "boolean") return String(value);
  if (value instanceof Float32Array)
    return Buffer.from(new Uint8Array(value.buffer, value.byteOffset, value.byteLength));
  if (Array.isArray(value) && value.every((each) => typeof each === "number")) return wordOf(Float32Array.from(value));
  return undefined;
}

/** A time as the scripts take it. None is empty: now, by Redis's clock. */
export function timeOf(time: Time | undefined): Word {
  return time instanceof Date ? String(time.getTime()) : String(time ?? "");
}
