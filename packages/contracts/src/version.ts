/**
 * The version that stores compare: a restore epoch in the high bits, a per-user emission counter in the low 40.
 * It stays a safe integer (epoch < 2^13), so it survives JSON, Lua doubles and Elasticsearch's external versions alike.
 */
const COUNTER = 2 ** 40;
const MAX_EPOCH = 2 ** 13 - 1;

/** Builds a version. Throws RangeError when a part is out of range. */
export function makeVersion(epoch: number, counter: number): number {
  if (!Number.isInteger(epoch) || epoch < 0 || epoch > MAX_EPOCH) throw new RangeError(`epoch out of range: ${epoch}`);
  if (!Number.isInteger(counter) || counter < 0 || counter >= COUNTER) {
    throw new RangeError(`counter out of range: ${counter}`);
  }
  return epoch * COUNTER + counter;
}

/** Takes a version apart again. */
export function splitVersion(version: number): { epoch: number; counter: number } {
  return { epoch: Math.floor(version / COUNTER), counter: version % COUNTER };
}
