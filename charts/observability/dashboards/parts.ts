/** Panels that more than one dashboard has. */
import { type AnyPanel, OBJECTIVE_SECONDS, series, stat, states } from "./lib.ts";

const UP_WORDS: Record<string, [string, string]> = { "0": ["down", "red"], "1": ["up", "green"] };

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
      { unit: "reqps" },
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
      { unit: "percentunit" },
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
      { unit: "s" },
    ),
  ];
}

/** How a client sees its stores and peers. */
export function dependency(name: string): AnyPanel[] {
  const d = `{dependency="${name}"}`;
  return [
    series(
      `Calls to ${name}`,
      "Operations in a second, by outcome; `refused` is the store's answer, not a fault.",
      [[`sum by (outcome) (rate(quartet_dependency_duration_seconds_count${d}[$__rate_interval]))`, "{{outcome}}"]],
      { unit: "ops", stack: true },
    ),
    series(
      `Duration of calls to ${name}`,
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
    series(`Breaker and errors of ${name}`, "The breaker (1: open) and errors in a second.", [
      [`max(quartet_dependency_breaker_open${d})`, "breaker"],
      [`sum by (reason) (rate(quartet_dependency_errors_total${d}[$__rate_interval]))`, "{{reason}}"],
    ]),
    series(`Client pool of ${name}`, "Connections in use and idle, and callers that wait for one.", [
      [`sum by (state) (quartet_pool_connections${d})`, "{{state}}"],
      [`sum(quartet_pool_waiting${d})`, "waiting"],
      [`sum(quartet_pool_connections_max${d})`, "max"],
    ]),
    series(`Operations under way on ${name}`, "Operations on the store that have not been answered yet.", [
      [`sum(quartet_dependency_in_flight${d})`, "in flight"],
    ]),
  ];
}

/** What the store tells of itself; `room` where it knows a capacity. */
export function storeItself(name: string, room: boolean): AnyPanel[] {
  const s = `{store="${name}"}`;
  const panels: AnyPanel[] = [
    states(
      `${name}`,
      "Whether it answers its service.",
      [[`max by (store) (quartet_store_up${s})`, "{{store}}"]],
      UP_WORDS,
      { width: 8, height: 7 },
    ),
    series(
      `Size in ${name}`,
      "What our data takes in the store.",
      [[`max by (store) (quartet_store_size_bytes${s})`, "{{store}}"]],
      { unit: "bytes" },
    ),
  ];
  if (room)
    panels.push(
      series(
        `Room of ${name}`,
        "What is left of the store's disk or limit.",
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
    `How old what the read model shows is. The objective is ${OBJECTIVE_SECONDS} s, kept 99 % of the time.`,
    [
      [`min by (consumer, source) (quartet_projection_staleness_seconds${select})`, "{{consumer}} of {{source}}"],
      [`vector(${OBJECTIVE_SECONDS})`, "objective"],
    ],
    { unit: "s", width },
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
        [`sum(rate(quartet_projection_events_stale_total${c}[$__rate_interval]))`, "known already"],
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
      "What comes again",
      "Redeliveries, events given back for later, and events parked on DEAD, in a second.",
      [
        [`sum(rate(quartet_projection_redeliveries_total${c}[$__rate_interval]))`, "redelivered"],
        [`sum(rate(quartet_projection_retries_total${c}[$__rate_interval]))`, "given back"],
        [`sum(rate(quartet_projection_dead_letters_total${c}[$__rate_interval]))`, "parked"],
      ],
      { unit: "ops" },
    ),
    states(
      "Waits for",
      "What the projector waits for, if it does.",
      [[`min by (for) (quartet_projection_waiting${c})`, "{{for}}"]],
      { "0": ["no", "green"], "1": ["waits", "orange"] },
      { width: 8 },
    ),
    stat(
      "Dead letters",
      "Events that wait on DEAD for somebody.",
      [[`max(quartet_dead_letters${c})`, "dead letters"]],
      { limits: [1, 10], width: 4 },
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
      { width: 4, max: 1, unit: "percentunit" },
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
    series(
      "Outbox backlog",
      lag[2]!,
      [
        [`max(${lag[0]}${s})`, "lag"],
        [`sum(quartet_outbox_unacked${s})`, "published, not acknowledged"],
      ],
      { unit: lag[1]! },
    ),
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
      "Restarts",
      "Sessions of the relay that ended by an error, in a second.",
      [[`sum(rate(quartet_outbox_restarts_total${s}[$__rate_interval]))`, "restarts"]],
      { unit: "ops" },
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
        "Slot",
        "What PostgreSQL says of the slot.",
        [["max by (state) (quartet_outbox_slot_state)", "{{state}}"]],
        { "0": ["", "transparent"], "1": ["now", "blue"] },
        { width: 8 },
      ),
      states(
        "Slot read",
        "Whether anybody reads the slot.",
        [["max(quartet_outbox_slot_active)", "read"]],
        { "0": ["no", "orange"], "1": ["yes", "green"] },
        { width: 8 },
      ),
    );
  }
  return panels;
}

/** The processes themselves; jobs are named after services. */
export function runtime(service: string): AnyPanel[] {
  const j = `{job=~".*${service}.*"}`;
  return [
    series(
      "CPU",
      "Cores in use, per process.",
      [[`rate(process_cpu_seconds_total${j}[$__rate_interval])`, "{{instance}}"]],
      { width: 6 },
    ),
    series("Memory", "Resident, per process.", [[`process_resident_memory_bytes${j}`, "{{instance}}"]], {
      unit: "bytes",
      width: 6,
    }),
    series("Heap", "JavaScript heap in use, per process.", [[`nodejs_heap_size_used_bytes${j}`, "{{instance}}"]], {
      unit: "bytes",
      width: 6,
    }),
    series(
      "Event loop",
      "99th percentile of the event loop's delay, per process.",
      [[`nodejs_eventloop_lag_p99_seconds${j}`, "{{instance}}"]],
      { unit: "s", width: 6 },
    ),
  ];
}

/** The background loops of the owners of a store. */
export function loops(service: string): AnyPanel[] {
  const j = `{job=~".*${service}.*"}`;
  return [
    states(
      "Loops",
      "Whether each loop of the process runs.",
      [[`min by (worker) (quartet_worker_up${j})`, "{{worker}}"]],
      UP_WORDS,
      { width: 24, height: 7 },
    ),
  ];
}
