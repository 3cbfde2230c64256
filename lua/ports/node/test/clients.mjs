// The clients that the tests run through, each with what they need beside the port: commands with replies in bytes.
import { Redis } from "ioredis";
import { createClient } from "redis";

const url = process.env.PORT_TEST_URL;
if (!url) throw new Error("set PORT_TEST_URL to the URL of a server, which will be emptied");

const ioredis =
  (options) =>
  (database, user = {}) => {
    const client = new Redis(`${url}/${database}`, { ...options, ...user });
    // Of its own: with enableAutoPipelining, callBuffer loses the command's name.
    const plain = new Redis(`${url}/${database}`, user);
    return {
      client,
      command: ([name, ...words]) => plain.callBuffer(name, ...words),
      close: () => Promise.all([client.quit(), plain.quit()]),
    };
  };

const nodeRedis =
  (options) =>
  async (database, user = {}) => {
    const client = createClient({ url: `${url}/${database}`, ...options, ...user });
    client.on("error", () => {}); // which the command under way tells
    await client.connect();
    const inBytes = { typeMapping: { 36: Buffer, 43: Buffer } }; // bulk strings and simple ones
    return { client, command: (words) => client.sendCommand(words, inBytes), close: () => client.close() };
  };

/** How a client is made: name → function of the number of the database, and of what logs a user in. */
export const clients = {
  ioredis: ioredis({}),
  "ioredis with pipelines": ioredis({ enableAutoPipelining: true }),
  "node-redis": nodeRedis({}),
  "node-redis with RESP3": nodeRedis({ RESP: 3 }),
};
