// What calls take of Redis's one thread, in µs, so that none takes more than MOST_US: as long nobody else is served. The
// numbers are those of featurestore/contract/costs.py and read_costs.py, which explain each; a test compares them.
const MOST_ROWS = 100;
const MOST_US = 1000;
/** Most values that one call makes where packed rows do not serve. */
export const MOST_MADE = 1000;

const STORED_ROW_US = 0.7;
const STORED_VALUE_US = 0.012;
const CAST_ROW_US = 2;
const CAST_VALUE_US = 0.8;
const CARRIED_VALUE_US = 0.008;
const VECTOR_BYTE_US = 0.001;
const AGED_ROW_US = 4;
const AGED_VALUE_US = 0.3;
const READ_WINDOW_US = 4;
const ADDED_WINDOW_US = 14;

const WRITTEN_ROW_US = 4;
const WRITTEN_VALUE_US = 1.1;
const MERGED_ROW_US = 10;
const MERGED_VALUE_US = 0.7;
const EVENT_US = 8;
const WINDOW_US = 6;
const NUMBERS_PER_VALUE = 32;

type Types = readonly string[];

/**
 * What a row takes to read: as it is stored, or by names; with times and limits of age, so much more; and where no row of
 * the layout is stored.
 */
export interface ReadCosts {
  rowUs: number;
  agesUs: number;
  madeUs: number;
}

/** The costs of a row of these types: a packed row, or features by name. */
export function costsOf(types: Types, stored: boolean): ReadCosts {
  const windows = types.filter(isWindow).length * (ADDED_WINDOW_US - READ_WINDOW_US);
  const values = sum(types, (type) => {
    return isWindow(type) ? READ_WINDOW_US : STORED_VALUE_US + 4 * numbersOf(type) * VECTOR_BYTE_US;
  });
  const cast = CAST_ROW_US + types.length * CAST_VALUE_US + values;
  return {
    rowUs: stored ? STORED_ROW_US + values : cast,
    agesUs: AGED_ROW_US + types.length * AGED_VALUE_US + windows,
    madeUs: cast + windows,
  };
}

/** Whether Redis hands on a packed row, of which `others` values are not wanted, for less than features by name. */
export function isCheaper(row: ReadCosts, others: number, named: ReadCosts, aged: boolean): boolean {
  return row.rowUs + others * (CARRIED_VALUE_US + (aged ? AGED_VALUE_US : 0)) <= named.rowUs;
}

/** Whether calls that make rows are to say how many: as many as a call may have would take too long. */
export function isRationed(costs: ReadCosts): boolean {
  return costs.madeUs * MOST_ROWS > MOST_US;
}

/** What an upsert of these columns takes for a row; `features` are all of the entity, with their types. */
export function upsertUs(names: readonly string[], features: ReadonlyMap<string, string>): number {
  const given = weight(names.flatMap((name) => features.get(name) ?? []));
  const all = weight([...features.values()]);
  return given < all ? MERGED_ROW_US + MERGED_VALUE_US * (all + given) : WRITTEN_ROW_US + WRITTEN_VALUE_US * all;
}

/** What an event takes that is counted in all windows among these types. */
export function eventUs(types: Types): number {
  return EVENT_US + WINDOW_US * types.filter(isWindow).length + MERGED_VALUE_US * weight(types);
}

/** How many rows that take so long may be in one call, or calls that are sent together. */
export function rowsPerCall(us: number): number {
  return Math.max(1, Math.min(MOST_ROWS, Math.floor(MOST_US / us)));
}

/** How many scalar values take as long as values of these types. */
function weight(types: Types): number {
  return sum(types, (type) => 1 + numbersOf(type) / NUMBERS_PER_VALUE);
}

function numbersOf(type: string): number {
  return type.startsWith("float32[") ? parseInt(type.slice("float32[".length), 10) : 0;
}

function isWindow(type: string): boolean {
  return type.includes("(");
}

function sum(types: Types, us: (type: string) => number): number {
  return types.reduce((total, type) => total + us(type), 0);
}
