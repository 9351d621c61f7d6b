/**
 * Asks once for everybody who wants to know within `ms` of the question; a failure is forgotten at once. With `fresh` the question is asked anew, whatever is
 * remembered: for whoever must not be told of a moment before they asked. There is never a second question beside one that is under way: whoever that one is
 * too old for shares the next.
 */
export function remembered<T>(ms: number, ask: () => Promise<T>): (options?: { fresh?: boolean }) => Promise<T> {
  let last: { at: number; answer: Promise<T> } | undefined;
  let underWay: Promise<unknown> | undefined;
  let next: Promise<T> | undefined;
  const begin = (): Promise<T> => {
    next = undefined;
    const mine = { at: performance.now(), answer: ask() };
    last = mine;
    underWay = mine.answer
      .catch(() => {
        if (last === mine) last = undefined;
      })
      .then(() => {
        underWay = undefined;
      });
    return mine.answer;
  };
  return ({ fresh = false } = {}) => {
    if (!fresh && last && performance.now() - last.at <= ms) return last.answer;
    if (!underWay) return begin();
    next ??= underWay.then(begin);
    return next;
  };
}
