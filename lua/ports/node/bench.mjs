// Reads ten features by layout, and by plain HGETALL with conversion, by the same client, on the server at REDIS_URL.
//
//   REDIS_URL=redis://127.0.0.1:6379 node bench.mjs [seconds of each measurement, 1] [rounds, 5] [client]
//
// It wants the package and its clients installed (npm install … ioredis redis; perf/node.py does all of it). It writes the
// entity `bench` into the database of the URL, with 1,000 ids, and plain hashes with the same features beside it. The two
// ways take turns, so that what else the machine does meets both.
import { FeatureStore, Scripts } from "featurestore-redis";
import { Redis } from "ioredis";
import { createClient } from "redis";

const [seconds = 1, rounds = 5] = process.argv.slice(2).map(Number);
const url = process.env.REDIS_URL ?? "redis://127.0.0.1:6379";
const IN_FLIGHT = 64;
const IN_BATCH = 100;
const BATCHES_IN_FLIGHT = 4;
const FEATURES = {
  a: "float",
  b: "float",
  c: "float",
  d: "float",
  e: "float",
  n: "int",
  m: "int",
  premium: "bool",
  country: "string",
  device: "string",
};
const ids = Array.from({ length: 1000 }, (_, i) => `id${i}`);

const CONVERSIONS = { float: Number, int: Number, bool: (text) => text === "true", string: (text) => text };
const PLAIN = Object.entries(FEATURES).map(([name, type]) => [name, CONVERSIONS[type]]);

function convert(hash) {
  const row = {};
  for (const [name, conversion] of PLAIN) row[name] = hash[name] === undefined ? null : conversion(hash[name]);
  return row;
}

const clients = {
  ioredis: () => new Redis(url),
  "ioredis with pipelines": () => new Redis(url, { enableAutoPipelining: true }),
  "node-redis": () => createClient({ url }).connect(),
};

/** Reads a second of which `tasks` are under way all the time. */
async function rate(tasks, read, units) {
  let done = 0;
  const began = performance.now();
  const end = began + seconds * 1000;
  await Promise.all(
    Array.from({ length: tasks }, async (_, task) => {
      for (let i = task * 7; performance.now() < end; i++, done += units) await read(i);
    }),
  );
  return (done / (performance.now() - began)) * 1000;
}

const middle = (numbers) => numbers.sort((one, other) => one - other)[Math.floor(numbers.length / 2)];

async function compare(what, tasks, units, byLayout, plainly) {
  const [layout, plain] = [await byLayout(0), await plainly(0)];
  if (JSON.stringify(layout) !== JSON.stringify(plain)) throw new Error(`${what}: the two ways read different values`);
  const ratios = [];
  const rates = [[], []];
  for (let round = -1; round < rounds; round++) {
    const order = round % 2 ? [byLayout, plainly] : [plainly, byLayout];
    const found = new Map();
    for (const read of order) found.set(read, await rate(tasks, read, units));
    if (round < 0) continue; // while the functions were being compiled
    rates[0].push(found.get(byLayout));
    rates[1].push(found.get(plainly));
    ratios.push(found.get(byLayout) / found.get(plainly));
  }
  const [layouts, plains] = rates.map((each) => Math.round(middle(each)).toLocaleString("en"));
  const rounded = ratios.map((ratio) => ratio.toFixed(2)).join(" ");
  console.log(`${what.padEnd(50)} ${middle(ratios).toFixed(2)}   (${rounded}; ${layouts}/s against ${plains}/s)`);
}

for (const [name, make] of Object.entries(clients)) {
  if (process.argv[4] && process.argv[4] !== name) continue;
  const client = await make();
  await new Scripts(client).call("apply_schema", ["bench:schema"], Object.entries(FEATURES).flat());
  const store = await FeatureStore.open(client, "bench");
  const row = (i) => ({
    a: i + 0.5,
    b: 0.1 * i,
    c: -i / 3,
    d: 1e-7 * i,
    e: i,
    n: i,
    m: 2 ** 40 + i,
    premium: i % 2 === 0,
    country: "DE",
    device: "phone",
  });
  await store.upsert(ids.map((id, i) => ({ id, features: row(i) })));
  const hashOf = (i) => `plain:${ids[i % ids.length]}`;
  const hset = client.hset ? (key, hash) => client.hset(key, hash) : (key, hash) => client.hSet(key, hash);
  for (const i of ids.keys())
    await hset(hashOf(i), Object.fromEntries(Object.entries(row(i)).map(([key, value]) => [key, String(value)])));
  const hgetall = client.hgetall ? (i) => client.hgetall(hashOf(i)) : (i) => client.hGetAll(hashOf(i));
  const pipelined = (i) =>
    client.pipeline && name === "ioredis"
      ? Array.from({ length: IN_BATCH }, (_, k) => hashOf(i + k))
          .reduce((pipeline, key) => pipeline.hgetall(key), client.pipeline())
          .exec()
          .then((replies) => replies.map(([, hash]) => convert(hash)))
      : Promise.all(Array.from({ length: IN_BATCH }, (_, k) => hgetall(i + k).then(convert)));
  const batch = (i) => Array.from({ length: IN_BATCH }, (_, k) => ids[(i + k) % ids.length]);

  await compare(
    `${name}: one entity, ${IN_FLIGHT} in flight`,
    IN_FLIGHT,
    1,
    (i) => store.get(ids[i % ids.length]),
    (i) => hgetall(i).then(convert),
  );
  await compare(
    `${name}: batches of ${IN_BATCH}, ${BATCHES_IN_FLIGHT} in flight`,
    BATCHES_IN_FLIGHT,
    IN_BATCH,
    (i) => store.getMany(batch(i)),
    pipelined,
  );
  await (client.close ?? client.quit).call(client);
}
