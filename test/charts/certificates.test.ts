import { join } from "node:path";
import { describe as describeAlways, expect, test as testAlways } from "vitest";
import { charts, type Obj, podOf, render, whyNoHelm } from "./helm.ts";
import { findSchemas, KUBERNETES, validator } from "./kubernetes.ts";

const test = testAlways.skipIf(whyNoHelm);
const describe = describeAlways.skipIf(whyNoHelm);
const schemas = findSchemas();
const set = (...values: string[]) => values.flatMap((v) => ["--set", v]);
const ON = set("global.tls.enabled=true");
const BACKUPS = set("user.backup.enabled=true,analytics.backup.enabled=true");
const STORES = ["user", "session", "analytics", "search", "nats"];

const of = (objects: Obj[], kind: string, name: string): Obj =>
  objects.find((o) => o.kind === kind && o.metadata.name === name);
const env = (pod: Obj) =>
  Object.fromEntries(podOf(pod)!.spec.containers[0].env.map((v: Obj) => [v.name, v.value ?? v.valueFrom]));
const job = (objects: Obj[]) =>
  objects.find((o) => o.kind === "Job" && o.metadata.labels["app.kubernetes.io/component"] === "secrets");
/** The Secret of the certificate that a store's pod has, or undefined. */
const certificateOf = (objects: Obj[], part: string) =>
  podOf(of(objects, "StatefulSet", `quartet-${part}-store`))!.spec.volumes.find((v: Obj) => v.name === "tls")?.secret;
const deployments = (objects: Obj[]) => objects.filter((o) => o.kind === "Deployment");

describe("by one value", () => {
  const objects = render("quartet", [...ON, ...BACKUPS]);

  test("each service asks its store and NATS with TLS alone, and believes the release's authority", () => {
    const urls = Object.fromEntries(
      deployments(objects).flatMap((o) => Object.entries(env(o)).filter(([name]) => /^[A-Z]+_URL$/.test(name))),
    );
    expect(urls).toMatchObject({
      POSTGRES_URL: expect.stringMatching(/^postgres:.*@quartet-user-store:5432\/quartet\?sslmode=verify-full$/),
      REDIS_URL: expect.stringMatching(/^rediss:.*@quartet-session-store:6379$/),
      CLICKHOUSE_URL: expect.stringMatching(/^https:.*@quartet-analytics-store:8123\/analytics$/),
      ELASTICSEARCH_URL: expect.stringMatching(/^https:.*@quartet-search-store:9200$/),
      NATS_URL: expect.stringMatching(/^tls:.*@quartet-nats:4222$/),
    });
    for (const o of deployments(objects).filter((o) => !o.metadata.name.includes("gateway"))) {
      expect(env(o).NODE_EXTRA_CA_CERTS, o.metadata.name).toBe("/etc/quartet/ca/ca.crt");
      const volume = podOf(o)!.spec.volumes.find((v: Obj) => v.name === "ca");
      expect(volume.configMap).toEqual({ name: "quartet-authority", items: [{ key: "ca.crt", path: "ca.crt" }] });
    }
    // The gateway asks no store.
    expect(env(of(objects, "Deployment", "quartet-gateway-api")).NODE_EXTRA_CA_CERTS).toBeUndefined();
  });

  test("backups and restores do too", () => {
    const jobs = objects.filter((o) => o.kind === "CronJob");
    expect(jobs).toHaveLength(4);
    for (const o of jobs) {
      const { POSTGRES_URL, CLICKHOUSE_URL, NODE_EXTRA_CA_CERTS, PGSSLROOTCERT } = env(o);
      expect(POSTGRES_URL ?? CLICKHOUSE_URL, o.metadata.name).toMatch(/sslmode=verify-full|^https:/);
      expect([NODE_EXTRA_CA_CERTS, PGSSLROOTCERT]).toEqual(["/etc/quartet/ca/ca.crt", "/etc/quartet/ca/ca.crt"]);
    }
  });

  test("the Job makes a certificate for each server and every name that it is asked by", () => {
    const { CERTIFICATES, AUTHORITY } = env(job(objects));
    const made = JSON.parse(CERTIFICATES);
    expect(AUTHORITY).toBe("quartet-authority");
    expect(Object.keys(made).sort()).toEqual([...STORES].sort().map((part) => `quartet-${part}-tls`));
    for (const o of deployments(objects))
      for (const [name, url] of Object.entries<string>(env(o))) {
        const host = /^(?:postgres|rediss|https|tls):\/\/[^@]*@([\w.-]+):/.exec(String(url))?.[1];
        if (host)
          expect(
            Object.values<Obj>(made).flatMap((c) => c.names),
            name,
          ).toContain(host);
      }
    // It may read what it makes, and whom it signs with.
    const role = objects.find((o) => o.kind === "Role");
    const readable = role.rules.find((r: Obj) => r.resources[0] === "secrets" && r.resourceNames).resourceNames;
    expect(readable).toEqual(expect.arrayContaining([...Object.keys(made), "quartet-authority"]));
  });

  test("no key is anybody's to read but the server's own user's", () => {
    for (const part of STORES)
      expect(certificateOf(objects, part)).toEqual({ secretName: `quartet-${part}-tls`, defaultMode: 0o440 });
    const others = objects.filter((o) => o.kind !== "StatefulSet").flatMap((o) => podOf(o)?.spec.volumes ?? []);
    expect(JSON.stringify(others)).not.toMatch(/-tls"|"quartet-authority","items":\[\{"key":"tls/);
  });

  test("each server takes nothing in plain text", () => {
    const files = (part: string) => of(objects, "ConfigMap", `quartet-${part}-store`).data;
    expect(files("session")["redis.conf"]).toMatch(/^port 0\ntls-port 6379$/m);
    expect(files("user")["pg_hba.conf"].trim().split("\n")).toEqual([
      "local all all trust",
      "hostssl all all all scram-sha-256",
    ]);
    expect(files("analytics")["config.xml"]).toMatch(/<http_port remove="1"\/>\s*<https_port>8123</);
    expect(files("nats")["nats.conf"]).toMatch(/^tls \{\n {2}cert_file/m);
    const search = podOf(of(objects, "StatefulSet", "quartet-search-store"))!.spec.containers[0].env;
    expect(search).toContainEqual({ name: "xpack.security.http.ssl.enabled", value: "true" });
  });

  test("the members of a NATS cluster speak it with each other", () => {
    const three = render("quartet", [...ON, ...set("global.quartet.natsReplicas=3")]);
    expect(of(three, "ConfigMap", "quartet-nats-store").data["nats.conf"]).toMatch(
      /cluster \{\n {2}tls \{[^}]*ca_file/,
    );
    const { names } = JSON.parse(env(job(three)).CERTIFICATES)["quartet-nats-tls"];
    for (const i of [0, 1, 2]) expect(names).toContain(`quartet-nats-store-${i}.quartet-nats-store`);
  });

  testAlways.skipIf(whyNoHelm ?? schemas.why).each(KUBERNETES)("every object fits Kubernetes %s", (version) => {
    const core = objects.filter((o) => !o.apiVersion.includes("monitoring"));
    expect(core.flatMap(validator(schemas.folder!, version))).toEqual([]);
  });
});

test("without it nothing is another than before", () => {
  const objects = render("quartet", BACKUPS);
  expect(JSON.stringify(objects)).not.toMatch(/quartet\/tls|quartet-authority|rediss:|sslmode|-tls"/);
});

test("a part may be left out, and a server that cannot is refused by name", () => {
  const objects = render("quartet", [...ON, ...set("global.tls.except={user,nats}")]);
  expect(certificateOf(objects, "user")).toBeUndefined();
  const user = env(of(objects, "Deployment", "quartet-user-api"));
  expect([user.NATS_URL, user.POSTGRES_URL, user.NODE_EXTRA_CA_CERTS]).toEqual([
    expect.stringMatching(/^nats:/),
    expect.not.stringContaining("sslmode"),
    undefined,
  ]);
  expect(env(of(objects, "Deployment", "quartet-session-api")).REDIS_URL).toMatch(/^rediss:/);
  const open = set("search.store.standalone.security.enabled=false");
  expect(() => render("quartet", [...ON, ...open])).toThrow(/global\.tls\.except=\{search\}/);
  expect(() => render("quartet", [...ON, ...set("global.tls.except={gateway}")])).toThrow(/except/);
});

test("an authority that exists signs; cert-manager or anybody else makes the certificates instead", () => {
  const given = render("quartet", [...ON, ...set("global.tls.authority=company")]);
  expect(env(job(given)).AUTHORITY).toBe("company");
  const issued = render("quartet", [
    ...ON,
    ...set("global.tls.issuerRef.name=internal,global.tls.issuerRef.kind=ClusterIssuer"),
  ]);
  expect(env(job(issued)).CERTIFICATES).toBeUndefined();
  const certificates = issued.filter((o) => o.kind === "Certificate");
  expect(certificates.map((o) => o.spec.secretName).sort()).toEqual(
    [...STORES].sort().map((part) => `quartet-${part}-tls`),
  );
  for (const { spec } of certificates) {
    expect(spec.issuerRef).toEqual({ name: "internal", kind: "ClusterIssuer", group: "cert-manager.io" });
    expect(spec.dnsNames).toContain("localhost");
  }
  // Each believes the one authority of them all, by the Secret of its own store.
  const ca = podOf(of(issued, "Deployment", "quartet-search-api"))!.spec.volumes.find((v: Obj) => v.name === "ca");
  expect(ca.secret).toEqual({ secretName: "quartet-search-tls", items: [{ key: "ca.crt", path: "ca.crt" }] });
  const mine = render("quartet", [...ON, ...set("global.tls.existingSecrets.nats=broker-tls")]);
  expect(certificateOf(mine, "nats").secretName).toBe("broker-tls");
  expect(JSON.parse(env(job(mine)).CERTIFICATES)["quartet-nats-tls"]).toBeUndefined();
});

test("several authorities are one file for the process, also beside an external store's own", () => {
  const objects = render("quartet", [...ON, "-f", join(charts, "quartet/values-ha.yaml"), ...BACKUPS]);
  const user = podOf(of(objects, "Deployment", "quartet-user-relay"))!.spec;
  const sources = user.volumes.find((v: Obj) => v.name === "ca").projected.sources;
  expect(sources).toEqual([
    { configMap: { name: "quartet-authority", items: [{ key: "ca.crt", path: "0.crt" }] } },
    { secret: { name: "quartet-postgres-ca", items: [{ key: "ca.crt", path: "1.crt" }] } },
  ]);
  const [container] = user.containers;
  expect(container.env).toContainEqual({ name: "NODE_EXTRA_CA_CERTS", value: "/tmp/authorities.crt" });
  expect(container.command.slice(-2)).toEqual(["node", "services/user/src/main.ts"]);
  expect(container.command[2]).toContain("/etc/quartet/ca/*.crt");
  const backup = podOf(of(objects, "CronJob", "quartet-user-backup"))!.spec.containers[0];
  expect(backup.command.slice(0, 2)).toEqual(["sh", "-c"]);
});

test("charts installed alone share an authority by its name", () => {
  const authority = set("global.tls.authority=shop-authority");
  for (const chart of ["user", "session", "analytics", "search", "nats"]) {
    const { AUTHORITY, CERTIFICATES } = env(job(render(chart, [...ON, ...authority])));
    expect([AUTHORITY, Object.keys(JSON.parse(CERTIFICATES))]).toEqual(["shop-authority", [`${chart}-tls`]]);
  }
  expect(env(job(render("user", [...ON, ...set("identity.system=shop")]))).AUTHORITY).toBe("shop-authority");
});
