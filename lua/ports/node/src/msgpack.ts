/** What a msgpack value of the scripts becomes. An int is a bigint only where a number would not be exact. */
export type Value = number | bigint | string | boolean | Float32Array | null;
export type Unpacked = Value | Unpacked[] | { [key: string]: Unpacked };

const SHORT = 16; // bytes up to which a loop makes ASCII text sooner than a call of the decoder
let bytes: Buffer, at: number;

/** Unpack the one value that stands in `buffer` from `start` to its end. */
export function unpack(buffer: Buffer, start = 0): Unpacked {
  bytes = buffer;
  at = start;
  const value = next();
  if (at !== buffer.length) throw new RangeError(`msgpack of ${buffer.length - start} bytes ends at ${at - start}`);
  return value;
}

function next(): Unpacked {
  const tag = bytes[at++]!;
  if (tag < 0x80) return tag;
  if (tag < 0x90) return map(tag & 0x0f);
  if (tag < 0xa0) return array(tag & 0x0f);
  if (tag < 0xc0) return text(tag & 0x1f);
  if (tag >= 0xe0) return tag - 0x100;
  switch (tag) {
    case 0xc0: return null;
    case 0xc2: return false;
    case 0xc3: return true;
    case 0xc4: return vector(unsigned(1));
    case 0xc5: return vector(unsigned(2));
    case 0xc6: return vector(unsigned(4));
    case 0xca: return bytes.readFloatBE((at += 4) - 4);
    case 0xcb: return bytes.readDoubleBE((at += 8) - 8);
    case 0xcc: return unsigned(1);
    case 0xcd: return unsigned(2);
    case 0xce: return unsigned(4);
    case 0xcf: return exact(bytes.readBigUInt64BE((at += 8) - 8));
    case 0xd0: return bytes.readInt8((at += 1) - 1);
    case 0xd1: return bytes.readInt16BE((at += 2) - 2);
    case 0xd2: return bytes.readInt32BE((at += 4) - 4);
    case 0xd3: return exact(bytes.readBigInt64BE((at += 8) - 8));
    case 0xd9: return text(unsigned(1));
    case 0xda: return text(unsigned(2));
    case 0xdb: return text(unsigned(4));
    case 0xdc: return array(unsigned(2));
    case 0xdd: return array(unsigned(4));
    case 0xde: return map(unsigned(2));
    case 0xdf: return map(unsigned(4));
  }
  throw new RangeError(`byte ${tag} at ${at - 1} begins no msgpack value`);
}

function unsigned(width: number): number {
  return bytes.readUIntBE((at += width) - width, width);
}

function exact(int: bigint): number | bigint {
  const number = Number(int);
  return Number.isSafeInteger(number) ? number : int;
}

function text(length: number): string {
  const start = at;
  at += length;
  if (length > SHORT) return bytes.toString("utf8", start, at);
  let ascii = "";
  for (let i = start; i < at; i++) {
    if (bytes[i]! > 0x7f) return bytes.toString("utf8", start, at);
    ascii += String.fromCharCode(bytes[i]!);
  }
  return ascii;
}

/** A copy, since a view of the reply would not lie at a multiple of 4. */
function vector(length: number): Float32Array {
  const copy = new Uint8Array(bytes.subarray(at, at + length));
  at += length;
  return new Float32Array(copy.buffer);
}

function array(length: number): Unpacked[] {
  const values: Unpacked[] = [];
  for (let i = 0; i < length; i++) values.push(next());
  return values;
}

function map(length: number): { [key: string]: Unpacked } {
  const pairs: { [key: string]: Unpacked } = {};
  for (let i = 0; i < length; i++) pairs[String(next())] = next();
  return pairs;
}
