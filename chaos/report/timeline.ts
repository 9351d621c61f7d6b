import { ENDPOINTS, type Endpoint } from "../availability.ts";
import type { Op } from "../history.ts";
import type { ExperimentResult, Sample } from "../run.ts";

const BIN_MS = 500;

export type Cell = "full" | "degraded" | "refusing" | "failing";

export interface EndpointLine {
  endpoint: Endpoint;
  /** One per bin; null: nothing was asked. */
  cells: (Cell | null)[];
  perSecond: (number | null)[];
  p99: (number | null)[];
  steady: Figures;
  broken: Figures;
}

export interface Figures {
  requests: number;
  perSecond: number;
  p50: number | null;
  p99: number | null;
  answered: number;
}

/** What the report draws of one experiment. Times are seconds since its steady state began. */
export interface Timeline {
  seconds: number;
  binSeconds: number;
  fault: { from: number; to: number; until: number };
  endpoints: EndpointLine[];
  /** All endpoints together: answered and not answered in a second. */
  answered: number[];
  unanswered: number[];
  p99: (number | null)[];
  staleness: Record<string, [number, number][]>;
  lag: Record<string, [number, number][]>;
}

export function timelineOf(
  result: ExperimentResult,
  ops: readonly Op[],
  samples: readonly Sample[],
): Timeline | undefined {
  const { fault, steadyAt, pausedAt } = result;
  if (!fault || !pausedAt) return undefined;
  const end = pausedAt;
  const bins = Math.max(1, Math.ceil((end - steadyAt) / BIN_MS));
  const during = ops.filter(
    (op) => op.at >= steadyAt && op.at < end && op.client !== "observer" && op.client !== "last-reader",
  );
  const binOf = (op: Op): number => Math.floor((op.at - steadyAt) / BIN_MS);
  const binned = (of: readonly Op[]): Op[][] => {
    const all: Op[][] = Array.from({ length: bins }, () => []);
    for (const op of of) all[binOf(op)]?.push(op);
    return all;
  };
  const figures = (of: readonly Op[], from: number, to: number): Figures => {
    const within = of.filter((op) => op.at >= from && op.at < to);
    const times = within.filter(answered).map((op) => op.ms);
    return {
      requests: within.length,
      perSecond: round(within.length / Math.max(0.001, (to - from) / 1000)),
      p50: percentile(times, 0.5),
      p99: percentile(times, 0.99),
      answered: within.length === 0 ? 1 : times.length / within.length,
    };
  };
  const endpoints = ENDPOINTS.flatMap((endpoint): EndpointLine[] => {
    const own = during.filter((op) => op.endpoint === endpoint);
    if (own.length === 0) return [];
    const cells = binned(own);
    return [
      {
        endpoint,
        cells: cells.map(cellOf),
        perSecond: cells.map((c) => (c.length === 0 ? null : round((c.length * 1000) / BIN_MS))),
        p99: cells.map((c) =>
          percentile(
            c.map((op) => op.ms),
            0.99,
          ),
        ),
        steady: figures(own, steadyAt, fault.from),
        broken: figures(own, fault.from, fault.to),
      },
    ];
  });
  const all = binned(during);
  const relevant = samples.filter((s) => s.at >= steadyAt && s.at <= end);
  const series = (pick: (s: Sample) => Record<string, number>): Record<string, [number, number][]> => {
    const lines: Record<string, [number, number][]> = {};
    for (const sample of relevant) {
      for (const [name, value] of Object.entries(pick(sample))) {
        lines[name] ??= [];
        lines[name].push([round((sample.at - steadyAt) / 1000), round(value)]);
      }
    }
    return lines;
  };
  const at = (moment: number): number => round((moment - steadyAt) / 1000);
  return {
    seconds: (bins * BIN_MS) / 1000,
    binSeconds: BIN_MS / 1000,
    fault: { from: at(fault.from), to: at(fault.to), until: at(fault.until) },
    endpoints,
    answered: all.map((c) => (c.filter(answered).length * 1000) / BIN_MS),
    unanswered: all.map((c) => (c.filter((op) => !answered(op)).length * 1000) / BIN_MS),
    p99: all.map((c) =>
      percentile(
        c.map((op) => op.ms),
        0.99,
      ),
    ),
    staleness: series((s) => s.staleness),
    lag: series((s) => s.lag),
  };
}

const answered = (op: Op): boolean => op.status > 0 && op.status < 500;

function cellOf(ops: Op[]): Cell | null {
  if (ops.length === 0) return null;
  const failed = ops.filter((op) => !answered(op));
  // A problem document in time is a refusal; no answer at all is a failure.
  if (failed.some((op) => op.status === 0 || op.ms > 2_000)) return "failing";
  if (failed.length > 0) return "refusing";
  return ops.some((op) => op.degraded) ? "degraded" : "full";
}

/** The nearest-rank percentile, ms. */
function percentile(values: readonly number[], p: number): number | null {
  if (values.length === 0) return null;
  const sorted = values.toSorted((a, b) => a - b);
  return round(sorted[Math.min(sorted.length - 1, Math.ceil(p * sorted.length) - 1)]!);
}

const round = (value: number): number => Math.round(value * 100) / 100;
