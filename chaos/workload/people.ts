import type { Endpoint } from "../availability.ts";
import { trackedProperties } from "../history.ts";
import type { Random } from "../random.ts";
import type { Answer, ChaosClient } from "./client.ts";

const PASSWORD = "correct horse battery staple";

/** A person as the workload knows them. */
export interface Person {
  id: string;
  handle: string;
  password: string;
  /** The newest revision known; undefined when another one turned out to be there, until it is read again. */
  revision: number | undefined;
  /** A token of theirs that is not revoked by the workload, and its session. */
  session?: Session;
  /** Consistency token of the newest acknowledged write. */
  consistency?: string | undefined;
}

export interface Session {
  id: string;
  token: string;
  user: string;
}

/** The display name carries the revision that the change was to make, so that every copy of it tells which one it is. */
function nameOf(handle: string, revision: number): string {
  return `Person ${handle} r${revision}`;
}

export function revisionIn(displayName: unknown): number | undefined {
  const found = /r(\d+)$/.exec(String(displayName ?? ""));
  return found ? Number(found[1]) : undefined;
}

/** What people do, each as one recorded request. `who` names the client that does it. */
export class Actions {
  readonly client: ChaosClient;
  readonly run: string;
  /** From here on facts are counted. */
  readonly since: string;
  #counter = 0;

  constructor(client: ChaosClient, run: string, since: string) {
    this.client = client;
    this.run = run;
    this.since = since;
  }

  unique(prefix: string): string {
    return `${prefix}${this.run}${(this.#counter++).toString(36)}`;
  }

  /** Signs somebody up; asks again with the same key while the outcome is unknown. */
  async signUp(who: string, attempts = 1): Promise<Person | undefined> {
    const handle = this.unique("h");
    const body = {
      email: `${handle}@example.org`,
      password: PASSWORD,
      handle,
      displayName: nameOf(handle, 1),
      bio: "",
      country: "NL",
      tags: ["chaos"],
    };
    for (let attempt = 0; attempt < attempts; attempt++) {
      const headers = { "idempotency-key": handle };
      const answer = await this.client.call(who, "POST /v1/users", "POST", "/v1/users", { body, headers }, (a) => ({
        kind: "create",
        key: handle,
        handle,
        ...(a.status === 201 ? { user: a.body.id } : {}),
      }));
      if (answer.status === 201) {
        return { id: answer.body.id, handle, password: PASSWORD, revision: 1, consistency: answer.consistency };
      }
      if (answer.outcome === "refused") return undefined;
    }
    return undefined;
  }

  /** One change under If-Match; reads the revision first if it is not known. */
  async update(
    who: string,
    person: Person,
    change: { token?: string; password?: string } = {},
  ): Promise<Answer | undefined> {
    if (person.revision === undefined) await this.read(who, person);
    if (person.revision === undefined) return undefined;
    const revision = person.revision + 1;
    const endpoint: Endpoint = change.token ? "PATCH /v1/users/:id (own token)" : "PATCH /v1/users/:id";
    const keeps = change.password && change.token === person.session?.token ? person.session?.id : undefined;
    const answer = await this.client.call(
      who,
      endpoint,
      "PATCH",
      `/v1/users/${person.id}`,
      {
        token: change.token ?? this.client.operatorToken,
        headers: { "if-match": `"${revision - 1}"` },
        body: {
          displayName: nameOf(person.handle, revision),
          bio: `${who} ${this.unique("n")}`,
          ...(change.password ? { password: change.password, currentPassword: person.password } : {}),
        },
      },
      (a) => ({
        kind: "update",
        user: person.id,
        revision,
        ...(change.password ? { password: true as const } : {}),
        ...(keeps ? { keeps } : {}),
        ...(a.consistency ? { token: a.consistency } : {}),
      }),
    );
    if (answer.status === 200) {
      person.revision = revision;
      person.consistency = answer.consistency;
    } else if (answer.status === 412) {
      // An earlier change whose answer was lost was made after all. (While its outcome is unknown the same revision is tried again: one of the two makes it.)
      person.revision = undefined;
    }
    return answer;
  }

  /** By the owner; tells the workload the revision too. */
  async read(who: string, person: Person, token?: string): Promise<Answer> {
    const endpoint: Endpoint = token ? "GET /v1/users/:id (own token)" : "GET /v1/users/:id";
    const answer = await this.client.call(who, endpoint, "GET", `/v1/users/${person.id}`, { token }, (a) => ({
      kind: "read",
      user: person.id,
      ...(a.status === 200 ? { found: true, revision: a.body.revision as number } : {}),
      ...(a.status === 404 ? { found: false } : {}),
    }));
    if (answer.status === 200) person.revision ??= answer.body.revision;
    return answer;
  }

  async logIn(who: string, person: Person): Promise<Session | undefined> {
    const body = { login: person.handle, password: person.password };
    const answer = await this.client.call(who, "POST /v1/sessions", "POST", "/v1/sessions", { body }, (a) => ({
      kind: "login",
      user: person.id,
      ...(a.status === 201 ? { session: a.body.session.id } : {}),
    }));
    if (answer.status !== 201) return undefined;
    return { id: answer.body.session.id, token: answer.body.token, user: person.id };
  }

  current(who: string, session: Session, after?: { token: string; revision: number }): Promise<Answer> {
    const call = { token: session.token, after: after?.token };
    return this.client.call(who, "GET /v1/sessions/current", "GET", "/v1/sessions/current", call, (a) => {
      const revision = a.status === 200 ? revisionIn(a.body.user.displayName) : undefined;
      return {
        kind: "current",
        user: session.user,
        session: session.id,
        ...(revision === undefined ? {} : { revision }),
        ...(after ? { after: after.revision, waited: a.waited } : {}),
      };
    });
  }

  logOut(who: string, session: Session): Promise<Answer> {
    const call = { token: session.token };
    return this.client.call(who, "DELETE /v1/sessions/current", "DELETE", "/v1/sessions/current", call, () => ({
      kind: "revoke",
      user: session.user,
      sessions: [session.id],
    }));
  }

  /** Looks for somebody by handle, as search shows them. */
  search(
    who: string,
    person: Pick<Person, "id" | "handle">,
    after?: { token: string; revision: number },
  ): Promise<Answer> {
    const path = `/v1/search?q=${person.handle}&limit=5`;
    return this.client.call(who, "GET /v1/search", "GET", path, { after: after?.token }, (a) => {
      const hit = (a.body?.hits as { id: string; displayName: string }[] | undefined)?.find((h) => h.id === person.id);
      const revision = hit ? revisionIn(hit.displayName) : undefined;
      return {
        kind: "search",
        user: person.id,
        ...(a.status === 200 ? { found: hit !== undefined } : {}),
        ...(revision === undefined ? {} : { revision }),
        ...(after ? { after: after.revision, waited: a.waited } : {}),
      };
    });
  }

  suggest(who: string, person: Pick<Person, "id" | "handle">): Promise<Answer> {
    const path = `/v1/search/suggest?q=${person.handle.slice(0, 6)}`;
    return this.client.call(who, "GET /v1/search/suggest", "GET", path, {}, () => ({ kind: "probe" }));
  }

  people(who: string, person: Pick<Person, "id">): Promise<Answer> {
    const call = { token: this.client.operatorToken };
    return this.client.call(who, "GET /v1/people/:id", "GET", `/v1/people/${person.id}`, call, (a) => ({
      kind: "read",
      user: person.id,
      ...(a.body?.user ? { found: true, revision: a.body.user.revision as number } : {}),
      ...(a.status === 404 ? { found: false } : {}),
    }));
  }

  /** Tracks events; with the same ids again they are the same events. */
  track(who: string, name: string, ids: string[], person?: { id: string; session: Session }): Promise<Answer> {
    const events = ids.map((id) => ({
      id,
      name,
      ...(person ? { userId: person.id } : {}),
      properties: trackedProperties,
    }));
    const endpoint: Endpoint = person ? "POST /v1/track (own token)" : "POST /v1/track";
    const call = { body: { events }, token: person?.session.token };
    const caller = person?.id ?? "anonymous";
    return this.client.call(who, endpoint, "POST", "/v1/track", call, () => ({
      kind: "track",
      name,
      ids,
      caller,
      ...(person ? { user: person.id } : {}),
    }));
  }

  count(who: string, name: string): Promise<Answer> {
    const path = `/v1/analytics/events?name=${name}&interval=day&from=${this.since}`;
    return this.client.call(who, "GET /v1/analytics/events", "GET", path, {}, (a) => ({
      kind: "count",
      name,
      ...(a.status === 200 ? { total: a.body.total as number } : {}),
    }));
  }

  signups(who: string): Promise<Answer> {
    const path = `/v1/analytics/signups?interval=day&from=${this.since}`;
    return this.client.call(who, "GET /v1/analytics/signups", "GET", path, {}, (a) => ({
      kind: "signups",
      ...(a.status === 200 ? { total: a.body.total as number } : {}),
    }));
  }

  erase(who: string, person: Person): Promise<Answer> {
    const call = { token: this.client.operatorToken };
    return this.client.call(who, "DELETE /v1/users/:id", "DELETE", `/v1/users/${person.id}`, call, (a) => ({
      kind: "erase",
      user: person.id,
      ...(a.status === 202 ? { erasure: a.body.erasureId as string } : {}),
    }));
  }

  receipt(who: string, erasure: { user: string; id: string }): Promise<Answer> {
    return this.client.call(who, "GET /v1/erasures/:id", "GET", `/v1/erasures/${erasure.id}`, {}, (a) => ({
      kind: "receipt",
      user: erasure.user,
      erasure: erasure.id,
      ...(a.status === 200 ? { complete: a.body.state === "complete" } : {}),
    }));
  }

  status(who: string): Promise<Answer> {
    const call = { token: this.client.operatorToken };
    return this.client.call(who, "GET /v1/admin/status", "GET", "/v1/admin/status", call, () => ({ kind: "probe" }));
  }

  funnel(who: string): Promise<Answer> {
    const path = `/v1/analytics/funnel?steps=chaos.a,chaos.b&from=${this.since}`;
    return this.client.call(who, "GET /v1/analytics/funnel", "GET", path, {}, () => ({ kind: "probe" }));
  }

  health(who: string): Promise<Answer> {
    return this.client.call(who, "GET /healthz", "GET", "/healthz", {}, () => ({ kind: "probe" }));
  }
}

export function choose<T>(random: Random, items: readonly T[]): T | undefined {
  return items.length === 0 ? undefined : random.pick(items);
}
