import { markOf, type Sighting } from "@quartet/service";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Client, eventually, logIn, signUp } from "../lib/client.ts";
import { forget, type Launched, launch } from "../lib/launch.ts";

const elsewhere = process.env.QUARTET_URL !== undefined && process.env.QUARTET_TEST_HOME === undefined;

/** As in a cluster: relays and projectors are processes of their own, which the gateway cannot ask. */
describe.skipIf(elsewhere)("a system with a process for each role", () => {
  let system: Launched;
  let client: Client;
  const seen: Sighting[] = [];
  const watching = new AbortController();

  beforeAll(async () => {
    system = await launch({ env: { QUARTET_ROLES: "split", AUDIT_INTERVAL_MS: "0" } });
    client = new Client(system.url, system.operatorToken);
    const stream = await fetch(`${system.url}/v1/console/stream`, { signal: watching.signal });
    expect(stream.status).toBe(200);
    void follow(stream.body!).catch(() => {}); // it ends with an error when we stop watching
  });
  afterAll(async () => {
    watching.abort();
    if (!system) return;
    expect(await system.stop(), system.output()).toBe(0);
    forget(system.home);
  });

  /** Collects what the console is told of the flow. */
  async function follow(body: NonNullable<Response["body"]>): Promise<void> {
    const decoder = new TextDecoder();
    let rest = "";
    for await (const chunk of body) {
      const blocks = (rest + decoder.decode(chunk, { stream: true })).split("\n\n");
      rest = blocks.pop() as string;
      for (const block of blocks) {
        const data = /^event: flow\ndata: (.*)$/.exec(block)?.[1];
        if (data) seen.push(...(JSON.parse(data) as Sighting[]));
      }
    }
  }

  it("shows a sign-up and a log-in on every hop, each once, and names nobody", async () => {
    const person = await signUp(client);
    await logIn(client, person);
    const mark = markOf(person.id);
    const theirs = () =>
      seen.flatMap(({ hop, kind, some = [] }) =>
        some.filter(([of]) => of === mark).map(([, at]) => ({ step: `${hop} ${kind}`, at })),
      );
    const wanted = [
      "publish.user state",
      "publish.user user.created",
      "publish.session session.started",
      "apply.search state",
      "apply.session state",
      "apply.analytics user.created",
      "apply.analytics session.started",
    ];
    await eventually(
      `all of ${wanted.join(", ")}`,
      async () => {
        const steps = new Set(theirs().map(({ step }) => step));
        const missing = wanted.filter((step) => !steps.has(step));
        if (missing.length > 0) throw new Error(`not seen: ${missing.join(", ")}`);
        return true;
      },
      60_000,
    );
    const told = theirs().map(({ step, at }) => `${step} ${at}`);
    expect(told).toEqual([...new Set(told)]);
    expect(JSON.stringify(seen)).not.toContain(person.id);
    const fields = new Set(seen.flatMap((sighting) => Object.keys(sighting)));
    expect([...fields].sort()).toEqual(["at", "hop", "kind", "n", "some"]);
  });
});
