/** Panels that more than one dashboard has. */
import { type AnyPanel, nameOf, OBJECTIVE_SECONDS, series, stat, states, traces } from "./lib.ts";

const UP_WORDS: Record<string, [string, string]> = { "0": ["down", "red"], "1": ["up", "green"] };

export const BREAKER_WORDS: Record<string, [string, string]> = {
  "0": ["closed", "green"],
  "0.5": ["half open", "orange"],
  "1": ["open", "red"],
};

/** Selector of a service's requests. */
const of = (service?: string) => (service ? `{service="${service}"}` : "");

/** Rate, errors and duration. */
export function red(service?: string): AnyPanel[] {
  const by = service ? "route, method" : "service";
  const legend = service ? "{{method}} {{route}}" : "{{service}}";
  const select = of(service);
  const failed = service ? `{service="${service}", status=~"5.."}` : '{status=~"5.."}';
  return [
    series(
      "Requests",
      "Requests answered in a second.",
      [[`sum by (${by}) (rate(quartet_http_request_duration_seconds_count${select}[$__rate_interval]))`, legend]],
      service ? { unit: "reqps", width: 24, legendRight: true } : { unit: "reqps" },
    ),
    series(
      "Errors",
      "Share of the requests that were answered with a 5xx status. A dead store shows here as 503 on what needs it, and nowhere else.",
      [
        [
          `(sum by (service) (rate(quartet_http_request_duration_seconds_count${failed}[$__rate_interval])) or sum by (service) (rate(quartet_http_request_duration_seconds_count${select}[$__rate_interval])) * 0) / sum by (service) (rate(quartet_http_request_duration_seconds_count${select}[$__rate_interval]))`,
          "{{service}}",
        ],
      ],
      { unit: "percentunit", width: service ? 12 : 8, links: service ? [traces(service, true)] : [] },
    ),
    series(
      "Duration",
      "99th percentile of the time to answer, and the median.",
      [
        [
          `histogram_quantile(0.99, sum by (service, le) (rate(quartet_http_request_duration_seconds_bucket${select}[$__rate_interval])))`,
          "{{service}} p99",
        ],
        [
          `histogram_quantile(0.5, sum by (service, le) (rate(quartet_http_request_duration_seconds_bucket${select}[$__rate_interval])))`,
          "{{service}} p50",
        ],
      ],
      { unit: "s", width: service ? 12 : 8, links: service ? [traces(service)] : [] },
    ),
  ];
}

/** How a client sees its stores and peers. */
export function dependency(name: string): AnyPanel[] {
  const d = `{dependency="${name}"}`;
  const title = nameOf(name);
  return [
    series(
      `Calls to ${title}`,
      "Operations in a second, by outcome; `refused` is the store's answer, not a fault.",
      [[`sum by (outcome) (rate(quartet_dependency_duration_seconds_count${d}[$__rate_interval]))`, "{{outcome}}"]],
      { unit: "ops", stack: true },
    ),
    series(
      `Duration of calls to ${title}`,
      "99th percentile and median.",
      [
        [
          `histogram_quantile(0.99, sum by (le) (rate(quartet_dependency_duration_seconds_bucket${d}[$__rate_interval])))`,
          "p99",
        ],
        [
          `histogram_quantile(0.5, sum by (le) (rate(quartet_dependency_duration_seconds_bucket${d}[$__rate_interval])))`,
          "p50",
        ],
      ],
      { unit: "s" },
    ),
    series(
      `Errors of calls to ${title}`,
      "Operations in a second that failed because of it, by reason; `open` were turned away by the circuit breaker.",
      [[`sum by (reason) (rate(quartet_dependency_errors_total${d}[$__rate_interval]))`, "{{reason}}"]],
      { unit: "ops" },
    ),
    states(
      `Circuit breaker for ${title}`,
      "While it is open, calls are refused at once instead of waiting for a dependency that does not answer.",
      [[`max(quartet_dependency_breaker_open${d})`, "breaker"]],
      BREAKER_WORDS,
      { width: 8 },
    ),
    series(`Client pool of ${title}`, "Connections in use and idle, and callers that wait for one.", [
      [`sum by (state) (quartet_pool_connections${d})`, "{{state}}"],
      [`sum(quartet_pool_waiting${d})`, "waiting"],
      [`sum(quartet_pool_connections_max${d})`, "max"],
    ]),
    series(`Operations under way on ${title}`, "Operations on the store that have not been answered yet.", [
      [`sum(quartet_dependency_in_flight${d})`, "in flight"],
    ]),
  ];
}

/** What the store tells of itself; `room` where it knows a capacity. */
export function storeItself(name: string, room: boolean): AnyPanel[] {
  const s = `{store="${name}"}`;
  const panels: AnyPanel[] = [
    states(
      `${nameOf(name)} answers`,
      "Whether it answers its service.",
      [[`max by (store) (quartet_store_up${s})`, "{{store}}"]],
      UP_WORDS,
      { width: 8, height: 7 },
    ),
    series(
      `Size in ${nameOf(name)}`,
      "What our data takes in the store.",
      [[`max by (store) (quartet_store_size_bytes${s})`, "{{store}}"]],
      { unit: "bytes" },
    ),
  ];
  if (room)
    panels.push(
      series(
        `Free space of ${nameOf(name)}`,
        "Share of the store's disk or limit that is free.",
        [[`min by (store) (quartet_store_available_bytes${s} / quartet_store_capacity_bytes${s})`, "{{store}}"]],
        { unit: "percentunit", max: 1 },
      ),
    );
  return panels;
}

/** Staleness against the objective. */
export function freshness(consumer?: string, width = 12): AnyPanel {
  const select = consumer ? `{consumer="${consumer}"}` : "";
  return series(
    "Staleness",
    `How old what the read model shows is. The dashed line is the objective: ${OBJECTIVE_SECONDS} s, kept 99 % of the time.`,
    [[`min by (consumer, source) (quartet_projection_staleness_seconds${select})`, "{{consumer}} of {{source}}"]],
    { unit: "s", width, objective: OBJECTIVE_SECONDS },
  );
}

/** From JetStream into the read model. */
export function projection(consumer: string): AnyPanel[] {
  const c = `{consumer="${consumer}"}`;
  return [
    freshness(consumer, 8),
    series(
      "Events applied",
      "Events settled in a second.",
      [
        [`sum(rate(quartet_projection_events_applied_total${c}[$__rate_interval]))`, "applied"],
        [`sum(rate(quartet_projection_events_stale_total${c}[$__rate_interval]))`, "already applied"],
      ],
      { unit: "ops" },
    ),
    series("Backlog", "Messages not delivered, and delivered but not acknowledged.", [
      [`max(quartet_consumer_pending${c})`, "pending"],
      [`max(quartet_consumer_ack_pending${c})`, "unacknowledged"],
    ]),
    series("Batches", "Events in a batch: median and 99th percentile.", [
      [
        `histogram_quantile(0.5, sum by (le) (rate(quartet_projection_batch_events_bucket${c}[$__rate_interval])))`,
        "p50",
      ],
      [
        `histogram_quantile(0.99, sum by (le) (rate(quartet_projection_batch_events_bucket${c}[$__rate_interval])))`,
        "p99",
      ],
    ]),
    series(
      "Time to apply a batch",
      "From its first attempt to the last verdict.",
      [
        [
          `histogram_quantile(0.5, sum by (le) (rate(quartet_projection_apply_duration_seconds_bucket${c}[$__rate_interval])))`,
          "p50",
        ],
        [
          `histogram_quantile(0.99, sum by (le) (rate(quartet_projection_apply_duration_seconds_bucket${c}[$__rate_interval])))`,
          "p99",
        ],
      ],
      { unit: "s" },
    ),
    series(
      "Redeliveries and retries",
      "Redeliveries, events given back for later, and events parked on DEAD, in a second.",
      [
        [`sum(rate(quartet_projection_redeliveries_total${c}[$__rate_interval]))`, "redelivered"],
        [`sum(rate(quartet_projection_retries_total${c}[$__rate_interval]))`, "given back"],
        [`sum(rate(quartet_projection_dead_letters_total${c}[$__rate_interval]))`, "parked"],
      ],
      { unit: "ops" },
    ),
    states(
      "Projector paused",
      "Whether every replica of the projector waits for something, and for what.",
      [[`min by (for) (quartet_projection_waiting${c})`, "{{for}}"]],
      { "0": ["no", "green"], "1": ["waits", "orange"] },
      { width: 8 },
    ),
    stat(
      "Dead letters",
      "Events that wait on DEAD for somebody.",
      [[`max(quartet_dead_letters${c})`, "dead letters"]],
      { limits: [1, 10], width: 8, height: 7 },
    ),
    series(
      "Rebuild",
      "How much of a rebuild is done, 1 after it; 0 if there never was one.",
      [
        [
          `max(quartet_rebuild_progress{store="${consumer}"}) or max(quartet_rebuild_running{store="${consumer}"})`,
          "progress",
        ],
      ],
      { max: 1, unit: "percentunit" },
    ),
  ];
}

/** From the commit to JetStream. */
export function outbox(source: "user" | "session"): AnyPanel[] {
  const s = `{source="${source}"}`;
  const lag =
    source === "user"
      ? ["quartet_outbox_lag_bytes", "bytes", "WAL not relayed yet."]
      : ["quartet_outbox_lag_entries", "short", "Entries not relayed yet."];
  const panels: AnyPanel[] = [
    series(
      "Outbox lag",
      "Age of the oldest event that JetStream has not acknowledged.",
      [[`max(quartet_outbox_lag_seconds${s})`, "lag"]],
      { unit: "s" },
    ),
    series("Outbox backlog", lag[2]!, [[`max(${lag[0]}${s})`, "backlog"]], { unit: lag[1]! }),
    series("Awaiting acknowledgement", "Events that are published and that JetStream has not acknowledged.", [
      [`sum(quartet_outbox_unacked${s})`, "events"],
    ]),
    series(
      "Published",
      "Events that JetStream acknowledged, in a second; heartbeats are two to four of them.",
      [[`sum by (stream) (rate(quartet_outbox_published_total${s}[$__rate_interval]))`, "{{stream}}"]],
      { unit: "ops" },
    ),
    series(
      "Time to publish",
      "From the commit to JetStream's acknowledgement.",
      [
        [
          `histogram_quantile(0.5, sum by (le) (rate(quartet_outbox_publish_duration_seconds_bucket${s}[$__rate_interval])))`,
          "p50",
        ],
        [
          `histogram_quantile(0.99, sum by (le) (rate(quartet_outbox_publish_duration_seconds_bucket${s}[$__rate_interval])))`,
          "p99",
        ],
      ],
      { unit: "s" },
    ),
    states(
      "Relay",
      "Whether anybody relays.",
      [[`max by (source) (quartet_outbox_relay_active${s})`, "relay"]],
      { "0": ["nobody", "red"], "1": ["relays", "green"] },
      { width: 8 },
    ),
    series(
      "Events owed",
      "For how long a stream has lacked events that it refused, or could not be sent. They are kept in the store's own outbox.",
      [[`max by (stream) (quartet_outbox_owed_seconds${s})`, "{{stream}}"]],
      { unit: "s" },
    ),
    series(
      "Relay restarts",
      "Sessions of the relay that ended by an error, in each interval.",
      [[`sum(increase(quartet_outbox_restarts_total${s}[$__rate_interval]))`, "restarts"]],
      { bars: true },
    ),
  ];
  if (source === "user") {
    panels.push(
      series(
        "WAL kept for the slot",
        "What PostgreSQL may not remove because the relay has not read it.",
        [["max(quartet_outbox_slot_retained_bytes)", "retained"]],
        { unit: "bytes" },
      ),
      states(
        "Replication slot",
        "State of the relay's replication slot: reserved is well, unreserved is about to be lost.",
        [["max by (state) (quartet_outbox_slot_state) == 1", "{{state}}"]],
        { "1": ["now", "blue"] },
        { width: 8 },
      ),
      series(
        "New slot waits",
        "For how long a new slot has been waiting for a transaction to end. The alert QuartetSlotWaits says whose it is.",
        [["max(quartet_outbox_slot_waits_seconds)", "waiting"]],
        { unit: "s", width: 8 },
      ),
      states(
        "Replication slot in use",
        "Whether a relay is connected to the replication slot.",
        [["max(quartet_outbox_slot_active)", "slot"]],
        { "0": ["not in use", "orange"], "1": ["in use", "green"] },
        { width: 8 },
      ),
    );
  }
  return panels;
}

/** What PostgreSQL tells of its own sessions. */
export function postgres(): AnyPanel[] {
  return [
    series("Connections", "Sessions of the database by what they do, and how many the server takes.", [
      ["max by (state) (quartet_postgres_connections)", "{{state}}"],
      ["max(quartet_postgres_connections_max)", "max"],
    ]),
    series("Waiting for a lock", "Locks that were asked for and not granted.", [
      ["max(quartet_postgres_locks_waiting)", "locks"],
    ]),
    series(
      "Longest transaction",
      "Age of the oldest open transaction: it keeps old rows and WAL, and a new replication slot waits for it.",
      [["max(quartet_postgres_transaction_age_seconds)", "age"]],
      { unit: "s" },
    ),
    series(
      "Standby lag",
      "WAL that the standby furthest behind still needs, by the physical replication slots; 0 where there is no standby.",
      [["max(quartet_postgres_standby_lag_bytes)", "lag"]],
      { unit: "bytes" },
    ),
  ];
}

/** Readers that wait for a read model to have what they wrote. */
export function readers(service: string): AnyPanel[] {
  const s = `{service="${service}"}`;
  return [
    series("Reads that wait", "Reads with a consistency token that wait until the store has what they ask for.", [
      [`sum(quartet_reads_waiting${s}) or sum(up{part_of="quartet", service="${service}"} * 0)`, "waiting"],
    ]),
    series(
      "Reads answered as stale",
      "Reads with a consistency token that were answered at once, because as many as may were waiting.",
      [
        [
          `sum(rate(quartet_reads_not_awaited_total${s}[$__rate_interval])) or sum(up{part_of="quartet", service="${service}"} * 0)`,
          "stale",
        ],
      ],
      { unit: "ops" },
    ),
  ];
}

/** What the gateway refuses and holds to protect what is behind it. */
export function limits(): AnyPanel[] {
  return [
    series(
      "Requests over a limit",
      "Requests answered with 429 because their client or their person had asked for too many.",
      [
        [
          'sum(rate(quartet_rate_limited_total[$__rate_interval])) or sum(up{part_of="quartet", service="gateway"} * 0)',
          "429",
        ],
      ],
      { unit: "reqps", width: 12 },
    ),
    series(
      "Bodies in memory",
      "Bytes of requests' bodies and of services' answers that the gateway holds.",
      [
        ['sum(quartet_request_bodies_bytes{service="gateway"})', "bodies"],
        ['sum(quartet_request_answers_bytes{service="gateway"})', "answers of services"],
      ],
      { unit: "bytes", width: 12 },
    ),
  ];
}

/** The processes themselves, by pod. */
export function runtime(service: string): AnyPanel[] {
  const j = processes(service);
  return [
    series(
      "CPU",
      "Cores in use, per process.",
      [[`rate(process_cpu_seconds_total${j}[$__rate_interval])`, "{{pod}}"]],
      { width: 6 },
    ),
    series("Memory", "Resident, per process.", [[`process_resident_memory_bytes${j}`, "{{pod}}"]], {
      unit: "bytes",
      width: 6,
    }),
    series("Heap", "JavaScript heap in use, per process.", [[`nodejs_heap_size_used_bytes${j}`, "{{pod}}"]], {
      unit: "bytes",
      width: 6,
    }),
    series("Event loop delay", "99th percentile, per process.", [[`nodejs_eventloop_lag_p99_seconds${j}`, "{{pod}}"]], {
      unit: "s",
      width: 6,
    }),
  ];
}

/** The target labels that the chart gives to every process of Quartet: no other system's processes have them. */
const processes = (service: string) => `{part_of="quartet", service="${service}", pod=~"$pod"}`;

/** The background loops of the owners of a store. */
export function loops(service: string): AnyPanel[] {
  return [
    states(
      "Background loops",
      "Whether each loop of the service runs in every process that should run it.",
      [[`min by (worker) (quartet_worker_up${processes(service)})`, "{{worker}}"]],
      UP_WORDS,
      { width: 12, height: 10 },
    ),
    states(
      "Background tasks",
      "Those that have failed for more than a minute.",
      [[`max by (task) (quartet_background_task_failing${processes(service)})`, "{{task}}"]],
      { "0": ["well", "green"], "1": ["fails", "red"] },
      { width: 12, height: 10 },
    ),
  ];
}
