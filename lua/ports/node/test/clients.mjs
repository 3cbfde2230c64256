// The clients that the tests run through, each with what the tests need beside the port: commands with replies in bytes.
import { Redis } from "ioredis";
import { createClient } from "redis";

const url = process.env.FEATURESTORE_TEST_URL;
if (!url) throw new Error("set FEATURESTORE_TEST_URL to the URL of a server, which will be emptied");

const ioredis = (options) => (database, user = {}) => {
  const client = new Redis(`${url}/${database}`, { ...options, ...user, maxRetriesPerRequest: 1 });
  return {
    client,
    command: ([name, ...words]) => client.createBuiltinCommand(name.toLowerCase()).buffer.call(client, ...words),
    close: () => client.quit(),
  };
};

const nodeRedis = (options) => async (database, user = {}) => {
  const client = createClient({ url: `${url}/${database}`, ...options, ...user });
  client.on("error", () => {}); // which the command under way tells
  await client.connect();
  const binary = client.withTypeMapping({ 36: Buffer, 43: Buffer });
  return { client, command: (words) => binary.sendCommand(words), close: () => client.close() };
};

/** How a client is made: name → function of the number of the database, and of what logs a user in. */
export const clients = {
  ioredis: ioredis({}),
  "ioredis with pipelines": ioredis({ enableAutoPipelining: true }),
  "node-redis": nodeRedis({}),
  "node-redis with RESP3": nodeRedis({ RESP: 3 }),
};
