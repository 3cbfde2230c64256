// The golden vectors (tests/vectors): the scripts as this package has them answer the same bytes through every client,
// and its decoder makes of them what the vectors say.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import { FeatureStoreError, Scripts, unpack } from "featurestore-redis";

import { clients } from "./clients.mjs";

const DATABASE = 2;
const DIGEST = 8;
const folder = process.env.PORT_TEST_VECTORS;
if (!folder) throw new Error("set PORT_TEST_VECTORS to the folder of the golden vectors");
const files = readdirSync(folder).filter((name) => name.endsWith(".json"));
assert.ok(files.length > 0, `there are no vectors in ${folder}`);

const bytes = (word) => (typeof word === "string" ? Buffer.from(word) : Buffer.from(word.hex, "hex"));

/** What a VALUE of the vectors is here. */
function valueOf(said) {
  if (Array.isArray(said)) return said.map(valueOf);
  if (typeof said === "number") return numberOrBigint(said);
  if (said === null || typeof said !== "object") return said;
  if ("int" in said) return numberOrBigint(said.int);
  if ("float" in said) return Number(said.float);
  if ("hex" in said) return new Float32Array(new Uint8Array(bytes(said)).buffer);
  return Object.fromEntries(Object.entries(said.map).map(([key, value]) => [key, valueOf(value)]));
}

function numberOrBigint(int) {
  return Number.isSafeInteger(Number(int)) ? Number(int) : BigInt(int);
}

function check(reply, expected) {
  if (expected.error !== undefined || expected.error_code !== undefined) {
    assert.ok(reply instanceof FeatureStoreError, `want an error, not ${reply}`);
    if (expected.error_code !== undefined) return assert.equal(reply.code, expected.error_code);
    assert.equal(reply.code, expected.error.split(" ")[0]);
    return assert.equal(reply.message, expected.error);
  }
  if (reply instanceof Error) throw reply;
  if (expected.nil) return assert.equal(reply, null);
  if (expected.int !== undefined) return assert.equal(reply, expected.int);
  if (expected.int_at_least !== undefined)
    return assert.ok(reply >= expected.int_at_least, `${reply} < ${expected.int_at_least}`);
  if (expected.array) {
    assert.equal(reply.length, expected.array.length);
    return expected.array.forEach((each, i) => check(reply[i], each));
  }
  assert.ok(Buffer.isBuffer(reply), `want bytes, not ${reply}`);
  if (expected.msgpack) return assert.deepEqual(unpack(reply), valueOf(expected.msgpack));
  assert.ok(expected.bulk !== undefined, `a reply of another form: ${JSON.stringify(expected)}`);
  assert.equal(reply.toString("hex"), bytes(expected.bulk).toString("hex"));
  if (expected.digest !== undefined) assert.equal(reply.toString("latin1", 0, DIGEST), expected.digest);
  if (expected.values)
    assert.deepEqual(unpack(reply, expected.digest === undefined ? 0 : DIGEST), valueOf(expected.values));
}

for (const [name, connect] of Object.entries(clients)) {
  describe(name, () => {
    let connection, scripts;
    before(async () => {
      connection = await connect(DATABASE);
      scripts = new Scripts(connection.client);
    });
    after(() => connection.close());

    for (const file of files) {
      const { contract, cases } = JSON.parse(readFileSync(join(folder, file), "utf8"));
      for (const { name, steps } of cases) {
        test(`${file}: ${name}`, async () => {
          assert.equal(contract, 1);
          await connection.command(["FLUSHDB"]);
          for (const [number, step] of steps.entries()) {
            const reply = await (step.script
              ? scripts.call(step.script, step.keys.map(bytes), step.args.map(bytes)).catch((error) => error)
              : connection.command(step.command.map((word) => (typeof word === "string" ? word : bytes(word)))));
            try {
              if (step.reply) check(reply, step.reply);
            } catch (error) {
              error.message = `step ${number}: ${error.message}`;
              throw error;
            }
          }
        });
      }
    }
  });
}
