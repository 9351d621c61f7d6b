/** The q-quantile (nearest rank) of some numbers; NaN of none. */
export function percentile(values: readonly number[], q: number): number {
  if (values.length === 0) return Number.NaN;
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.max(0, Math.min(sorted.length - 1, Math.ceil(q * sorted.length) - 1))] as number;
}

/** The middle of some numbers, of an even count the mean of the middle two; NaN of none. */
function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length / 2;
  const lower = sorted[Math.ceil(half) - 1] ?? Number.NaN;
  return (lower + (sorted[Math.floor(half)] ?? Number.NaN)) / 2;
}

/** `1234.5` as `1,235`; small numbers keep a digit. */
export function figure(n: number): string {
  if (!Number.isFinite(n)) return "-";
  return n >= 100 ? Math.round(n).toLocaleString("en") : n.toFixed(1);
}

/** Rows as a Markdown table. */
export function table(head: string[], rows: (string | number)[][]): string {
  const line = (cells: (string | number)[]) => `| ${cells.join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...rows.map(line)].join("\n");
}

/** Something measured beside the limit it is compared with, round by round. */
export interface Comparison {
  what: string;
  unit: string;
  limit: string;
  /** Rates of each round. */
  measured: number[];
  raw: number[];
}

/**
 * Runs both sides of a comparison, one after the other and in turns which comes first, so that a slow moment of the machine hits both. One round
 * before is thrown away (compilation, caches, empty files). Stops early, but not before one round, once `untilMs` (of performance.now()) has passed.
 */
export async function compare(
  about: Pick<Comparison, "what" | "unit" | "limit">,
  rounds: number,
  untilMs: number,
  sides: { measured(round: number): Promise<number>; raw(round: number): Promise<number> },
): Promise<Comparison> {
  const result: Comparison = { ...about, measured: [], raw: [] };
  for (let round = 0; round <= rounds; round++) {
    if (round > 1 && performance.now() > untilMs) break;
    const found = { measured: 0, raw: 0 };
    for (const side of round % 2 === 0 ? (["raw", "measured"] as const) : (["measured", "raw"] as const)) {
      found[side] = await sides[side](round);
    }
    const { what, unit } = about;
    const note = round === 0 ? " (warm-up, not counted)" : "";
    console.error(`  ${what}: ${figure(found.measured)} ${unit} beside ${figure(found.raw)}${note}`);
    if (round === 0) continue;
    result.measured.push(found.measured);
    result.raw.push(found.raw);
  }
  return result;
}

/** Median rates, and the median of the rounds' ratios with its spread. */
export function comparisonRow({ what, unit, limit, measured, raw }: Comparison): string[] {
  const ratios = measured.map((value, i) => value / raw[i]!);
  const spread = `${Math.min(...ratios).toFixed(2)} to ${Math.max(...ratios).toFixed(2)}`;
  return [
    what,
    `${figure(median(measured))} ${unit}`,
    limit,
    `${figure(median(raw))} ${unit}`,
    `**${median(ratios).toFixed(2)}**`,
    `${spread} (${ratios.length})`,
  ];
}

export const COMPARISON_HEAD = ["measured", "rate", "limit", "rate of the limit", "ratio", "spread (rounds)"];
