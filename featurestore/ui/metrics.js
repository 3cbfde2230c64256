// Prometheus's text format, and what counters tell between two looks.

const LINE = /^([A-Za-z_:][\w:]*)(?:\{(.*)\})? (\S+)/;
const LABEL = /([A-Za-z_]\w*)="((?:[^"\\]|\\.)*)"/g;
const unescape = (text) => text.replace(/\\(.)/g, (_, each) => (each === "n" ? "\n" : each));

/** Return the samples of a text: name → list of labels and value. */
export function parseMetrics(text) {
  const found = new Map();
  for (const line of text.split("\n")) {
    const match = LINE.exec(line);
    if (!match) continue;
    const labels = {};
    for (const [, name, value] of (match[2] || "").matchAll(LABEL)) labels[name] = unescape(value);
    if (!found.has(match[1])) found.set(match[1], []);
    found.get(match[1]).push({ labels, value: Number(match[3].replace("Inf", "Infinity")), key: `${match[1]}{${match[2] || ""}` });
  }
  return found;
}

/** The samples of a look, and how far counters got since the one before. */
export class Look {
  constructor(text, at, before) {
    Object.assign(this, { samples: parseMetrics(text), at, before: before || null });
    this.seconds = before ? (at - before.at) / 1000 : NaN;
    this.values = new Map([...this.samples.values()].flat().map((each) => [each.key, each.value]));
  }

  has(name) { return this.samples.has(name); }

  /** Return the samples of a name whose labels pass. */
  of(name, passes = () => true) { return (this.samples.get(name) || []).filter((each) => passes(each.labels)); }

  total(name, passes) { return this.of(name, passes).reduce((sum, each) => sum + each.value, 0); }

  /** Return how far one counter got. One that went back was begun anew, by a restart. */
  grown(sample) {
    const old = this.before?.values.get(sample.key) ?? 0;
    return sample.value < old ? sample.value : sample.value - old;
  }

  rate(name, passes) { return this.of(name, passes).reduce((sum, each) => sum + this.grown(each), 0) / this.seconds; }

  /** Return counters grouped by a label: value of the label → total and rate. */
  by(name, label, passes) {
    const found = new Map();
    for (const each of this.of(name, passes)) {
      const group = typeof label === "function" ? label(each.labels) : each.labels[label] ?? "";
      const entry = found.get(group) || { total: 0, rate: 0 };
      entry.total += each.value;
      entry.rate += this.grown(each) / this.seconds;
      found.set(group, entry);
    }
    return found;
  }

  /** Return quantiles of a histogram, in its unit: of what came since the look before, or of all. */
  quantiles(name, shares, passes, { all = false } = {}) {
    const buckets = new Map();
    for (const each of this.of(`${name}_bucket`, passes)) {
      const bound = Number(each.labels.le.replace("Inf", "Infinity"));
      buckets.set(bound, (buckets.get(bound) || 0) + (all ? each.value : this.grown(each)));
    }
    const bounds = [...buckets.keys()].sort((one, other) => one - other), total = buckets.get(Infinity) || 0;
    return shares.map((share) => {
      if (!total) return NaN;
      let low = 0, below = 0;
      for (const bound of bounds) {
        const upTo = buckets.get(bound);
        if (upTo >= share * total && upTo > below) return bound === Infinity ? low : low + ((bound - low) * (share * total - below)) / (upTo - below);
        [low, below] = [bound, upTo];
      }
      return low;
    });
  }
}
