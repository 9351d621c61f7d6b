import { setTimeout as sleep } from "node:timers/promises";
import { type Client, logIn, type Person, signUp, unique } from "../lib/client.ts";

/**
 * People who sign up, log in, change, look, search and leave, some ten requests a second over every service, until it is stopped. What fails because
 * something is broken on purpose is passed over.
 */
export function startLoad(client: Client): { stop(): Promise<void> } {
  const stop = new AbortController();
  const once = async (): Promise<void> => {
    const person = await signUp(client);
    const { token } = await logIn(client, person);
    await look(client, person, token);
    await client.delete("/v1/sessions/current", { token });
  };
  const loop = async (): Promise<void> => {
    while (!stop.signal.aborted) {
      await once().catch(() => {});
      await sleep(250, undefined, { signal: stop.signal }).catch(() => {});
    }
  };
  const running = loop();
  return {
    async stop() {
      stop.abort();
      await running;
    },
  };
}

async function look(client: Client, person: Person, token: string): Promise<void> {
  await client.patch(`/v1/users/${person.id}`, { bio: unique("bio") }, { token });
  await client.get(`/v1/users/${person.id}`);
  await client.get("/v1/sessions/current", { token });
  await client.post("/v1/track", { events: [{ name: "load", userId: person.id }] }, { token });
  await client.get(`/v1/search?q=${person.handle}`);
  await client.get("/v1/analytics/signups");
  await client.get(`/v1/people/${person.id}`);
}
