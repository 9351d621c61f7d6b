import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { caughtUp, importPeople } from "../../chaos/bulk.ts";
import { commandOn } from "../lib/commands.ts";
import { forget, type Launched, launch } from "../lib/launch.ts";

const PEOPLE = Number(process.env.QUARTET_PEOPLE ?? 500_000);
/** The old space that the charts give a service of theirs. */
const HEAP_MB = 160;
const AUDITS = 3;
/** Half a million took an hour on two cores that others used too. */
const WITHIN_MS = 3 * 3_600_000;

let system: Launched;
beforeAll(async () => {
  system = await launch({ env: { QUARTET_HEAP_MB: String(HEAP_MB), RATE_LIMITS: "off" } });
});
afterAll(async () => {
  await system?.stop();
  if (system) forget(system.home);
});

/** What the launcher knows of its services: a process that died was replaced by another. */
const pids = (): Record<string, number | undefined> => {
  const run = JSON.parse(readFileSync(join(system.home, "run.json"), "utf8"));
  return Object.fromEntries(Object.entries<{ pid?: number }>(run.services).map(([name, { pid }]) => [name, pid]));
};

/** The most memory that each process has had at a time, MiB. */
const peaks = (): Record<string, number> =>
  Object.fromEntries(
    Object.entries(pids()).map(([name, pid]) => {
      const status = readFileSync(`/proc/${pid}/status`, "utf8");
      return [name, Math.round(Number(/^VmHWM:\s+(\d+)/m.exec(status)?.[1]) / 1024)];
    }),
  );

it(`${PEOPLE} people in heaps of ${HEAP_MB} MB: audits compare them all, and no process dies`, {
  timeout: WITHIN_MS,
}, async () => {
  const before = pids();
  const began = performance.now();
  const tell = (what: string) => console.log(`${Math.round((performance.now() - began) / 1000)} s: ${what}`, peaks());
  const target = { url: system.url, operatorToken: system.operatorToken } as Parameters<typeof importPeople>[0];
  const people = await importPeople(target, PEOPLE, (i) => ({ key: `long-${i}`, displayName: `Person ${i}` }));
  expect(new Set(people.map(({ id }) => id)).size).toBe(PEOPLE);
  tell("imported");
  await caughtUp(target, Date.now());
  tell("caught up");
  for (let i = 0; i < AUDITS; i++) {
    const audit = await commandOn(system, "audit", "--timeout", "300").done;
    tell(audit.output);
    expect(audit.code, audit.output).toBe(0);
    for (const store of ["search", "session"]) {
      expect(audit.output).toMatch(new RegExp(`^${store}\\t${PEOPLE}\\t0\\t0\\tclean$`, "m"));
    }
  }
  for (const [name, pid] of Object.entries(before)) {
    expect(() => process.kill(pid as number, 0), `${name} died`).not.toThrow();
  }
  expect(pids()).toEqual(before);
});
