import { createHash } from "node:crypto";
import {
  type ConsistencyToken,
  decodeToken,
  encodeToken,
  type ImportBody,
  type ImportedBody,
  type ImportedEvent,
  importBody,
  mergeTokens,
  type TrackedEvent,
} from "@quartet/contracts";
import { badRequest, expectStatus, type FieldError, HttpProblem, type PeerAnswer, parseBody } from "@quartet/service";
import type { Express, Request, Response } from "express";
import { requireOperator } from "./authenticate.ts";
import type { Callee } from "./callee.ts";
import type { GatewayContext } from "./peers.ts";

/** A bulk load may take longer than a click. A store that is down is still told within two seconds, by its service. */
const usersTimeoutMs = 10_000;
const eventsTimeoutMs = 5000;
const chunkEvents = 1000;
/** Below the 1 MiB that /v1/track takes. */
const chunkBytes = 900 * 1024;

/**
 * `POST /v1/admin/import`: the people go to User, then the events to Analytics as the operator's. Both are idempotent (a person by key, an event by
 * id, and without one by what it says), so after an error the same body is sent again. An event may name its person by `userKey` instead of `userId`.
 */
export function addImport(app: Express, { peers, authenticate, tokens }: GatewayContext): void {
  app.post("/v1/admin/import", async (req: Request, res: Response) => {
    await requireOperator(authenticate, req);
    const body = parseBody(importBody, req);
    const parts: ConsistencyToken[] = [];
    const ids = await idsOfEarlier(peers.user, body, req);

    let users: ImportedBody["users"] = [];
    if (body.users.length > 0) {
      const answer = await peers.user.request("POST", "/internal/import", {
        body: { users: body.users },
        for: req,
        timeoutMs: usersTimeoutMs,
        idempotent: true,
      });
      const imported = accepted(peers.user, answer, 200) as {
        users: ImportedBody["users"];
        token?: ConsistencyToken | string;
      };
      users = imported.users;
      if (imported.token) parts.push(typeof imported.token === "string" ? decodeToken(imported.token) : imported.token);
      for (const user of users) ids.set(user.key, user.id);
    }

    let count = 0;
    for (const chunk of chunks(withIds(body.events.map((event, i) => withUserId(event, i, ids))))) {
      const answer = await peers.analytics.request("POST", "/v1/track", {
        body: { events: chunk.events },
        identity: { kind: "operator" },
        for: req,
        timeoutMs: eventsTimeoutMs,
      });
      count += (accepted(peers.analytics, answer, 202, chunk.from) as { accepted: number }).accepted;
      const token = answer.headers["consistency-token"];
      if (typeof token === "string") parts.push(decodeToken(token));
    }
    res.setHeader("Consistency-Token", tokens.seal(encodeToken(mergeTokens(...parts))));
    res.setHeader("Cache-Control", "no-store");
    res.json({ users, accepted: count } satisfies ImportedBody);
  });
}

/** The ids of the people whom events name by key and who are not in this body: of an earlier import. 400 for one that was never imported, before anything is written. */
async function idsOfEarlier(user: Callee, body: ImportBody, req: Request): Promise<Map<string, string>> {
  const here = new Set(body.users.map((u) => u.key));
  const keys = [
    ...new Set(body.events.flatMap((e) => (e.userKey !== undefined && !here.has(e.userKey) ? e.userKey : []))),
  ];
  const ids = new Map<string, string>();
  if (keys.length > 0) {
    const answer = await user.request("POST", "/internal/import/keys", { body: { keys }, for: req, idempotent: true });
    // a User of an older release has no such call, and so knows no earlier keys
    const known = expectStatus(user, answer, 200, 404).status === 200;
    for (const [key, id] of known ? (answer.body as { ids: [key: string, id: string][] }).ids : []) ids.set(key, id);
  }
  const errors = body.events.flatMap((event, i): FieldError[] =>
    event.userKey !== undefined && !here.has(event.userKey) && !ids.has(event.userKey)
      ? [{ path: `events.${i}.userKey`, message: "is no key of `users` or of an earlier import" }]
      : [],
  );
  if (errors.length > 0)
    throw badRequest([...errors.slice(0, 49), { path: "users", message: "lacks a key that an event names" }]);
  return ids;
}

function withUserId({ userKey, ...event }: ImportedEvent, index: number, ids: Map<string, string>): TrackedEvent {
  if (userKey === undefined) return event;
  const userId = ids.get(userKey);
  if (!userId)
    throw badRequest({ path: `events.${index}.userKey`, message: "names nobody of this or an earlier import" });
  return { ...event, userId };
}

/** An event without an id gets one from what it says, the second of two equal ones in a body another than the first: the same body again is the same events. */
function withIds(events: TrackedEvent[]): TrackedEvent[] {
  const seen = new Map<string, number>();
  return events.map((event) => {
    if (event.id !== undefined) return event;
    const { name, occurredAt = null, userId = null, properties = {} } = event;
    const says = JSON.stringify([
      name,
      occurredAt,
      userId,
      Object.entries(properties).sort(([a], [b]) => (a < b ? -1 : 1)),
    ]);
    const nth = seen.get(says) ?? 0;
    seen.set(says, nth + 1);
    const id = createHash("sha256").update(says).update(`\0${nth}`).digest("base64url");
    return { ...event, id: `import:${id}` };
  });
}

/** Events in the order given, in pieces that `/v1/track` takes: at most 1000, at most 900 KiB. */
function* chunks(events: TrackedEvent[]): Generator<{ from: number; events: TrackedEvent[] }> {
  let from = 0;
  let bytes = 0;
  for (let i = 0; i < events.length; i++) {
    const size = Buffer.byteLength(JSON.stringify(events[i])) + 1;
    if (i > from && (i - from === chunkEvents || bytes + size > chunkBytes)) {
      yield { from, events: events.slice(from, i) };
      from = i;
      bytes = 0;
    }
    bytes += size;
  }
  if (from < events.length) yield { from, events: events.slice(from) };
}

/** The body of a good answer. A 4xx of the service is about this very body: it passes on, with the events' positions in it. */
function accepted(peer: Callee, answer: PeerAnswer, wanted: number, firstEvent = 0): unknown {
  if (
    answer.status >= 400 &&
    answer.status < 500 &&
    answer.status !== 401 &&
    answer.status !== 403 &&
    answer.status !== 429
  ) {
    const { detail, errors } = answer.body as { detail?: string; errors?: FieldError[] };
    const moved = errors?.map((e) => ({
      ...e,
      path: e.path.replace(/^events\.(\d+)/, (_, n) => `events.${Number(n) + firstEvent}`),
    }));
    throw new HttpProblem(answer.status, { detail, ...(moved ? { errors: moved } : {}) });
  }
  return expectStatus(peer, answer, wanted).body;
}
