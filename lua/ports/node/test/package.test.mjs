// The package as it was packed and installed.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { existsSync, readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { test } from "node:test";

import * as imported from "featurestore-redis";

const require = createRequire(import.meta.url);

test("it is the same module by import and by require", () => {
  const required = require("featurestore-redis");
  assert.equal(required.FeatureStore, imported.FeatureStore);
  assert.deepEqual(Object.keys(required).sort(), [
    "FORGET",
    "FeatureStore",
    "FeatureStoreError",
    "LEAVE",
    "SCRIPTS",
    "Scripts",
    "unpack",
  ]);
  for (const name of Object.keys(required)) assert.equal(required[name], imported[name]);
});

test("it has every script of the build, with its source", () => {
  const { contract, version, scripts } = JSON.parse(process.env.PORT_TEST_MANIFEST);
  assert.equal(contract, 1);
  assert.equal(version, require("featurestore-redis/package.json").version);
  assert.ok(scripts.length > 10);
  const shas = Object.entries(imported.SCRIPTS).map(([name, { source, sha1, reads }]) => {
    assert.equal(createHash("sha1").update(source).digest("hex"), sha1);
    return [name, sha1, reads];
  });
  assert.deepEqual(
    shas,
    scripts.map(({ name, sha1, flags }) => [name, sha1, flags.includes("no-writes")]),
  );
});

test("it has its types, a README and a licence, and nothing that is not for users", () => {
  const root = dirname(dirname(require.resolve("featurestore-redis")));
  assert.deepEqual(readdirSync(root).sort(), ["LICENSE", "README.md", "dist", "package.json"]);
  assert.ok(existsSync(join(root, require("featurestore-redis/package.json").types)));
});

test("it depends on no other package", () => {
  const { dependencies, peerDependenciesMeta } = require("featurestore-redis/package.json");
  assert.equal(dependencies, undefined);
  assert.deepEqual(peerDependenciesMeta, { ioredis: { optional: true }, redis: { optional: true } });
});
