/**
 * What an export did: requests, bytes, errors and latencies of each command. Recording allocates nothing: latencies go
 * into a histogram of fixed size, whose classes are 1/8 of a power of two of microseconds wide, so that a percentile is
 * told with an error of up to 12.5 %.
 */
const COMMANDS = [
  'read',
  'write',
  'disconnect',
  'flush',
  'trim',
  'cache',
  'write-zeroes',
  'block-status',
] as const;
const CLASSES = 256;
const QUANTILES = [50, 90, 99, 99.9] as const;

export interface CommandStatistics {
  readonly requests: number;
  readonly bytes: number;
  readonly errors: number;
  /** Answered in the tick in which they were read: mapping and data were at hand. */
  readonly 'at-hand': number;
  /** Microseconds from the request's arrival to its reply: `p50`, `p90`, `p99`, `p99.9`, `max`. */
  readonly 'latency-us': Readonly<Record<string, number>>;
}

export interface ExportStatistics {
  readonly 'in-flight': number;
  /** Commands that were asked for at least once. */
  readonly commands: Readonly<Record<string, CommandStatistics>>;
}

class CommandRecord {
  requests = 0;
  bytes = 0;
  errors = 0;
  atHand = 0;
  longest = 0;
  readonly classes: Float64Array = new Float64Array(CLASSES);

  toJSON(): CommandStatistics {
    const { requests, bytes, errors, atHand, longest } = this;
    const latency = Object.fromEntries(
      QUANTILES.map((quantile) => [`p${quantile}`, this.#percentile(quantile)]),
    );
    return { requests, bytes, errors, 'at-hand': atHand, 'latency-us': { ...latency, max: longest } };
  }

  /** The upper end of the class in which the quantile lies, and no more than the longest that was seen. */
  #percentile(quantile: number): number {
    let left = Math.ceil((this.requests * quantile) / 100);
    for (let index = 0; index < CLASSES; index++) {
      left -= this.classes[index] as number;
      if (left <= 0) return Math.min(this.longest, classEnd(index));
    }
    return this.longest;
  }
}

export class RequestStatistics {
  readonly #records: readonly CommandRecord[] = COMMANDS.map(() => new CommandRecord());
  #inFlight = 0;

  started(): void {
    this.#inFlight++;
  }

  /** @param micros from the request's arrival to its reply */
  finished(type: number, bytes: number, micros: number, failed: boolean, atHand: boolean): void {
    this.#inFlight--;
    const record = this.#records[type];
    if (record === undefined) return; // a command that nobody knows: it was refused
    const whole = Math.floor(micros);
    record.requests++;
    if (failed) record.errors++;
    else record.bytes += bytes;
    if (atHand) record.atHand++;
    if (whole > record.longest) record.longest = whole;
    const index = classOf(whole);
    record.classes[index] = (record.classes[index] as number) + 1;
  }

  toJSON(): ExportStatistics {
    const used = COMMANDS.flatMap((name, type) => {
      const record = this.#records[type] as CommandRecord;
      return record.requests === 0 ? [] : [[name, record.toJSON()] as const];
    });
    return { 'in-flight': this.#inFlight, commands: Object.fromEntries(used) };
  }
}

function classOf(micros: number): number {
  if (micros < 8) return micros;
  const value = Math.min(micros, 0x7fffffff);
  const exponent = 31 - Math.clz32(value);
  return Math.min(CLASSES - 1, (exponent - 2) * 8 + ((value >> (exponent - 3)) & 7));
}

/** The largest value of a class. */
function classEnd(index: number): number {
  if (index < 8) return index;
  const exponent = Math.floor(index / 8) + 2;
  return (8 + (index % 8) + 1) * 2 ** (exponent - 3) - 1;
}
