import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { eventually, logIn, type Person, signUp, unique } from "../lib/client.ts";
import { command } from "../lib/commands.ts";
import { killOnce } from "../lib/faults.ts";
import { client, home } from "../lib/system.ts";

const CROWD = 60;
const operator = { token: client.operatorToken };
const tag = unique("crowd").replaceAll("_", "").toLowerCase();

/** The people who are there from the beginning to the end, and whom every answer must show. */
const crowd: Person[] = [];
let sessions: string[] = [];

/** Writes without a pause until it is told to stop: sign-ups, changes, tracked events, erasures. */
function load() {
  let running = true;
  const failures: string[] = [];
  const made: { person: Person; erased: boolean; bio: string }[] = [];
  const erasures: string[] = [];
  const loop = (async () => {
    for (let n = 0; running; n++) {
      try {
        const person = await signUp(client, { bio: `first ${n}` });
        const entry = { person, erased: false, bio: `second ${n}` };
        made.push(entry);
        const changed = await client.patch(`/v1/users/${person.id}`, { bio: entry.bio }, operator);
        if (changed.status !== 200) failures.push(`patch ${changed.status}`);
        const tracked = await client.post(
          "/v1/track",
          { events: [{ name: "load.seen", userId: person.id }] },
          operator,
        );
        if (tracked.status !== 202) failures.push(`track ${tracked.status}`);
        if (n % 4 === 0) {
          const gone = await client.delete(`/v1/users/${person.id}`, operator);
          if (gone.status !== 202) failures.push(`delete ${gone.status}`);
          else erasures.push(gone.body.erasureId);
          entry.erased = true;
        }
      } catch (error) {
        failures.push(String(error));
      }
    }
  })();
  return {
    made,
    erasures,
    failures,
    async stop() {
      running = false;
      await loop;
    },
  };
}

/** Reads that must be whole all the time. A 503 is allowed while a process is killed; a wrong answer never is. */
async function readAll(store: string): Promise<void> {
  if (store === "search") {
    const found = await client.get(`/v1/search?tag=${tag}&limit=1`);
    if (found.status === 200) expect(found.body.total).toBe(CROWD);
  } else if (store === "session") {
    const token = sessions[Math.floor(Math.random() * sessions.length)] as string;
    const me = await client.get("/v1/sessions/current", { token });
    expect(me.status).not.toBe(401);
    if (me.status === 200) expect(me.body.user.displayName).toMatch(/^Person /);
  } else {
    const counted = await client.get(`/v1/analytics/events?name=${tag}.seen`);
    if (counted.status === 200) expect(counted.body.total).toBe(CROWD);
  }
}

describe.skipIf(!home)("a rebuild under load", () => {
  beforeAll(async () => {
    for (let i = 0; i < CROWD; i++) crowd.push(await signUp(client, { tags: [tag] }));
    sessions = await Promise.all(crowd.slice(0, 5).map(async (person) => (await logIn(client, person)).token));
    const events = crowd.map(({ id }) => ({ name: `${tag}.seen`, userId: id }));
    const { token } = await client.post("/v1/track", { events }, operator);
    await client.get("/v1/analytics/sessions", { after: token });
    await client.get("/v1/search?q=", { after: crowd.at(-1)?.created });
  });
  let current: ReturnType<typeof load> | undefined;
  afterAll(() => current?.stop());

  it.each(["search", "session", "analytics"])(
    "%s: whole answers throughout, nothing missed, nobody back; killed in the middle it goes on",
    async (store) => {
      current = load();
      const { made, erasures, failures } = current;
      // A walk through the pages that was begun before goes on after.
      const first = await client.get(`/v1/search?tag=${tag}&limit=10`);
      const first_run = command("rebuild", store);
      const path = `/v1/admin/rebuilds/${store}`;
      await eventually("the rebuild begins", async () => (await client.get(path, operator)).body.state !== "none");
      first_run.child.kill("SIGKILL");
      await killOnce("services", store);
      await eventually("the service is back", async () => (await client.get(path, operator)).status === 200);
      const second = command("rebuild", store);
      let ended: { code: number | null; output: string } | undefined;
      void second.done.then((result) => {
        ended = result;
      });
      while (!ended) await readAll(store);
      expect(ended.code, ended.output).toBe(0);
      expect(ended.output).toContain(`${store} is rebuilt`);
      await readAll(store);
      await current.stop();
      current = undefined;
      // While the service was being killed some requests may have been refused; others not.
      expect(failures.filter((f) => !/50[234]|fetch failed/.test(f))).toEqual([]);

      const seen = new Set<string>(first.body.hits.map((hit: { id: string }) => hit.id));
      for (let cursor = first.body.nextCursor; cursor; ) {
        const page = await client.get(`/v1/search?tag=${tag}&limit=10&cursor=${encodeURIComponent(cursor)}`);
        // A snapshot lives as long as the process of the engine; the service's own end does not touch it.
        expect(page.status).toBe(200);
        for (const hit of page.body.hits) seen.add(hit.id);
        cursor = page.body.nextCursor;
      }
      expect(seen.size).toBe(CROWD);

      for (const id of erasures) {
        const complete = async () => (await client.get(`/v1/erasures/${id}`)).body.state === "complete";
        await eventually(`erasure ${id} is complete`, complete);
      }
      const audit = await command("audit").done;
      expect(audit.code, audit.output).toBe(0);
      const last = made.findLast(({ erased }) => !erased);
      if (last) {
        const found = await client.get(`/v1/search?q=${last.person.handle}`);
        expect(found.body.hits[0]).toMatchObject({ id: last.person.id, bio: last.bio });
      }
      for (const { person } of made.filter(({ erased }) => erased).slice(0, 5)) {
        // The handles of others may be close enough to be found by it.
        const { body } = await client.get(`/v1/search?q=${person.handle}`);
        expect(body.hits.map((hit: { id: string }) => hit.id)).not.toContain(person.id);
      }
    },
    300_000,
  );
});
