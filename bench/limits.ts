import type { EventOf, FactEvent, Outgoing } from "@quartet/contracts";
import { Redis } from "ioredis";
import { toFact } from "../services/analytics/src/events/projector.ts";
import type { ClickHouse } from "../services/analytics/src/store/client.ts";
import { insertFacts } from "../services/analytics/src/store/facts.ts";
import { toDocument } from "../services/search/src/store/users.ts";

/**
 * The bulk limit of each store: the very documents and rows that the projectors write, put into words beforehand, nothing read, checked or ordered,
 * two requests in flight (more gain nothing on two cores).
 */
const IN_FLIGHT = 2;

/** A store under `http://user:password@host:port`. */
export class Http {
  readonly #base: string;
  readonly #authorization: string;

  constructor(url: string) {
    const { origin, username, password } = new URL(url);
    this.#base = origin;
    const secret = Buffer.from(`${decodeURIComponent(username)}:${decodeURIComponent(password)}`).toString("base64");
    this.#authorization = `Basic ${secret}`;
  }

  /** Throws on anything but 2xx. Returns the body. */
  async send(method: string, path: string, body?: string, type = "application/json"): Promise<string> {
    const response = await fetch(this.#base + path, {
      method,
      headers: { Authorization: this.#authorization, ...(body === undefined ? {} : { "Content-Type": type }) },
      ...(body === undefined ? {} : { body }),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path.split("?")[0]}: ${response.status} ${text.slice(0, 300)}`);
    return text;
  }
}

/** Sends all the bodies. Returns things per second. */
async function timed(bodies: readonly unknown[], things: number, send: (i: number) => Promise<void>): Promise<number> {
  const started = performance.now();
  let next = 0;
  const sender = async () => {
    while (next < bodies.length) await send(next++);
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, sender));
  return things / ((performance.now() - started) / 1000);
}

function chunks<T>(items: T[], size: number): T[][] {
  return Array.from({ length: Math.ceil(items.length / size) }, (_, i) => items.slice(i * size, (i + 1) * size));
}

type State = EventOf<"quartet.user.state.v1">;

/** `POST /<index>/_bulk` bodies of 2,000 documents, as many as the projector's largest batch. */
export function bulkBodies(states: Outgoing[]): string[] {
  return chunks(states, 2_000).map((chunk) =>
    chunk
      .map(({ event }) => {
        const { id } = (event as State).data;
        return `${JSON.stringify({ index: { _id: id } })}\n${JSON.stringify(toDocument(event as State))}\n`;
      })
      .join(""),
  );
}

/** Returns documents per second. */
export function bulkElasticsearch(http: Http, index: string, bodies: string[], documents: number): Promise<number> {
  return timed(bodies, documents, async (i) => {
    const answer = await http.send("POST", `/${index}/_bulk?filter_path=errors`, bodies[i]!, "application/x-ndjson");
    if (!answer.includes('"errors":false')) throw new Error(`bulk: ${answer.slice(0, 300)}`);
  });
}

/** Hashes with the fields of a profile copy and their audit bucket, pipelined, 500 people at a time. Returns people per second. */
export async function pipelineRedis(url: string, states: Outgoing[]): Promise<number> {
  const redis = new Redis(url);
  redis.on("error", () => {});
  try {
    await redis.ping();
    const pipelines = chunks(states, 500).map((chunk) => {
      const pipeline = redis.pipeline();
      for (const { event } of chunk) {
        const { id, handle, displayName, revision, credentialEpoch: epoch } = (event as State).data;
        const version = event.version!;
        pipeline.hset(`raw-profile:${id}`, { version, revision, handle, displayName, epoch });
        pipeline.sadd(`raw-profiles:${id.slice(-2)}`, id);
      }
      return pipeline;
    });
    return await timed(pipelines, states.length, async (i) => {
      for (const [error] of (await pipelines[i]!.exec()) ?? []) if (error) throw error;
    });
  } finally {
    redis.disconnect();
  }
}

/** `INSERT ... FORMAT JSONCompactEachRow` bodies of 10,000 rows, as many as the projector's largest batch; the rows are Analytics' own. */
export async function rowBodies(facts: Outgoing[]): Promise<string[]> {
  const rows: unknown[][] = [];
  const catcher = {
    insert: async (_table: string, _columns: readonly string[], some: unknown[][]) => void rows.push(...some),
  } as unknown as ClickHouse;
  const accepted = new Date();
  for (const chunk of chunks(facts, 10_000)) {
    await insertFacts(
      catcher,
      chunk.map(({ event }, i) => toFact(event as FactEvent, { time: accepted, seq: i + 1 })),
    );
  }
  return chunks(rows, 10_000).map((chunk) => chunk.map((row) => JSON.stringify(row)).join("\n"));
}

/** Returns rows per second. */
export function bulkClickHouse(http: Http, table: string, bodies: string[], rows: number): Promise<number> {
  const query = encodeURIComponent(`INSERT INTO ${table} FORMAT JSONCompactEachRow`);
  return timed(bodies, rows, async (i) => {
    await http.send("POST", `/?query=${query}&async_insert=0&max_insert_threads=1`, bodies[i]!, "text/plain");
  });
}
