import type { Express } from "express";
import { onlyFor } from "./identity.ts";

/** What was seen at one point of the flow within a tenth of a second. */
export interface Sighting {
  /** `publish.user`, `publish.session`, `publish.track`: JetStream has it. `apply.search`, `apply.session`, `apply.analytics`: the store has it. */
  hop: string;
  /** `state`, `user.created`, `session.started`, `track`, `heartbeat`, ... */
  kind: string;
  /** Unix milliseconds: the end of the tenth. */
  at: number;
  n: number;
  /** Of some of the events: the mark of the person (`markOf`), when exactly, and the milliseconds since the commit where that is known. */
  some?: [mark: string, at: number, ms: number | null][];
}

const BUCKET_MS = 100;
const KEPT_MS = 5000;
/** Marks kept of one kind in one tenth: enough to follow what a person does by hand, whatever load runs beside it. Tracked events come by the hundred, and have none. */
export const MARKS = 24;

/** Where the last tenth ended that is over. */
export const lastTenth = (now: number): number => Math.floor(now / BUCKET_MS) * BUCKET_MS;

/**
 * The last five seconds of what this process saw of the flow of events, counted by tenths: for whoever draws it. Not a log and not a measure
 * (metrics are): it forgets, and carries no id and no payload.
 */
export class Activity {
  readonly #sightings: Sighting[] = [];
  #open = new Map<string, Sighting>();
  #heard: Sighting[] = [];
  #bucket = 0;

  /** One event with this subject passed `hop` now; `ms` after its commit, if that is known. */
  saw(hop: string, subject: string, ms: number | null = null, now = Date.now()): void {
    this.#turn(now);
    const { kind, person } = readSubject(subject);
    const key = `${hop} ${kind}`;
    let sighting = this.#open.get(key);
    if (!sighting) {
      sighting = { hop, kind, at: (this.#bucket + 1) * BUCKET_MS, n: 0 };
      this.#open.set(key, sighting);
    }
    sighting.n++;
    if (person && kind !== "track" && (sighting.some?.length ?? 0) < MARKS) {
      sighting.some ??= [];
      sighting.some.push([markOf(person), now, ms === null ? null : Math.round(ms)]);
    }
  }

  /**
   * Takes in what another process saw. It counts as of the tenth in which it was heard of: whoever asks only for what ended since they asked last would
   * miss what is added to an earlier one. When each event was seen stays as it was.
   */
  hear(sightings: readonly Sighting[], now = Date.now()): void {
    this.#turn(now);
    const at = (this.#bucket + 1) * BUCKET_MS;
    for (const sighting of sightings) {
      // This process or the connection stood still: what is so old is no longer shown.
      if (sighting.at >= now - KEPT_MS) this.#heard.push({ ...sighting, at });
    }
  }

  /** What was seen in the tenths that ended after `after`, and are over. */
  since(after: number, now = Date.now()): Sighting[] {
    this.#turn(now);
    return this.#sightings.filter((sighting) => sighting.at > after);
  }

  #turn(now: number): void {
    const bucket = Math.floor(now / BUCKET_MS);
    if (bucket === this.#bucket) return;
    this.#sightings.push(...this.#open.values(), ...this.#heard);
    this.#open = new Map();
    this.#heard = [];
    this.#bucket = bucket;
    // What is of the future is from before the clock was set back: it would stay, and all that follows with it.
    while (this.#sightings[0] && Math.abs(this.#sightings[0].at - now) > KEPT_MS) this.#sightings.shift();
  }
}

/** What this process saw, and those it hears of it from. */
export const activity = new Activity();

/** `GET /internal/activity?after=`, for the console. */
export function addActivity(app: Express): void {
  app.get("/internal/activity", onlyFor("gateway"), (req, res) => {
    const now = Date.now();
    const until = lastTenth(now);
    res.json({ until, sightings: activity.since(Number(req.query.after) || until - 1000, now) });
  });
}

/** Eight hex digits that tell people apart on a screen and name nobody (FNV-1a of the id). */
export function markOf(userId: string): string {
  let hash = 0x811c9dc5;
  for (let i = 0; i < userId.length; i++) hash = Math.imul(hash ^ userId.charCodeAt(i), 0x01000193);
  return (hash >>> 0).toString(16).padStart(8, "0");
}

/** Kinds are few whatever is tracked: the names that callers choose are left out. */
function readSubject(subject: string): { kind: string; person?: string } {
  const [first, second = "", third = "", fourth = "-"] = subject.split(".");
  if (first === "users") return { kind: "state", person: second };
  if (first !== "facts") return { kind: first === "heartbeat" ? "heartbeat" : "other" };
  const kind = second === "track" ? "track" : `${second}.${third}`;
  return fourth === "-" ? { kind } : { kind, person: fourth };
}
