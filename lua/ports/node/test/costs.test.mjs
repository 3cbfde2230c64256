// What calls cost is what the Python store holds them to cost.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { costsOf, eventUs, isCheaper, rowsPerCall, upsertUs } from "featurestore-redis/dist/costs.js";

const cases = JSON.parse(readFileSync(process.env.PORT_TEST_COSTS, "utf8"));

test("costs are those of the Python store", () => {
  assert.ok(cases.length > 0);
  for (const { row: types, picked, us, cheaper, in_call } of cases) {
    const first = types.length - picked;
    const features = new Map(types.map((type, i) => [`f${i}`, type]));
    const row = costsOf(types, true);
    const named = costsOf(types.slice(first), false);
    const upsert = upsertUs([...features.keys()].slice(first), features);
    const read = { row: row.rowUs, named: named.rowUs, ages: row.agesUs, made: row.madeUs };
    const found = { ...read, upsert, event: eventUs(types) };
    assert.deepEqual(Object.keys(found).sort(), Object.keys(us).sort());
    for (const what in us) assert.ok(Math.abs(found[what] - us[what]) < 1e-6, `${what} ${found[what]} ${us[what]}`);
    assert.deepEqual(
      [false, true].map((aged) => isCheaper(row, first, named, aged)),
      cheaper,
    );
    assert.deepEqual([rowsPerCall(row.rowUs), rowsPerCall(row.madeUs)], in_call);
  }
});
