/**
 * The three JetStream streams. The user service owns them: it creates them and brings their settings up to date.
 * USERS holds the last state of every user (compacted), FACTS what happened (bounded by time), DEAD what could not be applied.
 */
export interface StreamDefinition {
  name: string;
  subjects: string[];
  /** 1 = compacted to the last message of a subject. -1 = all kept. */
  maxMsgsPerSubject: number;
  /** 0 = for ever. */
  maxAgeSeconds: number;
  /**
   * Its part of what JetStream may store. A stream at its limit refuses what is new (`discard: new`) and keeps what it has; the others do not notice.
   * FACTS and DEAD take little more disk than they say. The files of a compacted stream may be twice as large as what it holds. So
   * the parts count as `2 * USERS + FACTS + DEAD`, which is less than all.
   */
  share: number;
  /** A fenced stream has one publisher at a time, held to it by the expected last stream sequence. */
  fenced: boolean;
  description: string;
}

export const STREAMS = {
  USERS: {
    name: "USERS",
    subjects: ["users.*", "heartbeat.users.*"],
    maxMsgsPerSubject: 1,
    maxAgeSeconds: 0,
    share: 0.3,
    fenced: true,
    description: "The newest state, or the tombstone, of every user: the replay source of every read model",
  },
  FACTS: {
    name: "FACTS",
    subjects: ["facts.*.*.*", "heartbeat.facts.*"],
    maxMsgsPerSubject: -1,
    maxAgeSeconds: 7 * 24 * 3600,
    share: 0.35,
    fenced: false,
    description: "What happened, without profile data",
  },
  DEAD: {
    name: "DEAD",
    subjects: ["dead.*.*"],
    maxMsgsPerSubject: -1,
    maxAgeSeconds: 30 * 24 * 3600,
    share: 0.03,
    fenced: false,
    description: "Messages no projector could apply, with the reason",
  },
} as const satisfies Record<string, StreamDefinition>;

/** The limit of a stream in bytes, where JetStream may store `storeBytes`. */
export const maxBytesOf = (stream: StreamDefinition, storeBytes: number): number =>
  Math.floor(stream.share * storeBytes);

/** `7GB` as NATS understands it, in bytes: the units are powers of 1024, a bare number is bytes. Undefined if it is no size. */
export function parseStoreSize(text: string): number | undefined {
  const [, amount, unit = ""] = /^([0-9]{1,15})(KB|MB|GB|TB)?$/.exec(text) ?? [];
  if (amount === undefined) return undefined;
  return Number(amount) * 1024 ** ["", "KB", "MB", "GB", "TB"].indexOf(unit);
}

/**
 * For how long FACTS keeps a heartbeat. Two a second and source would be 0.8 GB in a week; a reader that is further behind than this has its next
 * watermark when it has come as near to the end.
 */
export const HEARTBEAT_TTL_SECONDS = 900;

/** The sources that write heartbeats, and the streams they feed. */
export const SOURCES = { user: ["USERS", "FACTS"], session: ["FACTS"] } as const;
export type Source = keyof typeof SOURCES;

/** Whose heartbeats come on a stream. */
export function sourcesOf(stream: string): Source[] {
  return (Object.keys(SOURCES) as Source[]).filter((source) => (SOURCES[source] as readonly string[]).includes(stream));
}

/** Durable consumers: one per read model. */
export const CONSUMERS = {
  search: { stream: "USERS", durable: "search" },
  session: { stream: "USERS", durable: "session" },
  analytics: { stream: "FACTS", durable: "analytics" },
} as const;

/** The durable consumer by which a read model is rebuilt beside the one that keeps it up to date. */
export const rebuildConsumer = (model: keyof typeof CONSUMERS) => `${CONSUMERS[model].durable}-rebuild` as const;

/** Subjects. Names of tracked events have dots, a subject token must not: they become hyphens, which no name contains. */
export const subjects = {
  user: (userId: string) => `users.${userId}`,
  fact: (kind: "user" | "session" | "track", name: string, userId: string | null) =>
    `facts.${kind}.${name.replaceAll(".", "-")}.${userId ?? "-"}`,
  /** Every fact that names one person. */
  factsOf: (userId: string) => `facts.*.*.${userId}`,
  heartbeat: (stream: "USERS" | "FACTS", source: Source) => `heartbeat.${stream.toLowerCase()}.${source}`,
  dead: (consumer: string, userId: string | null) => `dead.${consumer}.${userId ?? "-"}`,
  /** Every dead letter that names one person. */
  deadOf: (userId: string) => `dead.*.${userId}`,
  /** What the processes of a service tell each other of what they saw: core NATS, on no stream. */
  activity: (service: string) => `activity.${service}`,
} as const;
