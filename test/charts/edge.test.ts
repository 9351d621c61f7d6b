import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test as testAlways } from "vitest";
import { check, fromDefinitions } from "../../k8s/ha/check.ts";
import { charts, findHelm, type Obj, render, whyNoHelm } from "./helm.ts";
import { findSchemas, KUBERNETES, validator } from "./kubernetes.ts";

const test = testAlways.skipIf(whyNoHelm);
const schemas = findSchemas();
const set = (...values: string[]) => values.flatMap((v) => ["--set", v]);

/** The standard channel's HTTPRoute of sigs.k8s.io/gateway-api at 4564255ac, without descriptions and status. */
const routes = fromDefinitions([readFileSync(new URL("schemas/httproute.json", import.meta.url), "utf8")]);

const INGRESS = set(
  "ingress.enabled=true,ingress.className=nginx,ingress.hosts={api.example.org,www.example.org},ingress.tlsSecret=quartet-tls",
  "ingress.annotations.cert-manager\\.io/cluster-issuer=letsencrypt",
);
const ROUTE = set(
  "httpRoute.enabled=true,httpRoute.hosts={api.example.org}",
  "httpRoute.gateway.name=public,httpRoute.gateway.namespace=gateways,httpRoute.gateway.sectionName=https",
);
const of = (objects: Obj[], kind: string): Obj => objects.find((o) => o.kind === kind);

testAlways.skipIf(whyNoHelm ?? schemas.why).each(KUBERNETES)("an Ingress fits Kubernetes %s", (version) => {
  const ingress = of(render("gateway", INGRESS), "Ingress");
  expect(validator(schemas.folder!, version)(ingress)).toEqual([]);
});

test("an Ingress has TLS for each of its hosts, and leads to the gateway's Service", () => {
  const objects = render("gateway", INGRESS);
  const { metadata, spec } = of(objects, "Ingress");
  expect(metadata.annotations).toEqual({ "cert-manager.io/cluster-issuer": "letsencrypt" });
  expect(spec.tls).toEqual([{ secretName: "quartet-tls", hosts: ["api.example.org", "www.example.org"] }]);
  expect(spec.rules.map((r: Obj) => r.host)).toEqual(spec.tls[0].hosts);
  const { name, port } = spec.rules[0].http.paths[0].backend.service;
  const service = objects.find((o) => o.kind === "Service" && o.metadata.name === name);
  expect(service.spec.ports.map((p: Obj) => p.name)).toContain(port.name);
});

test("a route fits the Gateway API, and leads to the gateway's Service", () => {
  const objects = render("gateway", ROUTE);
  const route = of(objects, "HTTPRoute");
  expect(check(routes, route)).toEqual([]);
  expect(check(routes, { ...route, spec: { ...route.spec, nonsense: 1 } }).join()).toMatch(/nonsense/);
  const [{ name, port }] = route.spec.rules[0].backendRefs;
  const service = objects.find((o) => o.kind === "Service" && o.metadata.name === name);
  expect(service.spec.ports.map((p: Obj) => p.port)).toContain(port);
});

test.each([
  [["ingress.enabled=true"], /ingress\.hosts/],
  [["ingress.enabled=true,ingress.hosts={a.org}"], /ingress\.tlsSecret.*plain text/],
  [["httpRoute.enabled=true"], /httpRoute\.gateway\.name/],
  [["ingress.hosts={http://a.org}"], /hosts/],
])("the gateway refuses %s by name", (values, message) => {
  expect(() => render("gateway", set(...values))).toThrow(message);
});

test("neither is there unless it is asked for", () => {
  const kinds = render("quartet").map((o) => o.kind);
  expect(kinds.filter((kind) => ["Ingress", "HTTPRoute"].includes(kind))).toEqual([]);
});

test.each([
  ["gateway", "service.type", /WARNING.*plain/],
  ["quartet", "gateway.service.type", /WARNING.*plain/],
])("the notes of %s warn of a load balancer in plain text", (chart, value, warning) => {
  // Helm 3 wants a cluster even for this.
  if (execFileSync(findHelm(), ["version", "--short"], { encoding: "utf8" }).startsWith("v3")) return;
  const notes = (type: string) =>
    execFileSync(
      findHelm(),
      ["install", chart, join(charts, chart), "--dry-run=client", "--namespace", "ns", "--set", `${value}=${type}`],
      { env: { ...process.env, KUBECONFIG: "/nonexistent" }, encoding: "utf8", maxBuffer: 64e6, stdio: "pipe" },
    ).split("NOTES:")[1]!;
  expect(notes("LoadBalancer")).toMatch(warning);
  expect(notes("ClusterIP")).not.toMatch(/WARNING/);
});
