import { HttpProblem, unavailable } from "@quartet/service";
import { request } from "undici";
import type { GatewayConfig } from "../config.ts";

/** What the local supervisor tells: the state of each engine's process, and of the demonstration load. */
export interface ControlState {
  engines: Record<string, "running" | "frozen" | "down" | "held" | "external">;
  load: { perSecond: number; until: string; done: number; failed: number } | null;
  seeding: boolean;
}

export interface Control {
  state(): Promise<ControlState>;
  /** Sends an order; whatever it answers is the answer. Waits up to ten seconds: to kill an engine is to wait for its death. */
  order(method: "POST" | "DELETE", path: string, body?: object): Promise<unknown>;
}

const stateMs = 800;
const orderMs = 10_000;

/** The supervisor of a local system, which alone starts and ends processes; the gateway only passes on what the console asks for. Undefined elsewhere. */
export function connectControl(config: GatewayConfig): Control | undefined {
  const { QUARTET_CONTROL_URL: url, QUARTET_CONTROL_SECRET: secret } = config;
  if (!url || !secret) return undefined;
  const call = async (method: "GET" | "POST" | "DELETE", path: string, timeoutMs: number, body?: object) => {
    try {
      const answer = await request(new URL(path, url), {
        method,
        headers: {
          authorization: `Bearer ${secret}`,
          ...(body === undefined ? {} : { "content-type": "application/json" }),
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        signal: AbortSignal.timeout(timeoutMs),
      });
      const parsed = (await answer.body.json()) as { error?: string };
      if (answer.statusCode < 400) return parsed;
      throw new HttpProblem(answer.statusCode === 400 || answer.statusCode === 409 ? answer.statusCode : 503, {
        detail: parsed.error,
      });
    } catch (error) {
      if (error instanceof HttpProblem) throw error;
      throw unavailable("supervisor", 1, error);
    }
  };
  return {
    state: async () => (await call("GET", "/state", stateMs)) as ControlState,
    order: (method, path, body) => call(method, path, orderMs, body),
  };
}
