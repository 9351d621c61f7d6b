import { type ConsistencyToken, factId } from "@quartet/contracts";
import { awaitFreshness, readFreshness, setAsOf } from "@quartet/service";
import type { Request, Response } from "express";
import type { ClickHouse } from "../store/client.ts";
import type { Looks } from "../store/looks.ts";
import { asOf } from "../store/watermarks.ts";

export interface FreshnessOptions {
  clickhouse: ClickHouse;
  looks: Looks;
  /** Whether everything up to a position of FACTS is in the store; false while that cannot be known. */
  hasPassed(position: { seq: number; stream: string }): Promise<boolean>;
}

/**
 * Waits for what the request's token asks for, says how it went, and sets `Quartet-As-Of`: read before the data, so that the data is at least as new.
 */
export async function freshen(req: Request, res: Response, { looks, hasPassed }: FreshnessOptions): Promise<void> {
  const { waitMs, token } = readFreshness(req);
  if (token) {
    const pending = { ...token };
    const check = async (): Promise<boolean> => {
      if (pending.u || pending.f) {
        const ids = [...(pending.f ?? []), ...(pending.u ?? []).map(([id, version]) => factId.user(id, version))];
        if (!(await looks.counted(ids))) return false;
        delete pending.u;
        delete pending.f;
      }
      if (pending.t) {
        if (!(await hasPassed(pending.t).catch(() => false))) return false;
        delete pending.t;
      }
      return !pending.a || reached(pending.a, await looks.watermarks());
    };
    await awaitFreshness(res, { waitMs, check });
  }
  setAsOf(res, asOf(await looks.watermarks()));
}

function reached(
  wanted: NonNullable<ConsistencyToken["a"]>,
  watermarks: Partial<Record<"user" | "session", Date>>,
): boolean {
  return (["user", "session"] as const).every((source) => {
    const at = wanted[source];
    return at === undefined || (watermarks[source]?.getTime() ?? -1) >= Date.parse(at);
  });
}
