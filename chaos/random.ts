/** A source of numbers that gives the same ones for the same seed (mulberry32). */
export interface Random {
  /** In [0, 1). */
  next(): number;
  /** In [from, to], whole. */
  int(from: number, to: number): number;
  pick<T>(items: readonly T[]): T;
  /** Another source, independent of how often this one is asked. */
  fork(name: string): Random;
}

export function seeded(seed: number): Random {
  let state = seed >>> 0;
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
  return {
    next,
    int: (from, to) => from + Math.floor(next() * (to - from + 1)),
    pick: (items) => items[Math.floor(next() * items.length)]!,
    fork(name) {
      let hash = 2_166_136_261 ^ seed;
      for (const char of name) hash = Math.imul(hash ^ char.charCodeAt(0), 16_777_619);
      return seeded(hash);
    },
  };
}
