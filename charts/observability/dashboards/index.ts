/** The dashboards: `uid` of the file to the dashboard. */
import type { DashboardBuilder } from "@grafana/grafana-foundation-sdk/dashboard";
import { dashboard, faults, nameOf, OBJECTIVE_SECONDS, type Row, series, stat, states } from "./lib.ts";
import {
  BREAKER_WORDS,
  dependency,
  freshness,
  limits,
  loops,
  outbox,
  postgres,
  projection,
  readers,
  red,
  runtime,
  storeItself,
} from "./parts.ts";

const streamRate = series(
  "Streams",
  "Messages that a stream takes in a second; heartbeats are three on FACTS and USERS together for each half second.",
  [["max by (stream) (rate(quartet_stream_last_sequence[$__rate_interval]))", "{{stream}}"]],
  { unit: "ops", width: 12 },
);
const STORE_WORDS: Record<string, [string, string]> = { "0": ["down", "red"], "1": ["up", "green"] };

const AUDIT_WORDS: Record<string, [string, string]> = { "0": ["whole", "green"], "1": ["unfinished", "red"] };

const overview = dashboard(
  "overview",
  "Quartet: overview",
  "Five processes, four stores and the stream between them: who answers, how fresh, and where it is held up.",
  [
    [
      "Now",
      [
        stat(
          "Stores down",
          "Stores that do not answer their service.",
          [["sum(max by (store) (quartet_store_up) == bool 0)", "down"]],
          { limits: [1, 2] },
        ),
        stat(
          "Stalest read model",
          "Age of the oldest thing that a read model shows.",
          [["max(min by (consumer, source) (quartet_projection_staleness_seconds))", "staleness"]],
          { unit: "s", limits: [OBJECTIVE_SECONDS, 30], decimals: 1 },
        ),
        stat(
          "Late, last hour",
          `Share of the time in which a read model was more than ${OBJECTIVE_SECONDS} s old; the objective allows 1 %.`,
          [
            [
              `max(avg_over_time((min by (consumer, source) (quartet_projection_staleness_seconds) > bool ${OBJECTIVE_SECONDS})[1h:10s]))`,
              "late",
            ],
          ],
          { unit: "percentunit", limits: [0.01, 0.144] },
        ),
        stat(
          "Dead letters",
          "Events that no projector could apply and nobody has looked at.",
          [["sum(max by (consumer) (quartet_dead_letters))", "dead letters"]],
          { limits: [1, 10] },
        ),
        stat(
          "Drift",
          "Users that the last audit found wrong in a read model.",
          [["sum(max by (store) (quartet_audit_drift))", "drift"]],
          { limits: [1, 2] },
        ),
        stat(
          "Erasures overdue",
          "Erasures that have taken longer than fifteen minutes.",
          [["max(quartet_erasures_overdue)", "overdue"]],
          { limits: [1, 2] },
        ),
      ],
    ],
    ["Requests", red()],
    [
      "The flow: from a commit to every copy",
      [
        series(
          "Outbox lag",
          "Age of the oldest event that JetStream has not acknowledged, by where it was written.",
          [["max by (source) (quartet_outbox_lag_seconds)", "{{source}}"]],
          { unit: "s", width: 12 },
        ),
        streamRate,
        series(
          "Backlog of the projectors",
          "Messages not delivered or not acknowledged.",
          [["max by (consumer) (quartet_consumer_pending + quartet_consumer_ack_pending)", "{{consumer}}"]],
          { width: 12 },
        ),
        freshness(),
      ],
    ],
    [
      "Stores",
      [
        states("Stores", "Who answers.", [["max by (store) (quartet_store_up)", "{{store}}"]], STORE_WORDS),
        states(
          "Circuit breakers",
          "While one is open, calls are refused at once instead of waiting for a dependency that does not answer.",
          [["max by (service, dependency) (quartet_dependency_breaker_open)", "{{service}} to {{dependency}}"]],
          BREAKER_WORDS,
          { width: 24, height: 13 },
        ),
        series(
          "Size",
          "What our data takes in each store.",
          [["max by (store) (quartet_store_size_bytes)", "{{store}}"]],
          { unit: "bytes", width: 12 },
        ),
        series(
          "Free space",
          "Share of each store's disk or limit that is free, where it tells.",
          [["min by (store) (quartet_store_available_bytes / quartet_store_capacity_bytes)", "{{store}}"]],
          { unit: "percentunit", width: 12, max: 1 },
        ),
      ],
      "folded",
    ],
    [
      "Erasure and audit",
      [
        series(
          "Erasures",
          "Open, and open for longer than fifteen minutes.",
          [
            ["max(quartet_erasures_open)", "open"],
            ["max(quartet_erasures_overdue)", "overdue"],
          ],
          { width: 12 },
        ),
        series(
          "Drift",
          "Users that an audit found wrong, by read model.",
          [["max by (store) (quartet_audit_drift)", "{{store}}"]],
          { width: 12 },
        ),
      ],
      "folded",
    ],
  ],
  faults,
);

interface Part {
  title: string;
  store: string;
  /** The store knows a capacity. */
  room: boolean;
  source?: "user" | "session";
  consumer?: string;
  extra?: Row[];
}

const PARTS: Record<string, Part> = {
  user: {
    title: "User and PostgreSQL",
    store: "postgres",
    room: false,
    source: "user",
    extra: [
      ["PostgreSQL's sessions and replication", postgres(), "folded"],
      [
        "Erasure, audit, passwords",
        [
          series("Erasures", "Open, and open for longer than fifteen minutes.", [
            ["max(quartet_erasures_open)", "open"],
            ["max(quartet_erasures_overdue)", "overdue"],
          ]),
          series("Drift", "Users that an audit found wrong, by read model.", [
            ["max by (store) (quartet_audit_drift)", "{{store}}"],
          ]),
          series(
            "Since the last audit",
            "Time since an audit of the read model came to an end.",
            [["time() - max by (store) (quartet_audit_last_timestamp_seconds)", "{{store}}"]],
            { unit: "s" },
          ),
          states(
            "Audits",
            "Whether the last round compared everything. One that stopped before leaves the rest to the next.",
            [["max by (store) (quartet_audit_unfinished)", "{{store}}"]],
            AUDIT_WORDS,
            { width: 8 },
          ),
          series(
            "Password hashes queued",
            "Each costs some 15 ms of a processor; a queue here is a flood of sign-ups or log-ins.",
            [["sum(quartet_password_queue)", "waiting"]],
          ),
        ],
        "folded",
      ],
    ],
  },
  session: { title: "Session and Redis", store: "redis", room: true, source: "session", consumer: "session" },
  analytics: { title: "Analytics and ClickHouse", store: "clickhouse", room: true, consumer: "analytics" },
  search: { title: "Search and Elasticsearch", store: "elasticsearch", room: true, consumer: "search" },
};

function part(name: string, p: Part): DashboardBuilder {
  return dashboard(
    name,
    `Quartet: ${p.title}`,
    `The service ${name}, its store, and what goes in and out.`,
    [
      ["Requests", red(name)],
      [nameOf(p.store), [...storeItself(p.store, p.room), ...dependency(p.store)], "folded"],
      ...(p.source ? ([["Outbox", outbox(p.source), "folded"]] as Row[]) : []),
      ...(p.consumer ? ([["Projection", [...projection(p.consumer), ...readers(name)], "folded"]] as Row[]) : []),
      ...(p.extra ?? []),
      ["Processes", [...runtime(name), ...loops(name)], "folded"],
    ],
    faults,
  );
}

const gateway = dashboard(
  "gateway",
  "Quartet: Gateway",
  "What people see, and whom the gateway asks for it.",
  [
    ["Requests", [...red("gateway"), ...limits()]],
    ...["user", "session", "analytics", "search"].map(
      (peer): Row => [`Calls to ${nameOf(peer)}`, dependency(peer), "folded"],
    ),
    ["Processes", runtime("gateway"), "folded"],
  ],
  faults,
);

const jetstream = dashboard(
  "jetstream",
  "Quartet: JetStream",
  "The three streams, who feeds them and who reads them.",
  [
    [
      "Streams",
      [
        states(
          "NATS",
          "Whether it answers.",
          [['max by (store) (quartet_store_up{store="nats"})', "nats"]],
          STORE_WORDS,
          { width: 24, height: 4 },
        ),
        series("Messages", "Messages kept: USERS one per user and source, FACTS a week, DEAD until somebody looked.", [
          ["max by (stream) (quartet_stream_messages)", "{{stream}}"],
        ]),
        series("Bytes", "What the streams take on disk.", [["max by (stream) (quartet_stream_bytes)", "{{stream}}"]], {
          unit: "bytes",
        }),
        series(
          "Fill",
          "How much of its limit a stream has used. At 100 % it refuses what is new; the others go on.",
          [["max by (stream) (quartet_stream_bytes / quartet_stream_limit_bytes)", "{{stream}}"]],
          { unit: "percentunit", max: 1 },
        ),
        series(
          "Published",
          "Messages a stream takes in a second, and those that are purged early because it is short of room.",
          [
            ["max by (stream) (rate(quartet_stream_last_sequence[$__rate_interval]))", "{{stream}}"],
            ["sum by (stream) (rate(quartet_stream_purged_total[$__rate_interval]))", "{{stream}} purged early"],
          ],
          { unit: "ops" },
        ),
        series("Consumers", "Durable consumers of each stream.", [
          ["max by (stream) (quartet_stream_consumers)", "{{stream}}"],
        ]),
      ],
    ],
    [
      "Relays",
      [
        series(
          "Published by relay",
          "Events acknowledged in a second.",
          [
            [
              "sum by (source, stream) (rate(quartet_outbox_published_total[$__rate_interval]))",
              "{{source}} to {{stream}}",
            ],
          ],
          { unit: "ops" },
        ),
        series(
          "Time to publish",
          "99th percentile from the commit to the acknowledgement.",
          [
            [
              "histogram_quantile(0.99, sum by (source, le) (rate(quartet_outbox_publish_duration_seconds_bucket[$__rate_interval])))",
              "{{source}}",
            ],
          ],
          { unit: "s" },
        ),
        series("Unacknowledged", "Published, and not yet acknowledged by JetStream.", [
          ["sum by (source) (quartet_outbox_unacked)", "{{source}}"],
        ]),
      ],
      "folded",
    ],
    [
      "Consumers",
      [
        series("Pending", "Messages that are not delivered.", [
          ["max by (consumer) (quartet_consumer_pending)", "{{consumer}}"],
        ]),
        series("Unacknowledged", "Messages that are delivered and not acknowledged.", [
          ["max by (consumer) (quartet_consumer_ack_pending)", "{{consumer}}"],
        ]),
        series(
          "Applied",
          "Events settled in a second.",
          [["sum by (consumer) (rate(quartet_projection_events_applied_total[$__rate_interval]))", "{{consumer}}"]],
          { unit: "ops" },
        ),
        series(
          "Redelivered",
          "Deliveries that were not the first, in a second.",
          [["sum by (consumer) (rate(quartet_projection_redeliveries_total[$__rate_interval]))", "{{consumer}}"]],
          { unit: "ops" },
        ),
        series("Dead letters", "Events that wait on DEAD.", [
          ["max by (consumer) (quartet_dead_letters)", "{{consumer}}"],
        ]),
      ],
      "folded",
    ],
  ],
  faults,
);

const chaos = dashboard(
  "chaos",
  "Quartet: chaos",
  "What a fault does, and what it does not: every fault is a mark on all panels, and the panels that stay calm are the point.",
  [
    [
      "Faults",
      [
        states("Stores", "Who answers.", [["max by (store) (quartet_store_up)", "{{store}}"]], STORE_WORDS),
        states(
          "Processes",
          "Who answers Prometheus.",
          [['max by (service) (up{part_of="quartet"})', "{{service}}"]],
          STORE_WORDS,
        ),
        states(
          "Circuit breakers",
          "While one is open, calls are refused at once instead of waiting for a dependency that does not answer.",
          [["max by (service, dependency) (quartet_dependency_breaker_open)", "{{service}} to {{dependency}}"]],
          BREAKER_WORDS,
          { width: 24, height: 13 },
        ),
        series(
          "Errors of dependencies",
          "Operations that failed, in a second.",
          [["sum by (dependency) (rate(quartet_dependency_errors_total[$__rate_interval]))", "{{dependency}}"]],
          { unit: "ops", width: 12, legendRight: true },
        ),
        series(
          "Answers",
          "Answers of the gateway in a second, by status.",
          [
            [
              'sum by (status) (rate(quartet_http_request_duration_seconds_count{service="gateway"}[$__rate_interval]))',
              "{{status}}",
            ],
          ],
          { unit: "reqps", stack: true, width: 12 },
        ),
      ],
    ],
    [
      "What is held up, and catches up",
      [
        series(
          "Outbox lag",
          "Grows while nobody relays; nothing is lost.",
          [["max by (source) (quartet_outbox_lag_seconds)", "{{source}}"]],
          { unit: "s" },
        ),
        series(
          "WAL kept for the slot",
          "The price of an absent relay.",
          [["max(quartet_outbox_slot_retained_bytes)", "retained"]],
          { unit: "bytes" },
        ),
        series("Backlog of the projectors", "Grows while a store is away, then drains.", [
          ["max by (consumer) (quartet_consumer_pending + quartet_consumer_ack_pending)", "{{consumer}}"],
        ]),
        freshness(),
        series(
          "Applied",
          "Events settled in a second: the peak after a fault is the catching up.",
          [["sum by (consumer) (rate(quartet_projection_events_applied_total[$__rate_interval]))", "{{consumer}}"]],
          { unit: "ops", width: 12 },
        ),
        series(
          "Redeliveries",
          "Deliveries that were not the first, in a second.",
          [["sum by (consumer) (rate(quartet_projection_redeliveries_total[$__rate_interval]))", "{{consumer}}"]],
          { unit: "ops", width: 12 },
        ),
        series(
          "Relay restarts",
          "Sessions of a relay that ended by an error, in each interval.",
          [["sum by (source) (increase(quartet_outbox_restarts_total[$__rate_interval]))", "{{source}}"]],
          { width: 12, bars: true },
        ),
        series(
          "Dead letters",
          "A fault should park nothing.",
          [["max by (consumer) (quartet_dead_letters)", "{{consumer}}"]],
          { width: 12 },
        ),
      ],
    ],
  ],
  faults,
);

export const dashboards: Record<string, DashboardBuilder> = {
  overview,
  gateway,
  ...Object.fromEntries(Object.entries(PARTS).map(([name, p]) => [name, part(name, p)])),
  jetstream,
  chaos,
};
