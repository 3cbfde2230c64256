import assert from "node:assert/strict";
import { after, before, beforeEach, describe, test } from "node:test";

import { FeatureStore, FeatureStoreError, LEAVE, SCRIPTS, Scripts } from "featurestore-redis";

import { clients } from "./clients.mjs";

const DATABASE = 1;
const TIME = 1_700_000_000_000; // 2023-11-14T22:13:20Z
const FEATURES = [
  ["age", "float"],
  ["logins", "int"],
  ["premium", "bool"],
  ["country", "string"],
  ["taste", "float32[3]"],
  ["clicks", "count(10m)"],
  ["spent", "sum(amount, 1h)"],
];
const ANN = { age: 31.5, logins: 7, premium: true, country: "DE", clicks: 0, spent: 0 };

for (const [name, connect] of Object.entries(clients)) {
  describe(name, () => {
    let connection, scripts, command, users;
    const apply = (...words) => scripts.call("apply_schema", ["user:schema"], words);
    const open = (options) => FeatureStore.open(connection.client, "user", options);
    const upsert = (id, features, time = TIME) => users.upsert([{ id, features, time }]);

    before(async () => {
      connection = await connect(DATABASE);
      ({ command } = connection);
      scripts = new Scripts(connection.client);
    });
    beforeEach(async () => {
      await command(["FLUSHDB"]);
      await apply(...FEATURES.flat());
      users = await open();
      await upsert("ann", { age: 31.5, logins: 7, premium: true, country: "DE", taste: [1, 0.5, -2] });
    });
    after(() => connection.close());

    describe("reading", () => {
      test("one entity is an object of all features but the vectors, typed", async () => {
        assert.deepEqual(await users.get("ann"), ANN);
      });

      test("an unknown entity is null", async () => {
        assert.equal(await users.get("nobody"), null);
        assert.deepEqual(await users.getMany(["nobody", "ann"]), [null, ANN]);
        assert.deepEqual(await users.getMany(["nobody"], { names: ["age"] }), [null]);
      });

      test("many entities are aligned with the ids, over several calls, duplicates included", async () => {
        const ids = Array.from({ length: 250 }, (_, i) => `user${i}`);
        await users.upsert(ids.map((id, i) => ({ id, features: { logins: i } })));
        const asked = [...ids.slice(200), "nobody", "user3", ...ids];
        const found = await users.getMany(asked);
        assert.deepEqual(
          found.map((row) => row?.logins),
          asked.map((id) => (id === "nobody" ? undefined : Number(id.slice(4)))),
        );
        assert.deepEqual(await users.getMany([]), []);
      });

      test("rows may be arrays, with the names that they are aligned with", async () => {
        assert.deepEqual(await users.table(["ann", "nobody"]), {
          names: Object.keys(ANN),
          rows: [Object.values(ANN), null],
        });
        assert.deepEqual(await users.table(["ann"], { names: ["country", "age"] }), {
          names: ["country", "age"],
          rows: [["DE", 31.5]],
        });
      });

      test("names that are given are read, vectors too, as a copy of their own", async () => {
        const taste = Float32Array.of(1, 0.5, -2);
        assert.deepEqual(await users.get("ann", { names: ["taste", "country"] }), { taste, country: "DE" });
        const [row] = await users.getMany(["ann"], { names: ["taste"] });
        assert.deepEqual(row, { taste });
        assert.equal(row.taste.byteOffset, 0);
        assert.equal(row.taste.buffer.byteLength, 12);
      });

      describe("without windows", () => {
        const wide = Array.from({ length: 500 }, (_, i) => `f${i}`);
        /** Declare the first of the features, a vector and two services; store some of them, and 99 in the field of f0. */
        const declare = async (width) => {
          await command(["FLUSHDB"]);
          const services = ["@service:pair", '["f1","f0"]', "@service:mixed", '["f1","taste"]'];
          await apply("taste", "float32[3]", ...services, ...wide.slice(0, width).flatMap((name) => [name, "int"]));
          users = await open();
          await upsert("ann", { f0: 10, f1: 11, taste: [1, 0.5, -2] });
          await command(["HSET", "user:ann:features", "f0", "99", "f1", "98"]);
        };

        test("features of the row are picked of the row, which costs Redis less than their fields", async () => {
          await declare(4);
          for (const options of [{ names: ["f1", "f0"] }, { service: "pair" }]) {
            assert.deepEqual(await users.get("ann", options), { f1: 11, f0: 10 });
            assert.deepEqual(await users.getMany(["nobody", "ann"], options), [null, { f1: 11, f0: 10 }]);
            assert.deepEqual(await users.table(["ann"], options), { names: ["f1", "f0"], rows: [[11, 10]] });
            assert.deepEqual((await users.describe("ann", options)).features, { f1: 11, f0: 10 });
          }
          for (const options of [{ names: ["f1", "taste"] }, { service: "mixed" }])
            assert.deepEqual(await users.get("ann", options), { f1: 98, taste: Float32Array.of(1, 0.5, -2) });
        });

        test("few of very many features are read by name", async () => {
          await declare(500);
          assert.deepEqual(await users.get("ann", { names: ["f0"] }), { f0: 99 });
          const row = await users.get("ann", { names: wide.slice(0, 20) });
          assert.deepEqual([row.f0, row.f1, row.f2], [10, 11, null]);
        });

        test("a batch after a change of the schema is answered whole, by calls that are short", async (t) => {
          await declare(500);
          const ids = Array.from({ length: 100 }, (_, i) => `user${i}`);
          const call = t.mock.method(users.scripts, "call");
          const write = await users.upsert(ids.map((id, i) => ({ id, features: { f0: i } })));
          assert.equal(write.verdicts, "C".repeat(100));
          assert.equal(call.mock.callCount(), 50); // a row takes 360 µs to merge

          const read = async (options) => {
            call.mock.resetCalls();
            const rows = await users.getMany([...ids, "nobody"], options);
            assert.deepEqual(
              rows.map((row) => row && row.f0),
              [...ids.keys(), null],
            );
            return call.mock.callCount();
          };
          assert.equal(await read(), 2);
          await apply("late", "int");
          await users.refresh();
          assert.ok((await read()) >= 50); // none is stored by the new layout, and one takes 400 µs to make
          assert.ok((await read({ maxAge: 10 * 365 * 86_400_000 })) >= 50);
          const described = await users.describeMany([...ids, "nobody"]);
          assert.deepEqual(
            described.map((row) => row && row.features.f0),
            [...ids.keys(), null],
          );
        });

        test("calls are sent together up to 1 ms of Redis's time", async (t) => {
          await declare(500);
          const { call } = users.scripts;
          let under = 0;
          const most = [];
          t.mock.method(users.scripts, "call", async (...words) => {
            most.push(++under);
            return call.apply(users.scripts, words).finally(() => under--);
          });
          const ids = Array.from({ length: 250 }, (_, i) => `user${i}`);
          await users.getMany(ids); // 7 µs a row
          assert.deepEqual(most.splice(0), [1, 1, 1]);
          await users.getMany(ids, { names: ["f0"] }); // 3
          assert.deepEqual(most, [1, 2, 3]);
        });
      });

      test("what is no name of a feature is not sent as an option", async () => {
        for (const names of [["?metadata"], ["@row"], [""], []])
          await assert.rejects(users.get("ann", { names }), TypeError);
      });

      test("a name that is not declared is UNDECLARED", async () => {
        const error = await users.get("ann", { names: ["height"] }).then(assert.fail, (error) => error);
        assert.ok(error instanceof FeatureStoreError);
        assert.equal(error.code, "UNDECLARED");
        assert.match(error.message, /^UNDECLARED .*height/);
      });

      test("a service stands for its features", async () => {
        await apply("@service:greeting", '["country","taste"]');
        const greeting = { country: "DE", taste: Float32Array.of(1, 0.5, -2) };
        assert.deepEqual(await users.get("ann", { service: "greeting" }), greeting); // declared since the opening
        assert.deepEqual(await users.getMany(["ann", "nobody"], { service: "greeting" }), [greeting, null]);
        await assert.rejects(users.get("ann", { service: "parting" }), { code: "UNDECLARED" });
      });

      test("a service that changes is read under its new names", async (t) => {
        await apply("@service:greeting", '["country"]');
        await users.refresh();
        await apply("@service:greeting", '["premium"]');
        const call = t.mock.method(users.scripts, "call");
        const asked = () => call.mock.calls.filter(({ arguments: [script] }) => script === "describe_entity").length;
        assert.deepEqual(await users.get("ann", { service: "greeting" }), { country: "DE" });
        assert.equal(asked(), 0);
        let now = Date.now() + 1001; // it is asked for once a second, by many reads together once
        t.mock.method(Date, "now", () => now);
        const rows = await Promise.all(Array.from({ length: 20 }, () => users.get("ann", { service: "greeting" })));
        assert.ok(rows.every((row) => row.premium === true));
        assert.deepEqual(await users.get("ann", { service: "greeting" }), { premium: true });
        assert.equal(asked(), 1);
        await apply("@service:greeting", '["logins"]');
        now += 1001;
        assert.deepEqual(await users.table(["ann"], { service: "greeting" }), { names: ["logins"], rows: [[7]] });
      });

      test("values older than maxAge are null", async () => {
        assert.equal((await users.get("ann", { maxAge: 1000 })).age, null);
        const [row] = await users.getMany(["ann"], { names: ["age"], maxAge: 10 * 365 * 86_400_000 });
        assert.deepEqual(row, { age: 31.5 });
      });

      test("metadata tell times, age and status of each feature", async () => {
        await apply("@default:country", "FR", "@max_age:age", "1000");
        await upsert("bob", { age: 20, logins: 1 });
        const names = ["age", "logins", "premium", "country"];
        const bob = await users.describe("bob", { names });
        assert.ok(bob.age > 86_400_000 && bob.age < Date.now() - TIME + 86_400_000);
        const expected = {
          features: { age: null, logins: 1, premium: null, country: "FR" },
          eventTime: TIME,
          status: { age: "stale", logins: "present", premium: "missing", country: "default" },
          eventTimes: { age: TIME, logins: TIME, premium: null, country: null },
        };
        assert.deepEqual({ ...bob, age: 0 }, { ...expected, age: 0 });
        const [nobody, again] = await users.describeMany(["nobody", "bob"]);
        assert.equal(nobody, null);
        assert.equal(again.features.country, "FR");
        assert.equal(again.status.age, "stale");
        assert.equal(await users.describe("nobody"), null);
      });

      test("an int is a number where that is exact, else a bigint", async () => {
        const ints = [
          0,
          -1,
          2 ** 32,
          -(2 ** 31) - 1,
          2 ** 53 - 1,
          -(2 ** 53) + 1,
          2n ** 53n,
          2n ** 63n - 1n,
          -(2n ** 63n),
        ];
        await users.upsert(ints.map((logins, i) => ({ id: `int${i}`, features: { logins } })));
        const { rows } = await users.table(
          ints.map((_, i) => `int${i}`),
          { names: ["logins"] },
        );
        assert.deepEqual(rows.flat(), ints);
      });

      test("a float is a number, whatever its size", async () => {
        const floats = [
          0,
          0.1,
          -2.5,
          2 ** 32,
          -(2 ** 31),
          2 ** 53 + 2,
          2 ** 64,
          1e308,
          5e-324,
          1e21,
          1.7976931348623157e308,
        ];
        await users.upsert(floats.map((age, i) => ({ id: `float${i}`, features: { age } })));
        const { rows } = await users.table(
          floats.map((_, i) => `float${i}`),
          { names: ["age"] },
        );
        assert.deepEqual(rows.flat(), floats);
      });

      test("text is text, however long, and in whatever script", async () => {
        const texts = [
          "",
          "00123",
          "true",
          "ÿ",
          "þ",
          "日本",
          "x".repeat(31),
          "é".repeat(16),
          "x".repeat(300),
          "😀".repeat(20_000),
        ];
        await users.upsert(texts.map((country, i) => ({ id: `text${i}`, features: { country } })));
        const { rows } = await users.table(
          texts.map((_, i) => `text${i}`),
          { names: ["country"] },
        );
        assert.deepEqual(rows.flat(), texts);
      });

      test("a feature may be called __proto__", async () => {
        await apply("__proto__", "string");
        await users.refresh();
        await users.upsert([{ id: "eve", features: Object.fromEntries([["__proto__", "mother"]]) }]);
        const eve = await users.get("eve");
        assert.equal(Object.getOwnPropertyDescriptor(eve, "__proto__").value, "mother");
      });
    });

    describe("writing", () => {
      test("rows are told by letters: created, applied, stale, duplicate, rejected", async () => {
        const result = await users.upsert(
          [
            { id: "bob", features: { age: 20 } },
            { id: "ann", features: { age: 32 }, time: "2023-11-14T22:13:21Z" },
            { id: "ann", features: { age: 33 }, time: new Date(TIME - 1) },
            { id: "bob", features: { age: 20 } },
            { id: "", features: { age: 1 } },
            { id: "dan", features: { age: "old" } },
          ],
          { time: TIME },
        );
        assert.equal(result.verdicts, "CASDRR");
        assert.equal(result.written, 3);
        assert.equal(result.skipped, 1);
        assert.deepEqual(
          result.rejected.map(({ index, id, code }) => [index, id, code]),
          [
            [4, "", "BADID"],
            [5, "dan", "BADTYPE"],
          ],
        );
        assert.match(result.rejected[1].reason, /old/);
        assert.equal((await users.get("ann")).age, 32);
      });

      test("rejected rows are told by their place among all rows", async () => {
        const rows = Array.from({ length: 230 }, (_, i) => ({
          id: `user${i}`,
          features: { logins: i % 100 === 50 ? 0.5 : i },
        }));
        const result = await users.upsert(rows);
        assert.deepEqual(
          result.rejected.map(({ index, code }) => [index, code]),
          [
            [50, "BADTYPE"],
            [150, "BADTYPE"],
          ],
        );
        assert.equal(result.written, 228);
        assert.equal(result.verdicts, [...rows.keys()].map((i) => (i % 100 === 50 ? "R" : "C")).join(""));
      });

      test("null removes a feature, undefined keeps it as a name that is not there does", async () => {
        await users.upsert([
          { id: "ann", features: { country: null, premium: undefined } },
          { id: "bob", features: { age: 20 } },
        ]);
        assert.deepEqual(await users.get("ann"), { ...ANN, country: null });
        await users.upsert([{ id: "ann", features: { age: LEAVE, logins: 8 } }]);
        assert.deepEqual(await users.get("ann"), { ...ANN, logins: 8, country: null });
      });

      test("a value of a type that cannot be stored rejects its row alone", async () => {
        const result = await users.upsert([
          { id: "bob", features: { country: { code: "DE" } } },
          { id: "cat", features: { country: "FR" } },
          { id: "dan", features: { country: new Date(0) } },
          { id: "eve", features: { taste: [1, 2, null] } },
        ]);
        assert.equal(result.verdicts, "RCRR");
        assert.deepEqual(
          result.rejected.map(({ index, code }) => [index, code]),
          [
            [0, "BADTYPE"],
            [2, "BADTYPE"],
            [3, "BADTYPE"],
          ],
        );
        assert.equal(await users.get("bob"), null);
      });

      test("NaN and infinity are rejected", async () => {
        const given = [NaN, Infinity, -Infinity].flatMap((value) => [{ age: value }, { taste: [0, 0, value] }]);
        assert.equal((await users.upsert(given.map((features) => ({ id: "bob", features })))).verdicts, "RRRRRR");
      });

      test("a vector may be an array, a Float32Array, or a part of one", async () => {
        const whole = Float32Array.of(9, 1, 2, 3, 9);
        await users.upsert([
          { id: "bob", features: { taste: whole.subarray(1, 4) } },
          { id: "cat", features: { taste: [1, 2, 3] } },
        ]);
        const taste = Float32Array.of(1, 2, 3);
        assert.deepEqual(await users.getMany(["bob", "cat"], { names: ["taste"] }), [{ taste }, { taste }]);
      });

      test("ids may be bytes", async () => {
        const id = Buffer.from([0xff, 0x00, 0x0d, 0x0a]);
        assert.equal((await upsert(id, { age: 1 })).verdicts, "C");
        assert.equal((await users.get(id)).age, 1);
        assert.equal((await users.getMany([id, "ann"]))[0].age, 1);
        assert.deepEqual(await command(["SISMEMBER", "all_users", id]), 1);
        assert.equal(await users.delete(id), "removed");
      });

      test("older values are written if that is asked for", async () => {
        assert.equal((await users.upsert([{ id: "ann", features: { age: 20 } }], { time: TIME - 1 })).skipped, 1);
        assert.equal(
          (await users.upsert([{ id: "ann", features: { age: 20 } }], { time: TIME - 1, overwrite: true })).written,
          1,
        );
        assert.equal((await users.get("ann")).age, 20);
      });

      test("what is no name of a feature is not sent as an option", async () => {
        for (const name of ["?overwrite", "@event_time", ""]) {
          await assert.rejects(users.upsert([{ id: "ann", features: { [name]: 1 } }]), TypeError);
          await assert.rejects(users.record([{ id: "ann", numbers: { [name]: 1 } }]), TypeError);
        }
      });

      test("a time in seconds is refused, and nothing is written", async () => {
        await assert.rejects(users.upsert([{ id: "ann", features: { age: 1 } }], { time: TIME / 1000 }), {
          code: "BADTIME",
        });
        assert.deepEqual(await users.get("ann"), ANN);
      });

      test("no rows are no call", async () => {
        const nothing = { written: 0, skipped: 0, rejected: [], verdicts: "" };
        assert.deepEqual(await users.upsert([]), nothing);
        assert.deepEqual(await users.record([]), nothing);
      });

      test("an increment tells the new values", async () => {
        assert.deepEqual(await users.increment("ann", { logins: 2, age: 0.5 }), { logins: 9, age: 32 });
        assert.deepEqual(await users.get("ann"), { ...ANN, logins: 9, age: 32 });
        await assert.rejects(users.increment("ann", { logins: 0.5 }), { code: "BADTYPE" });
      });

      test("an increment of what was deleted later is null", async () => {
        await users.delete("ann", { time: TIME + 5 });
        assert.equal(await users.increment("ann", { logins: 1 }, { time: TIME + 1 }), null);
      });

      test("events are counted, each once", async () => {
        const result = await users.record([
          { id: "ann", numbers: { amount: 2.5 }, eventId: "e1" },
          { id: "ann", numbers: { amount: null }, eventId: "e2" },
          { id: "ann", numbers: { amount: 2.5 }, eventId: "e1" },
          { id: "bob" },
          { id: "ann", numbers: { amount: 1 }, time: TIME },
          { id: "ann", numbers: { amount: "much" } },
        ]);
        assert.equal(result.verdicts, "AADCSR");
        assert.deepEqual(
          result.rejected.map(({ index, code }) => [index, code]),
          [[5, "BADTYPE"]],
        );
        const { clicks, spent } = await users.get("ann");
        assert.deepEqual([clicks, spent], [2, 2.5]);
      });

      test("a deletion keeps out what is older", async () => {
        assert.equal(await users.delete("nobody", { keep: 0 }), "unknown");
        assert.equal(await users.delete("ann", { time: TIME - 1 }), "newer");
        assert.equal(await users.delete("ann", { time: new Date(TIME + 5), keep: 60_000 }), "removed");
        assert.equal(await users.get("ann"), null);
        const kept = await command(["PTTL", "user:ann:features"]);
        assert.ok(kept > 50_000 && kept <= 60_000);
        assert.equal((await upsert("ann", { age: 1 }, TIME + 4)).verdicts, "S");
        assert.equal((await upsert("ann", { age: 1 }, TIME + 6)).verdicts, "C");
      });
    });

    describe("a schema that changes", () => {
      const declare = () => apply("height", "int", "@default:height", "170");

      test("is read anew where a row has the new layout", async () => {
        await declare();
        await upsert("bob", { age: 20 });
        assert.equal((await users.get("bob")).height, 170);
        assert.equal(users.schema.version, 2);
      });

      test("is read anew by a batch of which one row has the new layout", async () => {
        await declare();
        await upsert("bob", { age: 20 });
        const { names, rows } = await users.table(["ann", "bob"]);
        assert.equal(names.at(-1), "height");
        assert.deepEqual(
          rows.map((row) => row.at(-1)),
          [170, 170],
        );
      });

      test("is asked for where no row tells of it, once a second", async (t) => {
        await declare();
        assert.equal((await users.get("ann")).height, undefined);
        const { now } = Date;
        t.mock.method(Date, "now", () => now() + 1001);
        assert.equal((await users.get("ann")).height, 170);
      });

      test("is asked for once by many reads", async (t) => {
        await declare();
        await upsert("bob", { age: 20 });
        const call = t.mock.method(users.scripts, "call");
        const rows = await Promise.all(Array.from({ length: 50 }, () => users.get("bob")));
        assert.ok(rows.every((row) => row.height === 170));
        const asked = call.mock.calls.filter(({ arguments: [script] }) => script === "describe_entity");
        assert.equal(asked.length, 1);
      });

      test("is an error where there is none any more", async () => {
        await command(["DEL", "user:schema"]);
        await assert.rejects(users.get("nobody"), { code: "NOSCHEMA" });
        await assert.rejects(open(), { code: "NOSCHEMA" });
      });
    });

    describe("scripts that the server has lost", () => {
      const lose = () => command(["SCRIPT", "FLUSH"]);

      test("are loaded again, whatever is called", async () => {
        const calls = [
          () => users.get("ann"),
          () => users.getMany(["ann"]),
          () => upsert("ann", { age: 1 }, TIME + 1),
          () => users.refresh(),
          () => users.increment("ann", { logins: 1 }),
          () => users.record([{ id: "ann" }]),
          () => users.delete("ann"),
        ];
        for (const call of calls) {
          await lose();
          await call();
        }
      });

      test("are loaded once by many calls under way, and all of these are repeated", async (t) => {
        const load = t.mock.method(users.scripts, "load");
        await lose();
        const reads = Array.from({ length: 200 }, () => users.get("ann"));
        const batches = Array.from({ length: 20 }, () => users.getMany(["ann", "nobody"]));
        const writes = Array.from({ length: 50 }, (_, i) => upsert(`user${i}`, { logins: i }));
        assert.ok((await Promise.all(reads)).every((row) => row.age === 31.5));
        assert.ok((await Promise.all(batches)).every(([ann, nobody]) => ann.age === 31.5 && nobody === null));
        assert.ok((await Promise.all(writes)).every(({ verdicts }) => verdicts === "C"));
        assert.equal(load.mock.callCount(), 3);
      });
    });

    describe("a user who may only read", () => {
      const RULES = [
        "+evalsha_ro",
        "+sismember",
        "+smismember",
        "+hget",
        "+hmget",
        "+hgetall",
        "+exists",
        "+time",
        "+script|load",
      ];
      let reader;

      before(async (t) => {
        if (Number(/redis_version:(\d+)/.exec(String(await command(["INFO", "server"])))[1]) < 7) return;
        await command([
          "ACL",
          "SETUSER",
          "reader",
          "reset",
          "on",
          ">secret",
          "+hello",
          "+auth",
          "+select",
          "+client",
          "+info",
          "+ping",
          "+quit",
          "%R~user:*",
          "%R~all_users",
          ...RULES,
        ]);
        reader = await connect(DATABASE, { username: "reader", password: "secret" });
      });
      after(async () => {
        await reader?.close();
        await command(["ACL", "DELUSER", "reader"]);
      });

      test("reads with readOnly, and cannot write", async (t) => {
        if (!reader) return t.skip("EVALSHA_RO came with Redis 7");
        await command(["SCRIPT", "FLUSH"]);
        const store = await FeatureStore.open(reader.client, "user", { readOnly: true });
        assert.deepEqual(await store.get("ann"), ANN);
        assert.deepEqual(await store.getMany(["ann"], { names: ["age"] }), [{ age: 31.5 }]);
        assert.equal((await store.describe("ann")).eventTime, TIME);
        await assert.rejects(store.upsert([{ id: "ann", features: { age: 1 } }]), { code: "NOPERM" });
        await assert.rejects(FeatureStore.open(reader.client), { code: "NOPERM" });
      });
    });

    test("other keys than the usual ones may be named", async () => {
      await scripts.call("apply_schema", ["{eu}user:schema"], ["age", "int"]);
      const store = await open({ schema: "{eu}user:schema" });
      await store.upsert([{ id: "ann", features: { age: 5 } }]);
      assert.deepEqual(await store.get("ann"), { age: 5 });
      assert.equal(await command(["EXISTS", "{eu}user:ann:features", "all_{eu}users"]), 2);
      await assert.rejects(open({ schema: "user:types" }), TypeError);
    });

    test("the members key is the one that the schema names", async () => {
      await scripts.call("apply_schema", ["user:schema"], ["@members", "people"]);
      await users.refresh();
      await upsert("bob", { age: 1 });
      assert.equal(await command(["SISMEMBER", "people", "bob"]), 1);
    });

    test("an error of the connection stays what it is", async () => {
      const other = await connect(DATABASE);
      const store = await FeatureStore.open(other.client);
      await other.close();
      const error = await store.get("ann").then(assert.fail, (error) => error);
      assert.ok(error instanceof Error && !(error instanceof FeatureStoreError));
    });

    test("every script is loaded under the SHA-1 that is called", async () => {
      for (const [script, { source, sha1 }] of Object.entries(SCRIPTS))
        assert.equal(String(await command(["SCRIPT", "LOAD", source])), sha1, script);
    });
  });
}

test("another client is refused", () => {
  assert.throws(() => new Scripts({}), TypeError);
});
