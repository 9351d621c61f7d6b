import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe as describeAlways, expect, test as testAlways } from "vitest";
import { parse } from "yaml";
import { check, fromDefinitions, isForeign, manifests } from "../../k8s/ha/check.ts";
import { charts, type Obj, podOf, render, whyNoHelm } from "./helm.ts";
import { findSchemas, KUBERNETES, validator } from "./kubernetes.ts";

const describe = describeAlways.skipIf(whyNoHelm);
const test = testAlways.skipIf(whyNoHelm);
const folder = join(charts, "../k8s/ha");
const read = (file: string) => readFileSync(join(folder, file), "utf8");
const objects = manifests();
const found = findSchemas();

/** The schemas kept here, and the operators' whole definitions where QUARTET_CRDS names a folder with them. */
function schemas(): [string, Map<string, Obj>][] {
  const own = readdirSync(join(folder, "schemas")).map((file): [string, Obj] => {
    const schema = JSON.parse(read(join("schemas", file)));
    return [schema.title, schema];
  });
  const given = process.env.QUARTET_CRDS;
  const whole = given && readdirSync(given).map((file) => readFileSync(join(given, file), "utf8"));
  return [
    ["of this repository", new Map(own)],
    ...(whole ? [["of QUARTET_CRDS", fromDefinitions(whole)] as [string, Map<string, Obj>]] : []),
  ];
}

describeAlways.skipIf(whyNoHelm ?? found.why)("the manifests", () => {
  const version = KUBERNETES[1];
  const definitions = () => [
    JSON.parse(readFileSync(join(found.folder!, `v${version}.0-local-strict/_definitions.json`), "utf8")),
  ];

  test.each(schemas())("fit the operators' schemas %s", (_which, known) => {
    const foreign = objects.filter((o) => isForeign(o.object));
    expect(foreign.length).toBe(4);
    for (const { object } of foreign) {
      expect(check(known, object, definitions())).toEqual([]);
      // The schemas are strict: they notice what is wrong.
      expect(check(known, { ...object, spec: { ...object.spec, nonsense: 1 } }, definitions()).join()).toMatch(
        /nonsense/,
      );
    }
    const [cluster] = foreign.filter((o) => o.object.kind === "Cluster");
    const wrong = { ...cluster!.object, spec: { ...cluster!.object.spec, instances: "three" } };
    expect(check(known, wrong, definitions()).join()).toMatch(/instances must be integer/);
  });

  test.each(KUBERNETES)("and the namespace fit Kubernetes %s", (kubernetes) => {
    const valid = validator(found.folder!, kubernetes);
    const namespace = render("quartet", ["-f", join(charts, "quartet/values-ha.yaml")]);
    for (const { object } of objects.filter((o) => !isForeign(o.object))) expect(valid(object)).toEqual([]);
    expect(namespace.flatMap(valid)).toEqual([]);
  });
});

const STORES = { user: "postgres", session: "redis", analytics: "clickhouse", search: "elasticsearch" } as const;

describe.each(Object.entries(STORES))("%s at the store of k8s/ha", (service, store) => {
  const values = ["-f", join(folder, `values-${store}.yaml`)];
  const rendered = render("quartet", values);
  const mine = rendered.filter((o) => o.metadata.name.startsWith(`quartet-${service}`));

  test("brings no store, and trusts the authority of that one", () => {
    expect(mine.filter((o) => o.kind === "StatefulSet")).toEqual([]);
    const pods = mine.flatMap((o) => (o.kind === "Deployment" ? podOf(o)! : []));
    expect(pods.length).toBeGreaterThan(0);
    for (const { spec } of pods) {
      const ca = spec.volumes.find((v: Obj) => v.name === "ca");
      expect(ca.secret.items).toEqual([{ key: "ca.crt", path: "ca.crt" }]);
      expect(spec.containers[0].env).toContainEqual({ name: "NODE_EXTRA_CA_CERTS", value: "/etc/quartet/ca/ca.crt" });
    }
  });

  test("takes Secrets that the script or the operator makes", () => {
    const byOperator = ["quartet-postgres-ca", "quartet-es-http-certs-public"];
    const { [service]: own } = parse(read(`values-${store}.yaml`));
    const made = (name: string) =>
      byOperator.includes(name) || new RegExp(`(generic|certificate) ${name} `).test(read("secrets.sh"));
    for (const name of [own.store.external.existingSecret, own.caSecret]) expect(made(name), name).toBe(true);
  });

  test("and they let each other through their policies", () => {
    const admits = objects.find(
      (o) => o.object.metadata.name === `quartet-${store}` && o.object.kind === "NetworkPolicy",
    )!.object;
    const client = rendered.find((o) => o.kind === "NetworkPolicy" && o.metadata.name === `quartet-${service}`);
    const to = client.spec.egress.filter((rule: Obj) =>
      rule.to?.some((peer: Obj) => JSON.stringify(peer.podSelector) === JSON.stringify(admits.spec.podSelector)),
    );
    const ports = to.flatMap((rule: Obj) => rule.ports.map((p: Obj) => p.port));
    expect(ports.length).toBeGreaterThan(0);
    const open = admits.spec.ingress
      .filter((rule: Obj) => rule.from.some((p: Obj) => p.podSelector?.matchLabels?.["quartet/service"] === service))
      .flatMap((rule: Obj) => rule.ports.map((p: Obj) => p.port));
    expect(open).toEqual(expect.arrayContaining(ports));
  });
});

test("the profile for high availability says of each store what its own values file says", () => {
  const profile = parse(readFileSync(join(charts, "quartet/values-ha.yaml"), "utf8"));
  for (const store of [...Object.values(STORES), "nats"])
    expect(profile).toMatchObject(parse(read(`values-${store}.yaml`)));
});

test("with three NATS servers there are three of every stream", () => {
  const rendered = render("quartet", ["-f", join(folder, "values-nats.yaml")]);
  expect(rendered.find((o) => o.metadata.name === "quartet-nats-store" && o.kind === "StatefulSet").spec.replicas).toBe(
    3,
  );
  for (const o of rendered.filter((o) => o.kind === "Deployment" && o.metadata.name.startsWith("quartet-user-")))
    expect(podOf(o)!.spec.containers[0].env).toContainEqual({ name: "NATS_REPLICAS", value: "3" });
});
