import { readFileSync } from "node:fs";
import { join } from "node:path";
import { connect, type NatsConnection } from "nats";
import { home, runFile } from "./system.ts";

/** A connection with every right: what an operator with the admin password could do. */
export function connectAsAdmin(): Promise<NatsConnection> {
  const { nats } = JSON.parse(readFileSync(join(home as string, "credentials.json"), "utf8"));
  return connect({ servers: `127.0.0.1:${runFile().engines.nats.port}`, user: "admin", pass: nats.admin });
}
