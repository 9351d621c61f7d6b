import { emit, type Outgoing } from "@quartet/contracts";
import { createTestEngine, type TestEngine } from "@quartet/engines";
import { makeStreams } from "@quartet/projection/testing";
import { eventually, type ServiceProcess, startService } from "@quartet/service/testing";
import { connect, headers, type NatsConnection } from "nats";

const main = new URL("../src/main.ts", import.meta.url);

export interface World {
  readonly clickhouse: TestEngine;
  readonly nats: TestEngine;
  /** A connection of the administrator. */
  nc(): Promise<NatsConnection>;
  makeStreams(): Promise<void>;
  /** Publishes as its source would; returns the last position. `again`: without message id, so that JetStream takes a duplicate. */
  publish(facts: Outgoing[], options?: { again?: boolean }): Promise<number>;
  /** Both sources' heartbeats. */
  heartbeat(at: Date): Promise<number>;
  start(env?: Record<string, string>): Promise<ServiceProcess>;
  dispose(): Promise<void>;
}

/** A private NATS and ClickHouse. */
export async function createWorld(): Promise<World> {
  const [nats, clickhouse] = await Promise.all([createTestEngine("nats"), createTestEngine("clickhouse")]);
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
  const world: World = {
    clickhouse,
    nats,
    nc,
    makeStreams: async () => makeStreams(await nc()),
    async publish(facts, { again = false } = {}) {
      const js = (await nc()).jetstream();
      let last = 0;
      for (let from = 0; from < facts.length; from += 2000) {
        const acks = await Promise.all(
          facts.slice(from, from + 2000).map(({ subject, msgId, event }) => {
            const h = headers();
            h.set("Content-Type", "application/cloudevents+json");
            const id = again ? null : msgId;
            return js.publish(subject, JSON.stringify(event), {
              headers: h,
              ...(id ? { msgID: id } : {}),
              timeout: 20_000,
            });
          }),
        );
        last = Math.max(last, ...acks.map((ack) => ack.seq));
      }
      return last;
    },
    async heartbeat(at) {
      return world.publish([emit.heartbeat("FACTS", "user", at), emit.heartbeat("FACTS", "session", at)]);
    },
    async start(env = {}) {
      const service = await startService("analytics", main, {
        CLICKHOUSE_URL: clickhouse.urlFor("analytics"),
        NATS_URL: nats.urlFor("analytics"),
        ...env,
      });
      services.push(service);
      return service;
    },
    async dispose() {
      await Promise.all(services.map((s) => s.kill()));
      await connection?.close().catch(() => {});
      await Promise.all([nats.dispose(), clickhouse.dispose()]);
    },
  };
  return world;
}

/** Publishes a heartbeat and waits until the service says that it is complete up to it. */
export async function settle(world: World, service: ServiceProcess, withinMs = 30_000): Promise<string> {
  const at = new Date();
  await world.heartbeat(at);
  return eventually(
    async () => {
      const { status, headers: h } = await service.call("GET", "/v1/analytics/sessions");
      const asOf = h.get("quartet-as-of");
      return status === 200 && asOf !== null && asOf >= at.toISOString() ? asOf : undefined;
    },
    { withinMs, what: "the watermark" },
  );
}
