import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { ImportedBody, ImportedEvent } from "@quartet/contracts";
import type { SystemAddress } from "./client.ts";
import { sentences } from "./names.ts";
import { activity, person } from "./seed.ts";

const SEED = 20;
const DAY = 86_400_000;
const EVENTS_A_PERSON = 12;
const TICK_MS = 250;
/** Of ten events: one changed profile makes two (the state and the fact), the rest is tracked. */
const PROFILES_OF_TEN = 2;
const SESSION_EVERY_MS = 1500;
const CALL_MS = 5000;

interface Load {
  perSecond: number;
  until: string;
  /** Events that were accepted. */
  done: number;
  /** Calls that were refused or not answered: a part was down. */
  failed: number;
  over: AbortController;
}

export interface DemoState {
  load: Omit<Load, "over"> | null;
  seeding: boolean;
}

/** People and a little load for whoever looks at the console: through the public API, as the operator, bounded in rate and in time. */
export class Demo {
  readonly #system: () => SystemAddress;
  #people: string[] = [];
  #load: Load | undefined;
  #seeding = false;

  constructor(system: () => SystemAddress) {
    this.#system = system;
  }

  state(): DemoState {
    if (!this.#load) return { load: null, seeding: this.#seeding };
    const { over: _, ...load } = this.#load;
    return { load, seeding: this.#seeding };
  }

  /** Brings in people with eight weeks of activity behind them. The same number is the same people: a second time adds nobody. */
  async seed(users: number): Promise<{ users: number }> {
    this.#seeding = true;
    try {
      const ids = await this.#bring(users);
      const today = Math.floor(Date.now() / DAY) * DAY;
      const events = ids.flatMap((id, i) => [...activity(SEED, i, EVENTS_A_PERSON, id, today)]);
      for (let i = 0; i < events.length; i += 1000) await this.#upload({ events: events.slice(i, i + 1000) });
      return { users };
    } finally {
      this.#seeding = false;
    }
  }

  /** Runs about `perSecond` events a second: tracked events, changed profiles, and a session now and then. A load that runs is replaced. */
  async start(perSecond: number, seconds: number): Promise<DemoState> {
    this.stop();
    if (this.#people.length === 0) await this.#bring(60);
    const over = new AbortController();
    const until = new Date(Date.now() + seconds * 1000).toISOString();
    const load: Load = { perSecond, until, done: 0, failed: 0, over };
    this.#load = load;
    const timer = setTimeout(() => over.abort(), seconds * 1000);
    void Promise.all([this.#writes(load), this.#sessions(load)]).finally(() => {
      clearTimeout(timer);
      if (this.#load === load) this.#load = undefined;
    });
    return this.state();
  }

  stop(): DemoState {
    this.#load?.over.abort();
    this.#load = undefined;
    return this.state();
  }

  async #writes(load: Load): Promise<void> {
    let owed = 0;
    while (!load.over.signal.aborted) {
      const started = performance.now();
      owed += (load.perSecond * TICK_MS) / 1000;
      const profiles = Math.floor((owed * PROFILES_OF_TEN) / 10 / 2 + Math.random());
      const tracked = Math.max(0, Math.round(owed - profiles * 2));
      owed = 0;
      await Promise.all([
        this.#counted(load, profiles * 2, () => this.#upload({ users: this.#changed(profiles) })),
        this.#counted(load, tracked, () => this.#upload({ events: this.#tracked(tracked) })),
      ]);
      await pause(Math.max(20, TICK_MS - (performance.now() - started)), load.over.signal);
    }
  }

  /** One person who comes and goes: the only writes that begin in Redis. */
  async #sessions(load: Load): Promise<void> {
    const handle = `demo_${randomBytes(5).toString("hex")}`;
    const password = randomBytes(18).toString("base64url");
    let known = false;
    while (!load.over.signal.aborted) {
      await this.#counted(load, 2, async () => {
        if (!known) {
          const displayName = `Demo ${handle.slice(5, 9)}`;
          await this.#call("POST", "/v1/users", { handle, password, displayName, email: `${handle}@example.org` });
          known = true;
        }
        const { token } = (await this.#call("POST", "/v1/sessions", { login: handle, password, device: "demo" })) as {
          token: string;
        };
        await this.#call("DELETE", "/v1/sessions/current", undefined, token);
      });
      await pause(SESSION_EVERY_MS, load.over.signal);
    }
  }

  async #counted(load: Load, events: number, work: () => Promise<unknown>): Promise<void> {
    if (events === 0) return;
    try {
      await work();
      load.done += events;
    } catch {
      load.failed++;
    }
  }

  #changed(n: number) {
    return Array.from({ length: n }, () => {
      const known = person(SEED, Math.floor(Math.random() * this.#people.length));
      const said = sentences[Math.floor(Math.random() * sentences.length)];
      return { ...known, bio: `${said} (${randomBytes(3).toString("hex")})` };
    });
  }

  #tracked(n: number): ImportedEvent[] {
    const names = ["visit", "visit", "search", "profile.view", "message", "purchase"];
    return Array.from({ length: n }, () => ({
      name: names[Math.floor(Math.random() * names.length)] as string,
      userId: this.#people[Math.floor(Math.random() * this.#people.length)] as string,
      properties: { device: "demo" },
    }));
  }

  async #bring(users: number): Promise<string[]> {
    const people = Array.from({ length: users }, (_, i) => person(SEED, i));
    const ids: string[] = [];
    for (let i = 0; i < users; i += 500) {
      const { users: brought } = (await this.#upload({ users: people.slice(i, i + 500) })) as ImportedBody;
      const byKey = new Map(brought.map((user) => [user.key, user.id]));
      for (const { key } of people.slice(i, i + 500)) ids.push(byKey.get(key) as string);
    }
    if (ids.length > this.#people.length) this.#people = ids;
    return ids;
  }

  #upload(body: object): Promise<unknown> {
    return this.#call("POST", "/v1/admin/import", body);
  }

  async #call(method: string, path: string, body?: object, token = this.#system().operatorToken): Promise<unknown> {
    const response = await fetch(this.#system().url + path, {
      method,
      headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(CALL_MS),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path} was answered with ${response.status}`);
    return text === "" ? undefined : JSON.parse(text);
  }
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return sleep(ms, undefined, { signal }).catch(() => {});
}
