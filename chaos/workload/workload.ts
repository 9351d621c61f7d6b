import { setTimeout as sleep } from "node:timers/promises";
import type { Random } from "../random.ts";
import { type Actions, choose, type Person, type Session } from "./people.ts";

export interface WorkloadOptions {
  actions: Actions;
  random: Random;
  /** Multiplies the pauses between requests. 1 is about 150 requests a second. */
  pace?: number;
}

const PEOPLE = 9;
/** Names of tracked events: one per tracker, so that a total is checked against what one client sent. */
const TRACKERS = ["chaos.a", "chaos.b"];
/** So many erasures are remembered to be looked for. */
const GHOSTS = 60;
const SPARE_SESSIONS = 30;

/**
 * Concurrent clients, each a loop of one request after the other with a pause between: writers, readers, trackers, people who log in and out and change
 * their passwords, people who come, do something and are erased, and one prober per endpoint. Everything they do is in the history.
 */
export class Workload {
  readonly #actions: Actions;
  readonly #random: Random;
  readonly #pace: number;
  readonly #people: Person[] = [];
  readonly #ghosts: { person: Person; session?: Session; complete: boolean }[] = [];
  readonly #open: { user: string; id: string; ghost: { complete: boolean } }[] = [];
  readonly #ended: Session[] = [];
  /** Sessions the prober may end. */
  readonly #spare: Session[] = [];
  readonly #loops: Promise<void>[] = [];
  readonly #stop = new AbortController();
  #gate: PromiseWithResolvers<void> | undefined;
  #busy = 0;
  /** Tokens that were ever given out, for the last reading. */
  readonly sessions: Session[] = [];

  constructor(options: WorkloadOptions) {
    this.#actions = options.actions;
    this.#random = options.random.fork("workload");
    this.#pace = options.pace ?? 1;
  }

  /** Signs up the people who stay, logs them in, and starts the loops. */
  async start(): Promise<void> {
    for (let i = 0; i < PEOPLE; i++) {
      const person = await this.#actions.signUp("setup", 5);
      if (!person) throw new Error("the system does not take the workload's people: it must be well at the start");
      const session = await this.#actions.logIn("setup", person);
      if (!session) throw new Error("the workload's people cannot log in: the system must be well at the start");
      this.#remember(session);
      person.session = session;
      this.#people.push(person);
    }
    // So many as an outage of the log-ins uses up.
    for (let i = 0; i < SPARE_SESSIONS / 2; i++) await this.#logInSpare("setup", this.#random);
    for (let w = 0; w < 3; w++) this.#loop(`writer-${w}`, 70, (who, r) => this.#write(who, r, w));
    for (let i = 0; i < 3; i++) this.#loop(`reader-${i}`, 80, (who, r) => this.#readSomebody(who, r));
    for (const name of TRACKERS) this.#loop(`tracker-${name}`, 90, (who, r) => this.#trackSome(who, r, name));
    this.#loop("counter", 150, (who, r) =>
      r.next() < 0.3 ? this.#actions.signups(who) : this.#actions.count(who, r.pick(TRACKERS)),
    );
    this.#loop("sessions", 900, (who, r) => this.#logInAndOut(who, r));
    this.#loop("passwords", 2_500, (who, r) => this.#changePassword(who, r));
    this.#loop("lifecycle", 800, (who, r) => this.#comeAndGo(who, r));
    this.#loop("receipts", 300, (who) => this.#askReceipts(who));
    this.#loop("ghost-hunter", 120, (who, r) => this.#huntGhosts(who, r));
    this.#probe();
  }

  /** One loop per endpoint that the others do not already use all the time. */
  #probe(): void {
    const somebody = (r: Random): Person => r.pick(this.#people);
    const probes: [string, number, (who: string, r: Random) => Promise<unknown>][] = [
      ["user", 250, (who, r) => this.#actions.read(who, somebody(r))],
      ["own", 250, (who, r) => this.#actions.read(who, somebody(r), somebody(r).session!.token)],
      ["suggest", 300, (who, r) => this.#actions.suggest(who, somebody(r))],
      ["people", 300, (who, r) => this.#actions.people(who, somebody(r))],
      ["status", 400, (who) => this.#actions.status(who)],
      ["funnel", 400, (who) => this.#actions.funnel(who)],
      ["signups", 400, (who) => this.#actions.signups(who)],
      ["health", 300, (who) => this.#actions.health(who)],
      ["log-in", 600, (who, r) => this.#logInSpare(who, r)],
      ["log-out", 650, async (who) => this.#logOutSpare(who)],
      ["sign-up", 1_100, async (who) => this.#adopt(await this.#actions.signUp(who))],
      ["erase", 700, async (who) => this.#eraseOne(who)],
    ];
    for (const [name, pause, probe] of probes) this.#loop(`prober-${name}`, pause, probe);
  }

  #loop(who: string, pauseMs: number, step: (who: string, random: Random) => Promise<unknown>): void {
    const random = this.#random.fork(who);
    const signal = this.#stop.signal;
    const run = async (): Promise<void> => {
      while (!signal.aborted) {
        if (this.#gate) await this.#gate.promise;
        if (signal.aborted) return;
        this.#busy++;
        try {
          await step(who, random);
        } finally {
          this.#busy--;
        }
        await sleep(pauseMs * this.#pace * (0.5 + random.next()), undefined, { signal }).catch(() => {});
      }
    };
    this.#loops.push(run());
  }

  /** Lets nobody begin anything new; resolves when nothing is under way. Returns that moment. */
  async pause(): Promise<number> {
    this.#gate ??= Promise.withResolvers();
    while (this.#busy > 0) await sleep(10);
    return Date.now();
  }

  resume(): void {
    this.#gate?.resolve();
    this.#gate = undefined;
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    this.resume();
    await Promise.all(this.#loops);
  }

  /** Erasures that were accepted and have not said that they are complete. */
  get openErasures(): { user: string; id: string }[] {
    return this.#open;
  }

  #remember(session: Session): void {
    this.sessions.push(session);
  }

  async #write(who: string, r: Random, writer: number): Promise<void> {
    const own = this.#people.filter((_, i) => i % 3 === writer);
    const person = r.pick(own);
    const token = r.next() < 0.5 ? person.session?.token : undefined;
    const answer = await this.#actions.update(who, person, token ? { token } : {});
    // Now and then the writer wants to see its own write.
    if (answer?.status !== 200 || !answer.consistency || r.next() > 0.15) return;
    const after = { token: answer.consistency, revision: person.revision! };
    if (r.next() < 0.5) await this.#actions.search(who, person, after);
    else await this.#actions.current(who, person.session!, after);
  }

  async #readSomebody(who: string, r: Random): Promise<void> {
    const person = r.pick(this.#people);
    const which = r.next();
    if (which < 0.4) await this.#actions.search(who, person);
    else if (which < 0.85) await this.#actions.current(who, person.session!);
    else await this.#actions.read(who, person);
  }

  async #trackSome(who: string, r: Random, name: string): Promise<void> {
    const ids = Array.from({ length: r.int(1, 6) }, () => this.#actions.unique("e"));
    const person = r.pick(this.#people);
    const by = r.next() < 0.4 ? { id: person.id, session: person.session! } : undefined;
    for (let attempt = 0; attempt < 3; attempt++) {
      const answer = await this.#actions.track(who, name, ids, by);
      // Unknown: again, with the same ids. And now and then although it is known.
      if (answer.outcome !== "unknown" && r.next() > 0.05) return;
    }
  }

  async #logInAndOut(who: string, r: Random): Promise<void> {
    const person = r.pick(this.#people);
    const session = await this.#actions.logIn(who, person);
    if (!session) return;
    this.#remember(session);
    await this.#actions.current(who, session);
    const gone = await this.#actions.logOut(who, session);
    if (gone.outcome === "ok") {
      await this.#actions.current(who, session);
      this.#ended.push(session);
    }
    const old = choose(r, this.#ended);
    if (old) await this.#actions.current(who, old);
  }

  /** Somebody new with two sessions changes the password in one of them: the other must end. */
  async #changePassword(who: string, r: Random): Promise<void> {
    const person = await this.#actions.signUp(who, 2);
    if (!person) return;
    const [kept, other] = [await this.#actions.logIn(who, person), await this.#actions.logIn(who, person)];
    for (const session of [kept, other]) if (session) this.#remember(session);
    if (!kept || !other) return;
    person.session = kept;
    const changed = await this.#actions.update(who, person, {
      token: kept.token,
      password: `another ${this.#actions.unique("password")}`,
    });
    if (changed?.status !== 200) return;
    // The change, and another one right behind it that must not swallow its consequence.
    if (r.next() < 0.5) await this.#actions.update(who, person);
    await this.#actions.current(who, other, { token: changed.consistency!, revision: 2 });
    await this.#actions.current(who, kept);
  }

  /** Somebody comes, does something, and is erased. */
  async #comeAndGo(who: string, r: Random): Promise<void> {
    const person = await this.#actions.signUp(who, 3);
    if (!person) return;
    if (r.next() < 0.4) {
      const session = await this.#actions.logIn(who, person);
      if (session) {
        this.#remember(session);
        person.session = session;
        await this.#actions.track(who, "chaos.visit", [this.#actions.unique("e"), this.#actions.unique("e")], {
          id: person.id,
          session,
        });
      }
    }
    for (let i = r.int(0, 2); i > 0; i--) await this.#actions.update(who, person);
    this.#adopt(person);
  }

  readonly #doomed: Person[] = [];
  /** Who is here to be erased. */
  #adopt(person: Person | undefined): void {
    if (person) this.#doomed.push(person);
  }

  async #eraseOne(who: string): Promise<void> {
    const person = this.#doomed.shift();
    if (!person) return;
    // A change just before: a state that is still on its way when the tombstone comes.
    await this.#actions.update(who, person);
    const answer = await this.#actions.erase(who, person);
    if (answer.status !== 202) {
      if (answer.outcome === "unknown") this.#doomed.push(person);
      return;
    }
    const ghost = { person, ...(person.session ? { session: person.session } : {}), complete: false };
    this.#ghosts.push(ghost);
    if (this.#ghosts.length > GHOSTS) this.#ghosts.shift();
    this.#open.push({ user: person.id, id: answer.body.erasureId, ghost });
  }

  async #askReceipts(who: string): Promise<void> {
    const open = this.#open[0];
    if (!open) return;
    await this.askReceipt(who, open);
  }

  /** Asks how an erasure stands; forgets it once it is complete, else puts it behind the others. */
  async askReceipt(who: string, open: { user: string; id: string }): Promise<void> {
    const answer = await this.#actions.receipt(who, open);
    const at = this.#open.findIndex((o) => o.id === open.id);
    const [entry] = this.#open.splice(at, 1);
    if (answer.status === 200 && answer.body.state === "complete") entry!.ghost.complete = true;
    else this.#open.push(entry!);
  }

  /** Looks everywhere for people who are erased; those whose receipt has just come first. */
  async #huntGhosts(who: string, r: Random): Promise<void> {
    const ghost = r.next() < 0.5 ? this.#ghosts.at(-1 - Math.floor(r.next() * 4)) : choose(r, this.#ghosts);
    if (!ghost) return;
    const which = r.next();
    if (which < 0.5) await this.#actions.search(who, ghost.person);
    else if (which < 0.7 && ghost.session) await this.#actions.current(who, ghost.session);
    else if (which < 0.85) await this.#actions.people(who, ghost.person);
    else await this.#actions.read(who, ghost.person);
  }

  async #logInSpare(who: string, r: Random): Promise<void> {
    if (this.#spare.length >= SPARE_SESSIONS) return;
    const session = await this.#actions.logIn(who, r.pick(this.#people));
    if (!session) return;
    this.#remember(session);
    this.#spare.push(session);
  }

  async #logOutSpare(who: string): Promise<void> {
    const session = this.#spare.pop();
    if (!session) return;
    const answer = await this.#actions.logOut(who, session);
    if (answer.outcome === "unknown") this.#spare.push(session);
  }
}
