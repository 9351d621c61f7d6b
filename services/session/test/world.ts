import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import {
  decodeEvent,
  type EventData,
  emit,
  type FactEvent,
  type Outgoing,
  type QuartetEvent,
  uuidv7,
} from "@quartet/contracts";
import { createTestEngine, type TestEngine } from "@quartet/engines";
import { makeStreams } from "@quartet/projection/testing";
import { eventually, type ServiceProcess, startService } from "@quartet/service/testing";
import { Redis } from "ioredis";
import { connect, type NatsConnection } from "nats";

const main = new URL("../src/main.ts", import.meta.url);
export const PASSWORD = "correct horse battery";

/** A person as User would keep it: its newest version is what the little User of these tests answers with. */
export interface Person {
  id: string;
  handle: string;
  displayName: string;
  version: number;
  credentialEpoch: number;
  keptSessionId: string | null;
  erased: boolean;
}

export function newPerson(handle = `p${uuidv7().replaceAll("-", "").slice(-20)}`): Person {
  return {
    id: uuidv7(),
    handle,
    displayName: `The ${handle}`,
    version: 1,
    credentialEpoch: 0,
    keptSessionId: null,
    erased: false,
  };
}

/** The newest state of a person, or the tombstone, as User publishes it. */
export function stateOf(p: Person): Outgoing {
  const time = new Date();
  if (p.erased) return emit.userTombstone(p.id, p.version, { time });
  const { id, handle, displayName, credentialEpoch, keptSessionId, version } = p;
  const at = time.toISOString();
  const data: EventData<"quartet.user.state.v1"> = {
    id,
    handle,
    displayName,
    bio: "",
    country: null,
    tags: [],
    revision: version,
    createdAt: at,
    updatedAt: at,
    credentialEpoch,
    keptSessionId,
  };
  return emit.userState(data, version, { time });
}

/** User's one call that Session makes, over real HTTP. `before` runs before an answer is sent, after it was made; if it throws there is none. */
export interface LittleUser {
  readonly url: string;
  readonly people: Map<string, Person>;
  verifications: number;
  before: (() => Promise<void>) | undefined;
  close(): Promise<void>;
}

async function createLittleUser(): Promise<LittleUser> {
  const people = new Map<string, Person>();
  const server = createServer(async (req, res) => {
    let text = "";
    for await (const chunk of req) text += chunk;
    const answer = (status: number, body: unknown) =>
      res.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
    if (req.url !== "/internal/credentials/verify") return answer(404, {});
    little.verifications++;
    const { login, password } = JSON.parse(text) as { login: string; password: string };
    const p = people.get(login);
    const right = p && !p.erased && password === PASSWORD;
    const made = right
      ? {
          userId: p.id,
          handle: p.handle,
          displayName: p.displayName,
          credentialEpoch: p.credentialEpoch,
          keptSessionId: p.keptSessionId,
          version: p.version,
          revision: p.version,
        }
      : {};
    try {
      await little.before?.();
    } catch {
      req.socket.destroy();
      return;
    }
    answer(right ? 200 : 401, made);
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const little: LittleUser = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    people,
    verifications: 0,
    before: undefined,
    close: () =>
      new Promise((done) => {
        server.close(() => done());
        server.closeAllConnections();
      }),
  };
  return little;
}

export interface World {
  readonly redis: TestEngine;
  readonly nats: TestEngine;
  readonly user: LittleUser;
  /** The administrator's view of the store. */
  readonly store: Redis;
  nc(): Promise<NatsConnection>;
  makeStreams(): Promise<void>;
  publish(out: Outgoing[]): Promise<void>;
  /** Everything but heartbeats that FACTS holds, in order. */
  facts(): Promise<FactEvent[]>;
  start(env?: Record<string, string>): Promise<ServiceProcess>;
  dispose(): Promise<void>;
}

/** A private NATS and Redis, and a little User. */
export async function createWorld(): Promise<World> {
  const [nats, redis, user] = await Promise.all([
    createTestEngine("nats"),
    createTestEngine("redis"),
    createLittleUser(),
  ]);
  const store = new Redis(redis.url, { maxRetriesPerRequest: null, retryStrategy: () => 100 });
  store.on("error", () => {});
  let connection: NatsConnection | undefined;
  const services: ServiceProcess[] = [];
  const nc = async (): Promise<NatsConnection> => {
    if (!connection || connection.isClosed()) {
      const { hostname, port, username, password } = new URL(nats.url);
      connection = await connect({
        servers: `${hostname}:${port}`,
        user: username,
        pass: password,
        maxReconnectAttempts: -1,
        reconnectTimeWait: 100,
      });
    }
    return connection;
  };
  return {
    redis,
    nats,
    user,
    store,
    nc,
    makeStreams: async () => makeStreams(await nc()),
    async publish(out) {
      const js = (await nc()).jetstream();
      for (const { subject, msgId, event } of out) {
        await js.publish(subject, JSON.stringify(event), msgId ? { msgID: msgId } : {});
      }
    },
    async facts() {
      const jsm = await (await nc()).jetstreamManager();
      const { state } = await jsm.streams.info("FACTS");
      const found: QuartetEvent[] = [];
      for (let seq = state.first_seq; seq > 0 && seq <= state.last_seq; seq++) {
        const m = await jsm.streams.getMessage("FACTS", { seq }).catch(() => undefined);
        if (m && !m.subject.startsWith("heartbeat.")) found.push(decodeEvent(m.data));
      }
      return found as FactEvent[];
    },
    async start(env = {}) {
      const service = await startService("session", main, {
        REDIS_URL: redis.urlFor("session"),
        NATS_URL: nats.urlFor("session"),
        USER_URL: user.url,
        ...env,
      });
      services.push(service);
      return service;
    },
    async dispose() {
      await Promise.all(services.map((s) => s.kill()));
      store.disconnect();
      await connection?.close().catch(() => {});
      await Promise.all([nats.dispose(), redis.dispose(), user.close()]);
    },
  };
}

/** The identity the gateway would sign for a token. */
export async function identityOfToken(service: ServiceProcess, token: string) {
  const answer = await introspect(service, token);
  if (answer.status !== 200) throw new Error(`introspection answered ${answer.status}`);
  return { kind: "user" as const, userId: answer.body.userId as string, sessionId: answer.body.sessionId as string };
}

export const asUserService = { kind: "service", name: "user" } as const;
export const asService = { kind: "service", name: "gateway" } as const;

export function introspect(service: ServiceProcess, token: string) {
  return service.call("POST", "/internal/introspect", { as: asService, body: { token } });
}

export async function logIn(service: ServiceProcess, p: Person, device?: string) {
  const answer = await service.call("POST", "/v1/sessions", {
    body: { login: p.handle, password: PASSWORD, ...(device ? { device } : {}) },
  });
  if (answer.status !== 201) throw new Error(`log-in answered ${answer.status}: ${JSON.stringify(answer.body)}`);
  return answer.body as { token: string; session: { id: string; userId: string; expiresAt: string } };
}

/** Waits until Session holds this version of a person. */
export async function holds(world: World, p: Person): Promise<void> {
  await eventually(async () => Number(await world.store.hget(`profile:${p.id}`, "version")) >= p.version, {
    what: `version ${p.version}`,
  });
}
