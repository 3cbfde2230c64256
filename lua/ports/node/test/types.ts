// Compiled, not run: what the types allow, and what they refuse. Each @ts-expect-error fails where there is no error.
import { Cluster, Redis } from "ioredis";
import { createClient, createClientPool, createCluster } from "redis";

import { FeatureStore, FeatureStoreError, Scripts, type Value, type WriteResult } from "featurestore-redis";

interface User {
  age: number;
  country: string;
  taste: Float32Array;
}

export async function clients(): Promise<void> {
  await FeatureStore.open(new Redis());
  await FeatureStore.open(new Cluster([]));
  await FeatureStore.open(createClient());
  await FeatureStore.open(createClient({ RESP: 3 }));
  await FeatureStore.open(createClientPool());
  await FeatureStore.open(createCluster({ rootNodes: [] }), "item", { readOnly: true });
  // @ts-expect-error: no client
  await FeatureStore.open({});
  // @ts-expect-error: no script of that name
  await new Scripts(new Redis()).call("get_feature", [], []);
}

export async function reads(users: FeatureStore<User>): Promise<void> {
  const ann = await users.get("ann");
  // @ts-expect-error: an unknown entity is null
  ann.age;
  if (!ann) return;
  const age: number | null = ann.age;
  // @ts-expect-error: any feature may be null
  const sure: number = ann.age;
  // @ts-expect-error: no feature of that name
  ann.height;
  const some = await users.getMany(["ann", Buffer.from("bob")], { names: ["country"], maxAge: 1000 });
  const country: string | null | undefined = some[0]?.country;
  // @ts-expect-error: it was not asked for
  some[0]?.age;
  // @ts-expect-error: no feature of that name
  await users.get("ann", { names: ["height"] });
  const { eventTime, status } = (await users.describe("ann", { names: ["age"] }))!;
  const late: boolean = status.age === "stale" && eventTime !== null && eventTime < Date.now();
  const { names, rows } = await users.table(["ann"]);
  const value: Value | undefined = rows[0]?.[names.indexOf("age")];
  console.log(age, sure, country, late, value);
}

export async function writes(users: FeatureStore<User>): Promise<WriteResult> {
  const features = { age: 31, country: null, taste: [1, 2, 3] };
  await users.upsert([{ id: "ann", features, time: new Date() }], { time: "2026-12-01", overwrite: true });
  // @ts-expect-error: no feature of that name
  await users.upsert([{ id: "ann", features: { height: 170 } }]);
  // @ts-expect-error: not a value
  await users.upsert([{ id: "ann", features: { age: { years: 31 } } }]);
  const added: number | bigint | undefined = (await users.increment("ann", { age: 1 }))?.age;
  // @ts-expect-error: no feature of that name
  await users.increment("ann", { height: 1 });
  const what: "removed" | "unknown" | "newer" = await users.delete("ann", { time: Date.now(), keep: 1000 });
  console.log(added, what);
  return users.record([{ id: "ann", numbers: { amount: 1.5 }, eventId: "e1" }]);
}

export async function anyRow(client: Redis): Promise<Value | undefined> {
  const items = await FeatureStore.open(client, "item");
  try {
    return (await items.get("tea"))?.["price"];
  } catch (error) {
    if (error instanceof FeatureStoreError && error.code === "NOSCHEMA") return null;
    throw error;
  }
}
