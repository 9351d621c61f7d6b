import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { eventually, logIn, signUp } from "../lib/client.ts";
import { type Attempt, attemptsOf, complaint, type Described, type Document, type Seen } from "../lib/fuzz.ts";
import { client } from "../lib/system.ts";

/** `QUARTET_FUZZ_MINUTES=10` goes on for so long, `QUARTET_FUZZ_SEED` repeats a run. */
const MINUTES = Number(process.env.QUARTET_FUZZ_MINUTES ?? 0);
const SEED = Number(process.env.QUARTET_FUZZ_SEED ?? Date.now() % 2 ** 31);
const SHORT_MS = 20_000;
const AT_ONCE = 6;
const token = client.operatorToken;

async function send(sent: Attempt): Promise<Seen> {
  const response = await fetch(client.url + sent.path, {
    method: sent.method,
    headers: { ...sent.headers, Authorization: `Bearer ${token}` },
    ...(sent.body === undefined ? {} : { body: sent.body }),
    redirect: "manual",
    signal: AbortSignal.timeout(60_000),
  });
  return { status: response.status, headers: response.headers, text: await response.text() };
}

const told = (sent: Attempt) =>
  `${sent.method} ${sent.path} ${JSON.stringify(sent.headers)} ${(sent.body ?? "").slice(0, 2000)}`;

describe("the OpenAPI document and the API are one", () => {
  let document: Document;
  const known: Record<string, unknown[]> = { id: [], userId: [], seq: [1, 2] };
  beforeAll(async () => {
    document = (await client.get<Document>("/openapi.json")).body;
    for (let i = 0; i < 5; i++) {
      const person = await signUp(client);
      const { session } = await logIn(client, person);
      (known.id as unknown[]).push(person.id, session.id);
      (known.userId as unknown[]).push(person.id);
    }
  });
  // A rebuild that was asked for is over before the next file begins.
  afterAll(async () => {
    await eventually("no rebuild goes on", async () => {
      const { body } = await client.get("/v1/admin/rebuilds", { token });
      return body.missing.length === 0 && body.rebuilds.every((r: { state: string }) => r.state !== "running");
    });
  });

  it(
    `what it allows is taken, what it does not is refused, and every answer is as it says (seed ${SEED})`,
    async () => {
      const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
        Object.entries(methods).map(([method, op]) => ({
          name: `${method} ${path}`,
          method,
          path,
          op: op as Described,
        })),
      );
      const made = operations.map(({ name, method, path, op }, i) => {
        const attempts = attemptsOf(method, path, op, (parameter) => known[parameter] ?? []);
        let batch: Attempt[] = [];
        let round = 0;
        const next = () => {
          if (batch.length === 0)
            batch = fc.sample(attempts, { numRuns: 40, seed: (SEED + 7919 * i + 104_729 * round++) | 0 }).reverse();
          return batch.pop() as Attempt;
        };
        return { name, op, next, statuses: new Map<number, number>() };
      });
      const complaints: string[] = [];
      const deadline = Date.now() + (MINUTES > 0 ? MINUTES * 60_000 : SHORT_MS);
      let turn = 0;
      const client = async () => {
        while (Date.now() < deadline && complaints.length < 20) {
          const { op, next, statuses } = made[turn++ % made.length] as (typeof made)[number];
          const sent = next();
          const seen = await send(sent);
          statuses.set(seen.status, (statuses.get(seen.status) ?? 0) + 1);
          const wrong = complaint(document, op, sent, seen);
          if (wrong)
            complaints.push(
              `${wrong} - ${sent.wrong ? `(${sent.wrong}) ` : ""}${told(sent)} - ${seen.status} ${seen.text.slice(0, 600)}`,
            );
        }
      };
      await Promise.all(Array.from({ length: AT_ONCE }, client));
      console.log(
        `seed ${SEED}, ${turn} requests\n${made
          .map(
            ({ name, statuses }) =>
              `${name}: ${[...statuses]
                .sort()
                .map((s) => s.join(" x "))
                .join(", ")}`,
          )
          .join("\n")}`,
      );
      expect(complaints, complaints.join("\n\n")).toEqual([]);
      for (const { name, statuses } of made)
        expect([...statuses.keys()].length, `${name} was tried`).toBeGreaterThan(0);
    },
    (MINUTES + 3) * 60_000,
  );
});
