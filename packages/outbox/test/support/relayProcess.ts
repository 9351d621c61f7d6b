/** A PostgreSQL or Redis relay as a process of its own, so that it can be killed and frozen. Options come as JSON in RELAY_OPTIONS. */
import { createPostgresRelay, createRedisRelay } from "../../src/index.ts";

const { kind, heartbeatSubject, ...options } = JSON.parse(process.env.RELAY_OPTIONS!);
const say = (level: string) => (context: { err?: Error }, message: string) =>
  console.error(level, message, context.err?.name ?? "", JSON.stringify(context));
const logger = { debug() {}, info: say("info"), warn: say("warn"), error: say("error") };
if (heartbeatSubject) {
  options.heartbeat = {
    everyMs: 200,
    build: (at: string) =>
      heartbeatSubject.map(([stream, subject]: [string, string]) => ({
        id: `beat-${at}`,
        stream,
        subject,
        key: "-",
        payload: JSON.stringify({ value: `beat:${at}` }),
      })),
  };
}
const relay = kind === "redis" ? createRedisRelay({ ...options, logger }) : createPostgresRelay({ ...options, logger });

const stop = new AbortController();
process.on("SIGTERM", () => stop.abort());
process.on("message", () => process.send!(relay.status()));
process.on("disconnect", () => process.exit(1));
await relay.run(stop.signal);
process.exit(0);
