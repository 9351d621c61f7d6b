/**
 * Asks once for everybody who wants to know within `ms` of the question; a failure is forgotten at once. With `fresh` the question is asked now, whatever is
 * remembered: for whoever must not be told of a moment before they asked.
 */
export function remembered<T>(ms: number, ask: () => Promise<T>): (options?: { fresh?: boolean }) => Promise<T> {
  let last: { at: number; answer: Promise<T> } | undefined;
  return ({ fresh = false } = {}) => {
    if (!fresh && last && performance.now() - last.at <= ms) return last.answer;
    const mine = { at: performance.now(), answer: ask() };
    last = mine;
    mine.answer.catch(() => {
      if (last === mine) last = undefined;
    });
    return mine.answer;
  };
}
