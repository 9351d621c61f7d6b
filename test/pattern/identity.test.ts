import { readFileSync } from "node:fs";
import { join } from "node:path";
import { IDENTITY_HOLDERS, type Identities, type IdentityHolder } from "@quartet/contracts";
import type { Identity } from "@quartet/service";
import { keyringOf } from "@quartet/service/testing";
import { describe, expect, it } from "vitest";
import { home, runFile } from "../lib/system.ts";

const root = new URL("../..", import.meta.url).pathname;
const services = ["user", "session", "analytics", "search"] as const;

interface Route {
  service: (typeof services)[number];
  method: string;
  path: string;
  callers: string[];
}

/** The internal routes as the sources have them; one that names no callers is a failure here. */
function routesOf(service: Route["service"]): Route[] {
  const shared = ["activity", "rebuild"].map((name) => `packages/service/src/${name}.ts`);
  const files = [`services/${service}/src/http/internal.ts`, ...(service === "user" ? shared.slice(0, 1) : shared)];
  return files.flatMap((file) => {
    const source = readFileSync(join(root, file), "utf8");
    return [...source.matchAll(/app\.(get|post|put|patch|delete)\("(\/internal[^"]*)",\s*(onlyFor\(([^)]*)\))?/g)].map(
      ([, method, path, named, callers]) => {
        expect(named, `${file}: ${method} ${path} names its callers`).toBeDefined();
        return { service, method: method!.toUpperCase(), path: path!, callers: JSON.parse(`[${callers}]`) };
      },
    );
  });
}

const identities = (): Identities =>
  JSON.parse(readFileSync(join(home as string, "credentials.json"), "utf8")).identity as Identities;

async function send({ service, method, path }: Route, token: string | undefined): Promise<Response> {
  const url = `http://127.0.0.1:${runFile().services[service].port}${path.replace(/:\w+/g, "0")}`;
  const headers = token === undefined ? {} : { "Quartet-Identity": token };
  return fetch(url, { method, headers });
}
const call = async (route: Route, token?: string) => (await send(route, token)).status;
/** Whether it is the identity that is refused, and not what was asked. */
const believes = async (route: Route, token: string) =>
  !(await (await send(route, token)).text()).includes("the identity of the caller is not valid");

describe.skipIf(!home)("a service that is taken over can do what it could do before, and no more", () => {
  it("each service's key on every internal route of every other: in only where it calls", async () => {
    const routes = services.flatMap(routesOf);
    expect(routes.length).toBeGreaterThan(25);
    for (const route of routes) {
      const at = `${route.service} ${route.method} ${route.path}`;
      expect(await call(route, undefined), `${at} by nobody`).toBe(401);
      for (const name of IDENTITY_HOLDERS) {
        const status = await call(route, keyringOf(name, identities()).sign({ kind: "service", name }, route.service));
        // What may call is tried where that changes nothing.
        if (!route.callers.includes(name)) expect(status, `${at} by ${name}`).toBe(403);
        else if (route.method === "GET") expect([401, 403], `${at} by ${name}`).not.toContain(status);
      }
    }
  });

  it("nobody but the gateway says who a person is, or that somebody is the operator", async () => {
    const said: Identity[] = [
      { kind: "operator" },
      { kind: "user", userId: "0198c0de-0000-7000-8000-000000000000", sessionId: "s" },
    ];
    for (const service of services) {
      const path = {
        user: "/v1/users/x",
        session: "/v1/sessions",
        analytics: "/v1/analytics/top",
        search: "/v1/search",
      };
      const route: Route = { service, method: "GET", path: path[service], callers: [] };
      for (const name of IDENTITY_HOLDERS) {
        for (const identity of said) {
          const token = keyringOf(name as IdentityHolder, identities()).sign(identity, service);
          const at = `${service} by ${name} as ${identity.kind}`;
          expect(await believes(route, token), at).toBe(name === "gateway");
        }
      }
    }
  });
});
