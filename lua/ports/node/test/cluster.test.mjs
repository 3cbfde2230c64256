// A cluster of three masters, of which the first has a replica: the scripts are loaded wherever a call may go.
import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { Cluster, Redis } from "ioredis";
import { createCluster } from "redis";

import { FeatureStore, Scripts } from "featurestore-redis";

const ports = JSON.parse(process.env.PORT_TEST_CLUSTER ?? "null");
if (!ports) throw new Error("set PORT_TEST_CLUSTER to the ports of the nodes of a cluster");
const TAGS = Array.from({ length: 20 }, (_, i) => `{${i}}`);
const HOST = "127.0.0.1";

const clusters = {
  ioredis: () =>
    new Cluster(
      ports.map((port) => ({ host: HOST, port })),
      { scaleReads: "all" },
    ),
  "ioredis with pipelines": () =>
    new Cluster(
      ports.map((port) => ({ host: HOST, port })),
      { scaleReads: "all", enableAutoPipelining: true },
    ),
  "node-redis": () =>
    createCluster({
      rootNodes: ports.map((port) => ({ url: `redis://${HOST}:${port}` })),
      useReplicas: true,
    }).connect(),
};

const onEveryNode = (call) =>
  Promise.all(
    ports.map(async (port) => {
      const node = new Redis(port, HOST);
      await call(node).finally(() => node.quit());
    }),
  );

for (const [name, connect] of Object.entries(clusters)) {
  describe(name, () => {
    test("scripts that all nodes have lost are loaded where they are called, replicas included", async (t) => {
      await onEveryNode(async (node) => {
        if ((await node.role())[0] === "master") await node.flushall();
        await node.config("RESETSTAT");
      });
      const client = await connect();
      t.after(() => (client.close ?? client.quit).call(client));
      const scripts = new Scripts(client);
      for (const tag of TAGS) await scripts.call("apply_schema", [`${tag}user:schema`], ["n", "int"]);
      const writers = await Promise.all(
        TAGS.map((tag) => FeatureStore.open(client, "user", { schema: `${tag}user:schema` })),
      );
      await onEveryNode((node) => node.script("FLUSH"));
      await Promise.all(writers.map((users, n) => users.upsert([{ id: "ann", features: { n } }])));
      await onEveryNode(async (node) => {
        if ((await node.role())[0] === "master") await node.wait((await node.role())[2].length, 10_000);
        assert.ok((await node.dbsize()) > 0);
      });

      await onEveryNode((node) => node.script("FLUSH"));
      const options = (tag) => ({ schema: `${tag}user:schema`, readOnly: true });
      const readers = await Promise.all(TAGS.map((tag) => FeatureStore.open(client, "user", options(tag))));
      for (let round = 0; round < 10; round++) {
        const found = await Promise.all(readers.map((users) => users.get("ann")));
        assert.deepEqual(
          found,
          TAGS.map((_, n) => ({ n })),
        );
        const batches = await Promise.all(readers.map((users) => users.getMany(["ann", "bob"])));
        assert.deepEqual(
          batches,
          TAGS.map((_, n) => [{ n }, null]),
        );
      }
      const readsOnReplica = [];
      await onEveryNode(async (node) => {
        if ((await node.role())[0] === "slave")
          readsOnReplica.push(/cmdstat_evalsha_ro:calls=\d/.test(await node.info("commandstats")));
      });
      assert.deepEqual(readsOnReplica, [true]);
    });
  });
}
