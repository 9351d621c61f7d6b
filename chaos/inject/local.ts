import { cpSync, existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { freeze, kill, revive, stateOf } from "@quartet/cli/control";
import { readRunFile } from "@quartet/cli/home";
import { loadCredentials } from "@quartet/engines";
import { connect } from "nats";
import pg from "pg";
import { STORES, type Store } from "../availability.ts";
import { APIS, type Capability, type Injector, type Part, REPLICAS, WORKERS } from "./injector.ts";
import type { Wire } from "./wire.ts";

export interface LocalOptions {
  home: string;
  /** What stands between the services and the stores; absent for a system that somebody else started. */
  wires?: Record<Store, Wire>;
  /** Stops and starts the whole system; absent for one that somebody else started. */
  restart?: () => Promise<void>;
}

/** Breaks a system of local processes, by the PID files of its home and by the wires to its stores. */
export class LocalInjector implements Injector {
  readonly kind = "local";
  readonly #home: string;
  readonly #wires: LocalOptions["wires"];
  readonly #restart: LocalOptions["restart"];

  constructor(options: LocalOptions) {
    this.#home = options.home;
    this.#wires = options.wires;
    this.#restart = options.restart;
  }

  async cannot(what: Capability, part?: Part): Promise<string | undefined> {
    if ((what === "cut" || what === "slow") && !this.#wires) return "nothing stands between its services and stores";
    if (what === "restart-all" && !this.#restart) return "somebody else started it";
    if (part && !readRunFile(this.#home)?.services[part] && !STORES.includes(part as Store)) {
      return `${part} is no process of its own here (QUARTET_ROLES=split makes it one)`;
    }
    return undefined;
  }

  kill(part: Part, options: { hold?: boolean } = {}): Promise<void> {
    return kill(this.#home, part, options);
  }

  async freeze(part: Part): Promise<void> {
    freeze(this.#home, part);
  }

  async revive(part: Part): Promise<void> {
    revive(this.#home, part);
  }

  async cut(store: Store): Promise<void> {
    this.#wires?.[store].cut();
  }

  async slow(store: Store, ms: number): Promise<void> {
    this.#wires?.[store].slow(ms);
  }

  async mend(store: Store): Promise<void> {
    this.#wires?.[store].mend();
  }

  get #natsData(): string {
    return join(this.#home, "data", "nats", "jetstream");
  }

  async copyNats(): Promise<void> {
    const copy = `${this.#natsData}.copy`;
    rmSync(copy, { recursive: true, force: true });
    // Frozen, so that the copy is of one moment.
    freeze(this.#home, "nats");
    try {
      cpSync(this.#natsData, copy, { recursive: true });
    } finally {
      revive(this.#home, "nats");
    }
  }

  async rewindNats(): Promise<void> {
    if (stateOf(this.#home, "nats") !== "held") throw new Error("NATS must be held down while its data is put back");
    const copy = `${this.#natsData}.copy`;
    if (!existsSync(copy)) throw new Error("there is no copy of NATS's data");
    rmSync(this.#natsData, { recursive: true, force: true });
    cpSync(copy, this.#natsData, { recursive: true });
    rmSync(copy, { recursive: true, force: true });
  }

  async restartAll(): Promise<void> {
    await this.#restart?.();
  }

  async dropSlot(): Promise<void> {
    const { port } = readRunFile(this.#home)!.engines.postgres!;
    const password = loadCredentials(this.#home).postgres.postgres;
    const client = new pg.Client({ host: "127.0.0.1", port, user: "postgres", password, database: "quartet" });
    await client.connect();
    try {
      for (let attempt = 0; ; attempt++) {
        await client.query(
          "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active_pid IS NOT NULL",
        );
        try {
          await client.query("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots");
          return;
        } catch (error) {
          // The relay came back in between.
          if (attempt >= 50) throw error;
          await sleep(20);
        }
      }
    } finally {
      await client.end();
    }
  }

  async deleteConsumer(stream: string, durable: string): Promise<void> {
    const { port } = readRunFile(this.#home)!.engines.nats!;
    const nc = await connect({
      servers: `127.0.0.1:${port}`,
      user: "admin",
      pass: loadCredentials(this.#home).nats.admin,
    });
    try {
      await (await nc.jetstreamManager()).consumers.delete(stream, durable);
    } finally {
      await nc.close();
    }
  }

  async mendAll(): Promise<void> {
    for (const store of STORES) this.#wires?.[store].mend();
    for (const part of [...STORES, ...WORKERS, ...REPLICAS, ...APIS]) revive(this.#home, part);
  }
}
