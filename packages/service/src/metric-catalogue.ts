/** One metric as every process of Quartet declares it. */
export interface MetricDefinition {
  type: "counter" | "gauge" | "histogram";
  help: string;
  /** Each label with what its values are: a closed set, or as many as the code has names. Never an id, never a path. */
  labels?: Readonly<Record<string, string>>;
  /** Which services have it. */
  in: readonly ServiceName[];
  /** Upper bounds of a histogram's buckets; `seconds` unless said otherwise. */
  buckets?: readonly number[];
  /** Why it may be absent from a process that runs. */
  absent?: string;
}

export type ServiceName = "gateway" | "user" | "session" | "analytics" | "search";

/** Seconds, from half a millisecond to ten seconds: for HTTP and stores alike. */
export const latencyBuckets = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10];
/** Events in a batch. */
const sizes = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000];

const all = ["gateway", "user", "session", "analytics", "search"] as const;
const owners = ["user", "session", "analytics", "search"] as const;
const readModels = ["session", "analytics", "search"] as const;
const relays = ["user", "session"] as const;

const service = "the service that answers";
const dependency =
  "`postgres`, `redis` (`redis-reads`, `redis-audit`), `clickhouse`, `elasticsearch`, `nats`, or the name of a service that is called";
const store = "`postgres`, `redis`, `clickhouse`, `elasticsearch`, `nats`";
const source = "`user` (PostgreSQL's WAL), `session` (Redis's stream)";
const stream = "`USERS`, `FACTS`, `DEAD`";
const consumer = "`session`, `analytics`, `search`";
const worker = "names of the process's loops";

/**
 * Every metric of Quartet. The makers in `metrics.ts` take name, help, labels and buckets from here, so that nothing is measured that is not listed;
 * docs/metrics.md is written from it.
 */
export const catalogue = {
  quartet_http_request_duration_seconds: {
    type: "histogram",
    help: "Time to answer a request: rate, errors (by status) and duration of each route",
    labels: {
      service,
      method: "HTTP methods, `other`",
      route: "route patterns, `unmatched`",
      status: "status codes; 499: the client went away first",
    },
    in: all,
    absent: "until the first request",
  },
  quartet_http_requests_in_flight: {
    type: "gauge",
    help: "Requests that are being answered",
    labels: { service },
    in: all,
  },
  quartet_rate_limited_total: {
    type: "counter",
    help: "Requests answered by 429 because their client, or the person whose token they carried, had asked for too many",
    labels: {
      group: "`sign-up`, `login`, `track`, `search`, `analytics`, `other`",
      kind: "`client`: an address; `principal`: a person",
    },
    in: ["gateway"],
    absent: "until the first",
  },
  quartet_request_bodies_bytes: {
    type: "gauge",
    help: "Bytes of request bodies that are held: read, and their request not answered yet",
    labels: { service },
    in: all,
  },
  quartet_request_answers_bytes: {
    type: "gauge",
    help: "Bytes of the services' answers that are held until they are passed on",
    in: ["gateway"],
  },
  quartet_reads_waiting: {
    type: "gauge",
    help: "Reads that wait until the store shows what their consistency token asks for",
    in: [...readModels, "gateway"],
    absent: "until the first read with a consistency token",
  },
  quartet_reads_not_awaited_total: {
    type: "counter",
    help: "Reads with a consistency token that were answered at once as stale, because as many as may were waiting",
    in: [...readModels, "gateway"],
    absent: "until the first read with a consistency token",
  },
  quartet_dependency_duration_seconds: {
    type: "histogram",
    help: "Time of an operation on a store or peer",
    labels: { dependency, outcome: "`ok`, `refused` (the store's answer was no), `fault`" },
    in: all,
  },
  quartet_dependency_errors_total: {
    type: "counter",
    help: "Operations that failed because of the dependency",
    labels: { dependency, reason: "`fault`, `deadline`, `open` (turned away by the breaker)" },
    in: all,
  },
  quartet_dependency_breaker_open: {
    type: "gauge",
    help: "Circuit breaker: 0 closed, 0.5 half open, 1 open",
    labels: { dependency },
    in: all,
  },
  quartet_dependency_in_flight: {
    type: "gauge",
    help: "Operations on a store or peer that are under way",
    labels: { dependency },
    in: all,
  },
  quartet_pool_connections: {
    type: "gauge",
    help: "Connections of a client pool",
    labels: { dependency, state: "`idle`, `used`" },
    in: all,
  },
  quartet_pool_connections_max: {
    type: "gauge",
    help: "Connections that a client pool may have",
    labels: { dependency },
    in: all,
  },
  quartet_pool_waiting: {
    type: "gauge",
    help: "Callers that wait for a connection, or for their turn",
    labels: { dependency },
    in: all,
  },
  quartet_store_up: {
    type: "gauge",
    help: "1 if the store answered when this was asked, else 0",
    labels: { store },
    in: owners,
  },
  quartet_store_size_bytes: {
    type: "gauge",
    help: "What this service's data takes in the store",
    labels: { store },
    in: owners,
    absent: "until the store has answered once",
  },
  quartet_store_capacity_bytes: {
    type: "gauge",
    help: "Size of what the store keeps its data in: disk, JetStream's limit, or Redis's maxmemory",
    labels: { store },
    in: owners,
    absent: "where the store knows no limit: PostgreSQL does not tell its disk, Redis may have no maxmemory",
  },
  quartet_store_available_bytes: {
    type: "gauge",
    help: "What is left of the capacity",
    labels: { store },
    in: owners,
    absent: "as quartet_store_capacity_bytes",
  },
  quartet_postgres_connections: {
    type: "gauge",
    help: "Sessions of the database by what they do",
    labels: { state: "`active`, `idle`, `idle in transaction`, `other` (another role's, or none of these)" },
    in: ["user"],
    absent: "until PostgreSQL has answered once",
  },
  quartet_postgres_connections_max: {
    type: "gauge",
    help: "Sessions that the server takes, those reserved for its administrator left out",
    in: ["user"],
    absent: "until PostgreSQL has answered once",
  },
  quartet_postgres_locks_waiting: {
    type: "gauge",
    help: "Locks of the database that were asked for and not granted",
    in: ["user"],
    absent: "until PostgreSQL has answered once",
  },
  quartet_postgres_transaction_age_seconds: {
    type: "gauge",
    help: "Age of the service's oldest open transaction, 0 if there is none",
    in: ["user"],
    absent: "until PostgreSQL has answered once",
  },
  quartet_postgres_standby_lag_bytes: {
    type: "gauge",
    help: "WAL that the standby furthest behind still needs, by the physical replication slots; 0 without standbys",
    in: ["user"],
    absent: "until PostgreSQL has answered once",
  },
  quartet_outbox_relay_active: {
    type: "gauge",
    help: "1 in the process that relays, 0 in one that stands by or cannot",
    labels: { source },
    in: relays,
  },
  quartet_outbox_lag_seconds: {
    type: "gauge",
    help: "Age of the oldest committed event that JetStream has not acknowledged",
    labels: { source },
    in: relays,
    absent: "while the store cannot be asked",
  },
  quartet_outbox_lag_bytes: {
    type: "gauge",
    help: "WAL between what is relayed and what is written",
    labels: { source },
    in: ["user"],
    absent: "while the store cannot be asked",
  },
  quartet_outbox_lag_entries: {
    type: "gauge",
    help: "Entries of the outbox stream that are not relayed",
    labels: { source },
    in: ["session"],
    absent: "while the store cannot be asked",
  },
  quartet_outbox_owed_seconds: {
    type: "gauge",
    help: "For how long a stream has been owed events that it refused, or could not be sent; they are kept in the store's own outbox. 0: nothing is owed",
    labels: { source, stream },
    in: relays,
  },
  quartet_outbox_slot_waits_seconds: {
    type: "gauge",
    help: "For how long a new replication slot has been waiting for a transaction to end, and whose it is. The table is relayed meanwhile",
    labels: {
      pid: "of the backend; 0: a prepared transaction; `none`: no slot waits",
      application: "its `application_name`, or `none`",
    },
    in: ["user"],
  },
  quartet_outbox_unacked: {
    type: "gauge",
    help: "Events published and not yet acknowledged",
    labels: { source },
    in: relays,
  },
  quartet_outbox_published_total: {
    type: "counter",
    help: "Events that JetStream acknowledged",
    labels: { source, stream },
    in: relays,
  },
  quartet_outbox_publish_duration_seconds: {
    type: "histogram",
    help: "From the commit of an event to JetStream's acknowledgement",
    labels: { source, stream },
    in: relays,
  },
  quartet_outbox_duplicates_total: {
    type: "counter",
    help: "Events that JetStream knew already",
    labels: { source, stream },
    in: relays,
    absent: "until the first one",
  },
  quartet_outbox_resent_total: {
    type: "counter",
    help: "Events sent again because the stream was behind or the cursor was lost",
    labels: { source, stream },
    in: relays,
    absent: "until the first one",
  },
  quartet_outbox_restarts_total: {
    type: "counter",
    help: "Relay sessions that ended by an error and were started again",
    labels: { source },
    in: relays,
  },
  quartet_outbox_slot_state: {
    type: "gauge",
    help: "1 for the state that PostgreSQL's replication slot is in, 0 for the others",
    labels: { state: "`reserved`, `extended`, `unreserved`, `lost`, `missing`" },
    in: ["user"],
    absent: "until PostgreSQL has answered once",
  },
  quartet_outbox_slot_active: {
    type: "gauge",
    help: "1 while somebody reads the replication slot",
    in: ["user"],
    absent: "until PostgreSQL has answered once",
  },
  quartet_outbox_slot_retained_bytes: {
    type: "gauge",
    help: "WAL that PostgreSQL keeps for the replication slot",
    in: ["user"],
    absent: "until PostgreSQL has answered once",
  },
  quartet_outbox_slot_headroom_bytes: {
    type: "gauge",
    help: "WAL that may still be written before PostgreSQL gives the slot up",
    in: ["user"],
    absent: "where max_slot_wal_keep_size sets no limit",
  },
  quartet_projection_events_applied_total: {
    type: "counter",
    help: "Events settled in the store, those included that it had already",
    labels: { consumer },
    in: readModels,
  },
  quartet_projection_events_stale_total: {
    type: "counter",
    help: "Events that the store had already, or something newer",
    labels: { consumer },
    in: readModels,
  },
  quartet_projection_batch_events: {
    type: "histogram",
    help: "Events in a batch",
    labels: { consumer },
    buckets: sizes,
    in: readModels,
  },
  quartet_projection_apply_duration_seconds: {
    type: "histogram",
    help: "Time to settle a batch",
    labels: { consumer },
    in: readModels,
  },
  quartet_projection_retries_total: {
    type: "counter",
    help: "Events given back for a later delivery",
    labels: { consumer },
    in: readModels,
  },
  quartet_projection_redeliveries_total: {
    type: "counter",
    help: "Deliveries of an event that had been delivered before",
    labels: { consumer },
    in: readModels,
  },
  quartet_projection_dead_letters_total: {
    type: "counter",
    help: "Events parked on DEAD by this process",
    labels: { consumer },
    in: readModels,
  },
  quartet_projection_waiting: {
    type: "gauge",
    help: "1 for what the projector waits for, 0 for the rest",
    labels: { consumer, for: "`store`, `broker`, `stream`" },
    in: readModels,
  },
  quartet_projection_staleness_seconds: {
    type: "gauge",
    help: "Age of the moment as of which the read model is true: what was committed before it is in the store. Before the first watermark: at least so much",
    labels: { consumer, source: "`user`, `session`" },
    in: readModels,
  },
  quartet_consumer_pending: {
    type: "gauge",
    help: "Messages of the stream that are not delivered to the consumer",
    labels: { consumer },
    in: readModels,
    absent: "until JetStream has answered once",
  },
  quartet_consumer_ack_pending: {
    type: "gauge",
    help: "Messages that are delivered to the consumer and not acknowledged",
    labels: { consumer },
    in: readModels,
    absent: "until JetStream has answered once",
  },
  quartet_dead_letters: {
    type: "gauge",
    help: "Events of a consumer that wait on DEAD for somebody to look at them",
    labels: { consumer },
    in: readModels,
    absent: "until JetStream has answered once",
  },
  quartet_stream_messages: {
    type: "gauge",
    help: "Messages in a stream",
    labels: { stream },
    in: ["user"],
    absent: "until JetStream has answered once",
  },
  quartet_stream_bytes: {
    type: "gauge",
    help: "Bytes of a stream",
    labels: { stream },
    in: ["user"],
    absent: "until JetStream has answered once",
  },
  quartet_stream_limit_bytes: {
    type: "gauge",
    help: "Bytes at which a stream refuses what is new",
    labels: { stream },
    in: ["user"],
    absent: "until JetStream has answered once",
  },
  quartet_stream_last_sequence: {
    type: "gauge",
    help: "Sequence of the last message of a stream; its rate is what is published",
    labels: { stream },
    in: ["user"],
    absent: "until JetStream has answered once",
  },
  quartet_stream_purged_total: {
    type: "counter",
    help: "Messages that were purged early because the stream was short of room: Analytics had applied and sealed them",
    labels: { stream: "`FACTS`" },
    in: ["user"],
    absent: "until JetStream has answered once",
  },
  quartet_stream_consumers: {
    type: "gauge",
    help: "Consumers of a stream",
    labels: { stream },
    in: ["user"],
    absent: "until JetStream has answered once",
  },
  quartet_audit_drift: {
    type: "gauge",
    help: "Users that a read model held wrongly at the last audit; of Analytics, facts",
    labels: { store: "`search`, `session`, `analytics`" },
    in: ["user", "analytics"],
    absent: "until the first audit",
  },
  quartet_audit_unfinished: {
    type: "gauge",
    help: "1 if the last round of the audit could not compare everything: too much differs, or it takes too long; the log says what",
    labels: { store: "`search`, `session`, `analytics`" },
    in: ["user", "analytics"],
  },
  quartet_audit_mended_total: {
    type: "counter",
    help: "Users emitted again because of drift; of Analytics, facts put right",
    labels: { store: "`search`, `session`, `analytics`" },
    in: ["user", "analytics"],
    absent: "until the first audit",
  },
  quartet_audit_last_timestamp_seconds: {
    type: "gauge",
    help: "Unix time of the last audit that came to an end",
    labels: { store: "`search`, `session`, `analytics`" },
    in: ["user", "analytics"],
    absent: "until the first audit",
  },
  quartet_erasures_open: { type: "gauge", help: "Erasures that are not complete", in: ["user"] },
  quartet_erasures_overdue: {
    type: "gauge",
    help: "Erasures that take longer than fifteen minutes",
    in: ["user"],
  },
  quartet_rebuild_running: {
    type: "gauge",
    help: "1 while the read model is being rebuilt",
    labels: { store: "`search`, `session`, `analytics`" },
    in: readModels,
    absent: "until the store has answered once",
  },
  quartet_rebuild_progress: {
    type: "gauge",
    help: "How much of the rebuild is done, 0 to 1; it stays 1 after it",
    labels: { store: "`search`, `session`, `analytics`" },
    in: readModels,
    absent: "until the first rebuild",
  },
  quartet_password_queue: { type: "gauge", help: "Password hashes that wait for their turn", in: ["user"] },
  quartet_background_task_failing: {
    type: "gauge",
    help: "1 for a background task that has failed for more than a minute and is tried again; the log says once why",
    labels: { task: "names of the process's loops, and of what they do" },
    in: owners,
  },
  quartet_worker_up: {
    type: "gauge",
    help: "1 while the loop runs, 0 while it waits to be started again",
    labels: { worker },
    in: owners,
  },
  quartet_worker_crashes_total: {
    type: "counter",
    help: "Ends of a loop that nobody asked for",
    labels: { worker },
    in: owners,
  },
} as const satisfies Record<string, MetricDefinition>;

export type Catalogue = typeof catalogue;
export type MetricName = keyof Catalogue;
/** The names of all metrics of one type. */
export type NameOf<T extends MetricDefinition["type"]> = {
  [N in MetricName]: Catalogue[N]["type"] extends T ? N : never;
}[MetricName];
/** The labels of a metric. */
export type LabelsOf<N extends MetricName> = Catalogue[N] extends { labels: infer L } ? keyof L & string : never;
