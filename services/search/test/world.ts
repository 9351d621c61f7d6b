import { type EventData, emit, encodeToken, type Outgoing, uuidv7 } from "@quartet/contracts";
import { createTestEngine, type TestEngine } from "@quartet/engines";
import { makeStreams } from "@quartet/projection/testing";
import { connect, type NatsConnection } from "nats";
import { connectElasticsearch } from "../src/store/client.ts";
import { eventually, type ServiceProcess, startService } from "./process.ts";

const main = new URL("../src/main.ts", import.meta.url);

/** A person as User would know it; publishing always sends the newest state. */
export interface Person extends EventData<"quartet.user.state.v1"> {
  version: number;
  erased: boolean;
}

let made = 0;

export function person(fields: Partial<Person> = {}): Person {
  made++;
  const at = new Date().toISOString();
  return {
    id: uuidv7(),
    handle: `p${made}_${Math.random().toString(36).slice(2, 8)}`,
    displayName: "Somebody",
    bio: "",
    country: null,
    tags: [],
    revision: 1,
    createdAt: at,
    updatedAt: at,
    credentialEpoch: 0,
    keptSessionId: null,
    version: 1,
    erased: false,
    ...fields,
  };
}

export function change(p: Person, fields: Partial<Person>): Person {
  return Object.assign(p, fields, { version: p.version + 1, revision: p.revision + 1 });
}

export function stateOf({ erased, version, ...data }: Person): Outgoing {
  const time = new Date();
  return erased ? emit.userTombstone(data.id, version, { time }) : emit.userState({ ...data }, version, { time });
}

/** Headers of a request that waits until it sees these people. */
export function after(...people: Person[]): Record<string, string> {
  return {
    "consistency-token": encodeToken({ u: people.map((p): [string, number] => [p.id, p.version]) }),
    prefer: "wait=10",
  };
}

/** Waits until a search shows these people as they are now. A busy machine may answer 503 at first: like any client, it asks again. */
export async function seen(service: ServiceProcess, ...people: Person[]): Promise<void> {
  for (let i = 0; i < people.length; i += 50) {
    await eventually(async () => {
      const answer = await service.get("/v1/search?limit=1", after(...people.slice(i, i + 50)));
      return answer.headers.get("preference-applied") === "wait";
    });
  }
}

/** A private Elasticsearch and NATS. */
export async function createWorld() {
  const [elasticsearch, nats]: TestEngine[] = await Promise.all([
    createTestEngine("elasticsearch"),
    createTestEngine("nats"),
  ]);
  const admin = connectElasticsearch(elasticsearch!.url, 30_000);
  const { hostname, port, username, password } = new URL(nats!.url);
  const nc: NatsConnection = await connect({
    servers: `${hostname}:${port}`,
    user: username,
    pass: password,
    maxReconnectAttempts: -1,
    reconnectTimeWait: 100,
  });
  const jsm = await nc.jetstreamManager();
  await makeStreams(nc);
  const js = nc.jetstream();
  const services: ServiceProcess[] = [];
  const send = ({ subject, event }: Outgoing) => js.publish(subject, JSON.stringify(event));
  return {
    elasticsearch: elasticsearch!,
    nats: nats!,
    admin,
    jsm,
    async publish(...people: Person[]) {
      for (let i = 0; i < people.length; i += 500) {
        await Promise.all(people.slice(i, i + 500).map((p) => send(stateOf(p))));
      }
    },
    /** A heartbeat, as User writes one every half second. Returns its time. */
    async beat(): Promise<Date> {
      const at = new Date();
      await send(emit.heartbeat("USERS", "user", at));
      return at;
    },
    raw: (subject: string, body: string) => js.publish(subject, body),
    async start(env: Record<string, string> = {}): Promise<ServiceProcess> {
      const service = await startService("search", main, {
        ELASTICSEARCH_URL: elasticsearch!.urlFor("search"),
        NATS_URL: nats!.urlFor("search"),
        INDEX_PREFIX: "t",
        ...env,
      });
      services.push(service);
      await eventually(() => service.ready(), { what: "a ready service" });
      return service;
    },
    async dispose() {
      await Promise.all(services.map((s) => s.kill()));
      await nc.close().catch(() => {});
      await admin.close();
      await Promise.all([nats!.dispose(), elasticsearch!.dispose()]);
    },
  };
}
/** One Elasticsearch takes twenty seconds to start: the suites of service.test.ts share it. */
export interface Shared {
  world: World;
  service: ServiceProcess;
}

export type World = Awaited<ReturnType<typeof createWorld>>;
