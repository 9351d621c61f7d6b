import type { Random } from "../random.ts";
import type { Experiment } from "./experiment.ts";

/** Two faults of different parts that overlap, chosen by the seed. */
export function randomPairs(random: Random, from: Experiment[], count: number): Experiment[] {
  const pairs: Experiment[] = [];
  for (let i = 0; i < count; i++) {
    const first = random.pick(from);
    const others = from.filter((e) => partOf(e) !== partOf(first));
    const second = random.pick(others);
    const apartMs = random.int(0, 3_000);
    pairs.push({
      name: `pair-${i + 1}-${first.name}-${second.name}`,
      hypothesis: `${first.hypothesis} ${apartMs} ms later: ${second.hypothesis}`,
      away: [...new Set([...first.away, ...second.away])],
      needs: [...(first.needs ?? []), ...(second.needs ?? [])],
      holdMs: Math.max(first.holdMs, second.holdMs),
      inject: async (lab) => {
        await first.inject(lab);
        await lab.wait(apartMs);
        await second.inject(lab);
      },
      heal: async (lab) => {
        const order = lab.random.next() < 0.5 ? [first, second] : [second, first];
        await order[0]!.heal(lab);
        await lab.wait(lab.random.int(0, 2_000));
        await order[1]!.heal(lab);
      },
    });
  }
  return pairs;
}

const partOf = (experiment: Experiment): string => experiment.name.replace(/-(killed|frozen|cut|slowed)$/, "");
