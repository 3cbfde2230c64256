export { FeatureStore } from "./store";
export type * from "./types";
export {
  FeatureStoreError,
  Scripts,
  SCRIPTS,
  type Ioredis,
  type NodeRedis,
  type Reply,
  type ScriptName,
  type Word,
} from "./scripts";
export { unpack, type Unpacked, type Value } from "./msgpack";
export { FORGET, LEAVE, type Given, type Time } from "./words";
