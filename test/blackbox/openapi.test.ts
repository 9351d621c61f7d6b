import fc from "fast-check";
import { request } from "undici";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { eventually, logIn, signUp } from "../lib/client.ts";
import {
  type Attempt,
  attemptsOf,
  complaint,
  complaintOfOther,
  type Described,
  type Document,
  Given,
  otherMethodsOf,
  type Seen,
} from "../lib/fuzz.ts";
import { client } from "../lib/system.ts";

/** `QUARTET_FUZZ_MINUTES=10` goes on for so long, `QUARTET_FUZZ_SEED` repeats a run. */
const MINUTES = Number(process.env.QUARTET_FUZZ_MINUTES ?? 0);
const SEED = Number(process.env.QUARTET_FUZZ_SEED ?? Date.now() % 2 ** 31);
const SHORT_MS = 20_000;
const AT_ONCE = 6;
/** So many are logged in, as fast as the requests end their sessions. */
const CALLERS = 5;
const token = client.operatorToken;

async function send(sent: Attempt): Promise<Seen> {
  const bearer = sent.as === "operator" ? token : sent.as === "nobody" ? undefined : sent.as.token;
  const answer = await request(client.url + sent.path, {
    method: sent.method as "GET",
    headers: { ...sent.headers, ...(bearer ? { Authorization: `Bearer ${bearer}` } : {}) },
    ...(sent.body === undefined ? {} : { body: sent.body }),
    signal: AbortSignal.timeout(60_000),
  });
  const headers = new Headers(Object.entries(answer.headers).map(([name, value]) => [name, String(value)]));
  return { status: answer.statusCode, headers, text: await answer.body.text() };
}

const told = (sent: Attempt) =>
  `${typeof sent.as === "string" ? sent.as : "a person"}: ${sent.method} ${sent.path} ${JSON.stringify(sent.headers)} ${(sent.body ?? "").slice(0, 2000)}`;

describe("the OpenAPI document and the API are one", () => {
  let document: Document;
  const given = new Given();
  let entering: Promise<void> | undefined;
  const enter = async (): Promise<void> => {
    const person = await signUp(client);
    const { token, session } = await logIn(client, person);
    given.add("user", person.id);
    given.add("session", session.id);
    given.add("caller", { userId: person.id, token });
  };
  beforeAll(async () => {
    document = (await client.get<Document>("/openapi.json")).body;
    given.add("seq", 1, 2);
    for (let i = 0; i < CALLERS; i++) await eventually("a person is in", () => enter().then(() => true));
  });
  // A rebuild that was asked for is over before the next file begins.
  afterAll(async () => {
    await eventually(
      "no rebuild goes on",
      async () => {
        const { body } = await client.get("/v1/admin/rebuilds", { token });
        return body.missing.length === 0 && body.rebuilds.every((r: { state: string }) => r.state !== "running");
      },
      120_000,
    );
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
      const asked = [
        ...operations.map(({ name, method, path, op }) => ({
          name,
          attempts: attemptsOf(method, path, op, given),
          wrong: (sent: Attempt, seen: Seen) => complaint(document, op, sent, seen),
        })),
        ...Object.entries(document.paths).map(([path, methods]) => ({
          name: `others of ${path}`,
          attempts: otherMethodsOf(path, Object.keys(methods), given),
          wrong: (sent: Attempt, seen: Seen) => complaintOfOther(document, sent, seen),
        })),
      ];
      const made = asked.map(({ name, attempts, wrong }, i) => {
        // Small, so that they carry what was given out a moment ago.
        let batch: Attempt[] = [];
        let round = 0;
        const next = () => {
          if (batch.length === 0)
            batch = fc.sample(attempts, { numRuns: 4, seed: (SEED + 7919 * i + 104_729 * round++) | 0 }).reverse();
          return batch.pop() as Attempt;
        };
        return { name, wrong, next, statuses: new Map<string, number>() };
      });
      const complaints: string[] = [];
      const deadline = Date.now() + (MINUTES > 0 ? MINUTES * 60_000 : SHORT_MS);
      let turn = 0;
      const client = async () => {
        while (Date.now() < deadline && complaints.length < 20) {
          if (given.callers < CALLERS) {
            // A busy system may say 503 here too: then the next turn tries again.
            entering ??= enter()
              .catch(() => {})
              .finally(() => {
                entering = undefined;
              });
            await entering;
          }
          const { wrong: wrongOf, next, statuses } = made[turn++ % made.length] as (typeof made)[number];
          const sent = next();
          const seen = await send(sent);
          const counted = `${typeof sent.as === "string" ? sent.as : "person"}${sent.wrong ? " wrong" : ""} ${seen.status}`;
          statuses.set(counted, (statuses.get(counted) ?? 0) + 1);
          given.learn(sent, seen);
          const wrong = wrongOf(sent, seen);
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
