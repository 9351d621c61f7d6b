/**
 * The services' own clients, each at the server of its *_URL: prints one JSON line of what each found. Run by tls.test.ts with the environment of a pod, because a
 * process learns of an authority (NODE_EXTRA_CA_CERTS) when it starts.
 */
import { ReplicationConnection } from "../../packages/outbox/src/postgres/replication.ts";
import { openConnection } from "../../packages/projection/src/connection.ts";
import { connectRedis } from "../../services/session/src/store/redis.ts";
import { Database } from "../../services/user/src/store/database.ts";

const { POSTGRES_URL = "", REDIS_URL = "", NATS_URL = "" } = process.env;
const attempts: Record<string, () => Promise<unknown>> = {
  async postgres() {
    const logger = { debug() {}, info() {}, warn() {}, error() {} } as never;
    const database = new Database({ url: POSTGRES_URL, logger, timeoutMs: 5_000 });
    try {
      database.opened();
      const sql = "SELECT version, current_user AS name FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl";
      return await database.run(async (client) => (await client.query(sql)).rows[0]);
    } finally {
      await database.pool.end();
    }
  },
  async replication() {
    const handler = { data() {}, keepalive() {}, failed() {} };
    const options = { connectionString: POSTGRES_URL, slot: "none", publication: "none", walSenderTimeoutMs: 10_000 };
    // There is no such slot, which a server says to those it knows.
    const error = await ReplicationConnection.start(options, handler).catch((e) => e);
    return error.code === "42704" ? "asked" : Promise.reject(error);
  },
  async redis() {
    let last: Error | undefined;
    const store = connectRedis(REDIS_URL, 5_000, (error) => {
      last = error;
    });
    try {
      await new Promise<void>((done, failed) => {
        store.redis.once("ready", done);
        store.redis.once("reconnecting", () => failed(last));
      });
      return await store.redis.call("ACL", "WHOAMI").catch((e: Error) => e.message);
    } finally {
      store.close();
    }
  },
  async nats() {
    const connection = await openConnection({ url: NATS_URL, options: { reconnect: false } });
    try {
      return connection.info?.tls_required;
    } finally {
      await connection.close();
    }
  },
};

const found: Record<string, unknown> = {};
for (const [name, attempt] of Object.entries(attempts)) {
  found[name] = await attempt().catch((error) => {
    const { message, cause } = error as Error;
    return { refused: [message, (cause as Error | undefined)?.message].filter(Boolean).join(": ") };
  });
}
console.log(JSON.stringify(found));
