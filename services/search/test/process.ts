import type { Identity } from "@quartet/service";
import * as testing from "@quartet/service/testing";

/** A service as its own process, called the way the suites of this folder do: as anybody, or as the service that calls there. */
export interface ServiceProcess extends Omit<testing.ServiceProcess, "call" | "url" | "adminUrl"> {
  get(path: string, headers?: Record<string, string>): Promise<testing.Answer>;
  call(method: string, path: string, body?: unknown, as?: Identity): Promise<testing.Answer>;
}

/** Who asks for this in earnest. */
const callerOf = (path: string): Identity => ({
  kind: "service",
  name: /^\/internal\/(erasures|digests)/.test(path) ? "user" : "gateway",
});

/** Starts `src/main.ts` on free ports and returns once it listens. */
export async function startService(name: string, main: URL, env: Record<string, string>): Promise<ServiceProcess> {
  const service = await testing.startService(name, main, env);
  return {
    get log() {
      return service.log;
    },
    get: (path, headers = {}) => service.call("GET", path, { headers }),
    call: (method, path, body, as = callerOf(path)) => service.call(method, path, { body, as }),
    ready: service.ready,
    stop: service.stop,
    kill: service.kill,
  };
}

/** `eventually` with the patience that Elasticsearch asks for. */
export const eventually: typeof testing.eventually = (look, options) =>
  testing.eventually(look, { withinMs: 180_000, ...options });
