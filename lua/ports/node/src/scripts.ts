import json = require("./scripts.json"); // made by build.mjs

/** An argument of a command. A Buffer is sent byte for byte, a string as UTF-8. */
export type Word = string | Buffer;
/** A reply of Redis, whose strings are bytes. */
export type Reply = Buffer | number | null | Reply[];
export type ScriptName =
  | "get_features"
  | "get_features_batch"
  | "describe_entity"
  | "upsert_features"
  | "replace_rows"
  | "increment_features"
  | "record_events"
  | "count_entries"
  | "delete_entity"
  | "apply_schema"
  | "repack_rows"
  | "sweep_members"
  | "retire_features"
  | "drop_entity"
  | "clear_hashes"
  | "free_names"
  | "copy_entities"
  | "take_tokens";

/** Each script: its source with its includes, the SHA-1 of that, and whether it only reads. */
export const SCRIPTS: Readonly<Record<ScriptName, { source: string; sha1: string; reads: boolean }>> = json;

/** What the port uses of ioredis, versions 5 and 6: a `Redis` or a `Cluster`. */
export interface Ioredis {
  callBuffer(...words: any[]): Promise<unknown>;
  createBuiltinCommand(name: string): object;
}

/** What the port uses of node-redis (`redis`, `@redis/client`), versions 5 and 6: a client, a pool or a cluster. */
export interface NodeRedis {
  withTypeMapping(mapping: any): unknown;
}

/** An error reply: its first word, such as UNDECLARED or READONLY, is the `code`. */
export class FeatureStoreError extends Error {
  override readonly name = "FeatureStoreError";

  constructor(
    readonly code: string,
    message: string,
    cause?: unknown,
  ) {
    super(message, { cause });
  }
}

/** The scripts, as called by a client of Redis. */
export class Scripts {
  private readonly run: (sha: string, readOnly: boolean, keys: Word[], args: Word[]) => Promise<unknown>;
  private readonly load: (source: string) => Promise<unknown>;
  private readonly loads = new Map<ScriptName, Promise<unknown>>();

  /** With `readOnly`, reads are sent as EVALSHA_RO: for replicas and for users who may not write. Redis 7.0, Valkey. */
  constructor(
    client: Ioredis | NodeRedis,
    private readonly readOnly = false,
  ) {
    const given: any = client;
    if ("evalshaBuffer" in client) {
      // Which the types do not have. With enableAutoPipelining, callBuffer loses the command's name.
      this.run = (sha, ro, keys, args) =>
        given[ro ? "evalsha_roBuffer" : "evalshaBuffer"](sha, keys.length, ...keys, ...args);
      this.load = (source) =>
        Promise.all((given.isCluster ? given.nodes() : [given]).map((node: any) => node.script("LOAD", source)));
    } else if ("withTypeMapping" in client) {
      const binary: any = client.withTypeMapping({ [36 /* $, a bulk string */]: Buffer });
      this.run = (sha, ro, keys, args) => binary[ro ? "evalShaRo" : "evalSha"](sha, { keys, arguments: args });
      this.load = async (source) => {
        const nodes = given.masters
          ? [...given.masters, ...given.replicas].map((node) => given.nodeClient(node))
          : [given];
        for (const node of nodes) await (await node).scriptLoad(source);
      };
    } else throw new TypeError("want a client of ioredis or of node-redis");
  }

  /** Call a script. One that the server has lost, by a restart, say, is loaded again, and the call repeated once. */
  async call(name: ScriptName, keys: Word[], args: Word[]): Promise<Reply> {
    const { sha1, reads, source } = SCRIPTS[name];
    const run = () => this.run(sha1, reads && this.readOnly, keys, args) as Promise<Reply>;
    const lastLoad = this.loads.get(name);
    try {
      try {
        return await run();
      } catch (error) {
        if (codeOf(error) !== "NOSCRIPT") throw error;
        // Of many calls under way, the first to learn of it loads.
        if (this.loads.get(name) === lastLoad) this.loads.set(name, this.load(source));
        await this.loads.get(name);
        return await run();
      }
    } catch (error) {
      const code = codeOf(error);
      throw code ? new FeatureStoreError(code, (error as Error).message, error) : error;
    }
  }
}

function codeOf(error: unknown): string | undefined {
  return error instanceof Error ? /^([A-Z][A-Z_]*) /.exec(error.message)?.[1] : undefined;
}
