import { expect, test } from "vitest";
import { createMarks } from "../src/events/marks.ts";

const T = Date.parse("2026-01-01T00:00:00Z");
/** A stream: when the message at each sequence was stored. */
const stream = new Map<number, number>();
const put = (from: number, to: number, at: number) => {
  for (let seq = from; seq <= to; seq++) stream.set(seq, at + seq);
};
const watch = () => {
  stream.clear();
  const marks = createMarks(async (seq) => stream.get(seq));
  const look = async (end: number) => {
    const broken = await marks.broken(end);
    marks.note(end, new Date(stream.get(end) ?? 0).toISOString());
    return broken;
  };
  return { marks, look };
};

test("a stream that only grows is intact, also where messages were purged", async () => {
  const { look } = watch();
  put(1, 100, T);
  for (const end of [10, 20, 20, 30]) expect(await look(end)).toBeUndefined();
  stream.delete(30);
  expect(await look(40)).toBeUndefined();
});

test("one that lost its end is intact up to the newest mark that is still the same, whether its sequences were given out again or not", async () => {
  for (const refilled of [false, true]) {
    const { look } = watch();
    put(1, 50, T);
    for (const end of [10, 20, 30, 40, 50]) await look(end);
    for (let seq = 26; seq <= 50; seq++) stream.delete(seq);
    if (refilled) put(26, 80, T + 60_000);
    expect(await look(refilled ? 80 : 25)).toBe(20);
    put(26, 90, T + 60_000);
    expect(await look(90), "told once").toBeUndefined();
  }
});

test("one that lost all it had at any look is intact up to nowhere", async () => {
  const { look } = watch();
  put(5, 10, T);
  await look(10);
  put(5, 20, T + 1000);
  expect(await look(20)).toBe(0);
});
