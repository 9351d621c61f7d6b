import pg from "pg";
import { everyTask, RelayState, runSessions } from "../loop.ts";
import { LossDuty } from "../loss.ts";
import type { Blocker, Relay, RelayStatus } from "../types.ts";
import { LagClock } from "./lag.ts";
import type { PostgresRelayOptions } from "./options.ts";
import { dropOldPartitions, ensurePartitions } from "./partitions.ts";
import { PostgresSession } from "./session.ts";
import { readSlot, type SlotState } from "./slot.ts";

export interface PostgresRelayStatus extends RelayStatus {
  slot: string;
  /** The server's word for what it still keeps for the slot; "lost" is an alarm. Null while unknown or without a slot. */
  walStatus: string | null;
  /** WAL between what is relayed and what is written. Null while PostgreSQL cannot be asked. */
  lagBytes: number | null;
  /** What a new slot waits for, and for how long it has been waiting; null while there is a slot. */
  slotWaitsFor: (Partial<Blocker> & { waitedSeconds: number }) | null;
}

/**
 * A relay that reads the outbox from the WAL and publishes it to JetStream. Run it in as many replicas as you like: the slot lets one of them
 * work. See README for what survives what.
 */
export function createPostgresRelay(options: PostgresRelayOptions): Relay<PostgresRelayStatus> {
  if (!/^[a-z0-9_]{1,63}$/.test(options.slot)) throw new TypeError(`slot ${options.slot}: only a-z, 0-9 and _`);
  const state = new RelayState(options);
  const lag = new LagClock();
  let session: PostgresSession | undefined;
  let slot: SlotState | undefined;

  async function watch(db: pg.Pool): Promise<void> {
    try {
      slot = await readSlot(db, options.slot);
      if (slot) lag.observe(slot.walEnd, position() ?? slot.confirmed);
    } catch (error) {
      slot = undefined;
      lag.forget();
      throw error;
    }
  }

  /** Up to where everything is acknowledged; only the replica that relays knows it to the moment. */
  function position(): bigint | undefined {
    return state.active ? session?.acknowledged : undefined;
  }

  async function maintain(db: pg.Pool): Promise<void> {
    if (!state.active) return;
    const client = await db.connect();
    try {
      await ensurePartitions(client);
      await dropOldPartitions(client, {
        slot: options.slot,
        streams: Object.keys(options.streams),
        retentionDays: options.retentionDays ?? 3,
        logger: state.logger,
      });
    } finally {
      client.release();
    }
  }

  return {
    async run(signal) {
      const db = new pg.Pool({
        connectionString: options.connectionString,
        application_name: `outbox relay ${options.slot}`,
        max: 8,
        connectionTimeoutMillis: 3_000,
        statement_timeout: 10_000,
        query_timeout: 12_000,
        keepAlive: true,
      });
      const lost = (error: Error) => state.logger.debug({ err: error }, "connection lost");
      db.on("error", lost);
      // A client that is checked out has no listener of the pool's; without one, a lost connection ends the process.
      db.on("connect", (client) => void client.on("error", lost));
      const context = { options, state, db, duty: new LossDuty(state, signal) };
      let maintainedAt = Number.NEGATIVE_INFINITY;
      const timers = [
        everyTask(state, "lag", 1_000, () => watch(db)),
        everyTask(state, "partitions", 1_000, async () => {
          if (!state.active || performance.now() - maintainedAt < (options.maintenanceMs ?? 600_000)) return;
          await maintain(db);
          maintainedAt = performance.now();
        }),
      ];
      try {
        await runSessions(state, signal, async (inner) => {
          await options.beforeSession?.();
          session = new PostgresSession(context);
          return session.run(inner);
        });
      } finally {
        for (const stop of timers) stop();
        await Promise.race([db.end(), new Promise((resolve) => setTimeout(resolve, 2_000).unref())]);
      }
    },
    status() {
      const done = position() ?? slot?.confirmed;
      const waits = state.slotWaitsFor;
      const owedSeconds = Math.max(
        0,
        ...[...state.owing.values()].map((feed) => (performance.now() - feed.began) / 1000),
      );
      const lagSeconds = lag.seconds(done);
      return {
        active: state.active,
        owed: state.owed,
        slotWaitsFor: waits
          ? { ...waits.blocker, waitedSeconds: Math.round((performance.now() - waits.since) / 1000) }
          : null,
        slot: options.slot,
        walStatus: slot?.walStatus ?? null,
        lagBytes: slot && done !== undefined ? Math.max(0, Number(slot.walEnd - done)) : null,
        lagSeconds: lagSeconds === null ? null : Math.max(lagSeconds, owedSeconds),
        unacked: state.active ? (session?.unacked ?? 0) : 0,
        published: state.published,
        duplicates: state.duplicates,
        resent: state.resent,
        restarts: state.restarts,
        lastError: state.lastError,
      };
    },
  };
}
