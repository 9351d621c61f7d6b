import { expect, it } from "vitest";
import { remembered } from "../src/index.ts";

it("asks again for who must not be told of an earlier moment, but never twice at once", async () => {
  const answers: ((n: number) => void)[] = [];
  let underWay = 0;
  let most = 0;
  const ask = remembered(60_000, async () => {
    most = Math.max(most, ++underWay);
    const answer = await new Promise<number>((resolve) => answers.push(resolve));
    underWay--;
    if (answer < 0) throw new Error("away");
    return answer;
  });
  const first = [ask(), ask({ fresh: true }), ask({ fresh: true }), ask()];
  expect(answers).toHaveLength(1);
  answers[0]?.(1);
  expect([await first[0], await first[3]]).toEqual([1, 1]);
  await new Promise((resolve) => setImmediate(resolve));
  expect(answers).toHaveLength(2);
  const third = ask({ fresh: true });
  answers[1]?.(2);
  expect([await first[1], await first[2]]).toEqual([2, 2]);
  await new Promise((resolve) => setImmediate(resolve));
  answers[2]?.(-1);
  await expect(third).rejects.toThrow("away");
  const fourth = ask();
  answers[3]?.(4);
  expect([await fourth, await ask(), most]).toEqual([4, 4, 1]);
});
