import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { auditBucket, BucketDigest, ERASED_PAGE, type ErasedPerson } from "@quartet/contracts";
import { keyringOf } from "@quartet/service/testing";

export type ParticipantName = "session" | "search" | "analytics";

/** A read model as User sees it over HTTP: it confirms erasures and tells digests, as a test wants it. */
export class Participant {
  readonly name: ParticipantName;
  /** What it answers to an erasure: a state, or an HTTP status other than 200. */
  erasure: (asked: { userId: string; version: number }) => "pending" | "complete" | number = () => "complete";
  /** Every erasure it was asked for. */
  readonly asked: { userId: string; version: number }[] = [];
  /** What it holds, by user. */
  readonly held = new Map<string, { version: number; digest: string }>();
  /** Up to where it says that it has sealed FACTS, of the stream as it is (or was, if that is named). */
  sealed: () => { stream: string; upto: number } | number = () => 503;
  /** How often its digests were asked for. */
  digestsAsked = 0;
  /** Of Analytics: whom it remembers as erased, and since when. */
  readonly registry = new Map<string, ErasedPerson & { at: number }>();
  registryId = "first";
  /** What it was asked of the registry. */
  readonly registryAsked: string[] = [];
  /** By when its last backup is gone. */
  goneBy: string | null = null;
  /** As of when it says that it is true. */
  asOf: () => string | null = () => new Date().toISOString();
  /** Its store is away: it cannot be compared. */
  away = false;
  readonly #server: Server;

  constructor(name: ParticipantName) {
    this.name = name;
    this.#server = createServer((req, res) => void this.#answer(req, res).catch(() => res.destroy()));
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async start(): Promise<void> {
    await new Promise<void>((done) => this.#server.listen(0, "127.0.0.1", done));
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((done) => this.#server.close(done));
  }

  async #answer(req: IncomingMessage, res: ServerResponse): Promise<void> {
    const send = (status: number, body: unknown): void => {
      res.writeHead(status, { "content-type": "application/json" });
      res.end(JSON.stringify(body));
    };
    let text = "";
    for await (const chunk of req) text += chunk;
    const token = String(req.headers["quartet-identity"]);
    const caller = keyringOf(this.name).verify(token);
    if (caller?.kind !== "service" || caller.name !== "user") return send(401, {});
    const bucket = /^\/internal\/digests\/(\d+)$/.exec(req.url ?? "")?.[1];
    if (req.url === "/internal/erasures") {
      const asked = JSON.parse(text);
      this.asked.push(asked);
      const state = this.erasure(asked);
      return typeof state === "number" ? send(state, {}) : send(200, { state, goneBy: this.goneBy });
    }
    if (req.url === "/internal/sealed") {
      const sealed = this.sealed();
      return typeof sealed === "number" ? send(sealed, {}) : send(200, sealed);
    }
    if (req.url?.startsWith("/internal/erased")) return void this.#registry(req.method ?? "", req.url, text, send);
    if (req.url?.split("?")[0] === "/internal/digests") {
      this.digestsAsked++;
      if (this.away) return send(503, {});
      const buckets = Array.from({ length: 256 }, () => new BucketDigest());
      for (const [id, { digest, version }] of this.held) buckets[auditBucket(id)]!.add(id, digest, version);
      return send(200, { asOf: this.asOf(), buckets: buckets.map((b) => b.value()) });
    }
    if (bucket !== undefined) {
      const users = [...this.held].filter(([id]) => auditBucket(id) === Number(bucket));
      return send(200, { users: users.map(([id, copy]) => ({ id, ...copy })) });
    }
    send(404, {});
  }

  #registry(method: string, url: string, text: string, send: (status: number, body: unknown) => void): void {
    const { pathname, searchParams } = new URL(url, this.url);
    this.registryAsked.push(`${method} ${pathname}`);
    if (this.away) {
      send(503, {});
      return;
    }
    if (method === "POST") {
      const { people } = JSON.parse(text) as { people: ErasedPerson[] };
      for (const person of people) this.registry.set(person.hash, { ...person, at: Date.now() });
    }
    const latest = Math.max(0, ...[...this.registry.values()].map(({ at }) => at));
    const state = { id: this.registryId, latest };
    if (pathname !== "/internal/erased" || method === "POST") {
      send(200, state);
      return;
    }
    const since = Date.parse(searchParams.get("since") ?? "1970-01-01T00:00:00Z");
    const after = searchParams.get("after") ?? "";
    const people = [...this.registry.values()]
      .filter(({ hash, at }) => hash > after && at >= since)
      .sort((a, b) => (a.hash < b.hash ? -1 : 1))
      .slice(0, ERASED_PAGE)
      .map(({ at: _, ...person }) => person);
    send(200, { people, state });
  }
}
