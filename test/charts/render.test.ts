import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { describe, expect, test as testAlways } from "vitest";
import { charts, findHelm, madeByJobs, type Obj, podOf, render, whyNoHelm } from "./helm.ts";
import { findSchemas, KUBERNETES, validator } from "./kubernetes.ts";

const test = testAlways.skipIf(whyNoHelm);
const schemas = findSchemas();
for (const why of [whyNoHelm, schemas.why]) if (why) testAlways.skip(why);

const all = ["user", "session", "analytics", "search"].flatMap((s) => ["--set", `${s}.serviceMonitor.enabled=true`]);
const backups = ["--set", "user.backup.enabled=true,analytics.backup.enabled=true"];
const hpa = ["--set", "user.roles.api.hpa.enabled=true"];
const external = ["--set", "store.mode=external,store.external.existingSecret=given,caSecret=authority"];
const values = (...names: string[]) => names.flatMap((name) => ["-f", join(charts, name)]);
const SERVICES = ["user", "session", "analytics", "search"];

/** All that the chart of dashboards and alerts can make. */
const observed = (at: string) =>
  ["prometheus", "grafana", "prometheusRule", "serviceMonitor"].flatMap((part) => [
    "--set",
    `${at}${part}.enabled=true`,
  ]);

/** Every chart, mode and profile: name, chart, arguments. */
const CASES: [string, string, string[]][] = [
  ...[...SERVICES, "gateway", "nats"].map((c): [string, string, string[]] => [c, c, []]),
  ...[...SERVICES, "gateway"].map((c): [string, string, string[]] => [`${c}, one process`, c, ["--set", "mode=all"]]),
  ...SERVICES.map((c): [string, string, string[]] => [`${c}, external store`, c, external]),
  ["nats, three members", "nats", ["--set", "replicas=3"]],
  ["observability", "observability", observed("")],
  ["quartet with observability", "quartet", ["--set", "observability.enabled=true", ...observed("observability.")]],
  ["quartet", "quartet", []],
  ["quartet with all options", "quartet", [...all, ...backups, ...hpa]],
  ["quartet, light", "quartet", values("quartet/values-light.yaml")],
  ["quartet, high availability", "quartet", values("quartet/values-ha.yaml")],
  ["quartet without a registry", "quartet", values("quartet/values-light.yaml", "../k8s/lab-values.yaml")],
];

const validators: Record<string, ReturnType<typeof validator>> = {};

/** Groups and versions that no supported Kubernetes is about to drop. */
const CURRENT = new Set(
  "v1 apps/v1 batch/v1 policy/v1 rbac.authorization.k8s.io/v1 autoscaling/v2 networking.k8s.io/v1 monitoring.coreos.com/v1".split(
    " ",
  ),
);

const matches = (labels: Record<string, string> = {}, selector: Record<string, string> = {}) =>
  Object.entries(selector).every(([key, value]) => labels[key] === value);

describe.each(CASES)("%s", (_name, chart, args) => {
  const objects = render(chart, args);
  const pods = objects.flatMap((o) => podOf(o) ?? []);

  test("every pod satisfies Pod Security restricted, with a read-only root and no account token", () => {
    expect(pods.length).toBeGreaterThan(0);
    for (const { name, spec } of pods) {
      expect(spec.securityContext, name).toMatchObject({
        runAsNonRoot: true,
        seccompProfile: { type: "RuntimeDefault" },
      });
      expect(spec.securityContext.runAsUser, name).toBeGreaterThan(0);
      expect(spec.automountServiceAccountToken, name).toBe(false);
      expect(spec.hostNetwork ?? spec.hostPID ?? spec.hostIPC, name).toBeUndefined();
      for (const volume of spec.volumes ?? []) expect(volume, name).not.toHaveProperty("hostPath");
      for (const container of [...(spec.initContainers ?? []), ...spec.containers]) {
        expect(container.securityContext, name).toMatchObject({
          allowPrivilegeEscalation: false,
          readOnlyRootFilesystem: true,
          capabilities: { drop: ["ALL"] },
        });
      }
    }
  });

  test("every container has a pinned image, requests, and a memory limit", () => {
    for (const { name, spec } of pods) {
      for (const container of [...(spec.initContainers ?? []), ...spec.containers]) {
        expect(container.image, name).toMatch(/^[^\s:]+(:\d+)?[^\s:]*:[\w.-]+(@sha256:[0-9a-f]{64})?$/);
        expect(container.image, name).not.toMatch(/:latest$/);
        expect(container.resources, name).toMatchObject({
          requests: { cpu: expect.any(String), memory: expect.any(String) },
          limits: { memory: expect.any(String) },
        });
      }
    }
  });

  test("what runs for ever has three probes", () => {
    for (const o of objects.filter((o) => ["Deployment", "StatefulSet"].includes(o.kind))) {
      for (const container of o.spec.template.spec.containers) {
        for (const probe of ["startupProbe", "readinessProbe", "livenessProbe"]) {
          expect(container[probe], `${o.metadata.name} ${probe}`).toBeDefined();
        }
      }
    }
  });

  testAlways.skipIf(whyNoHelm ?? schemas.why).each(KUBERNETES)(
    "every object fits Kubernetes %s, strictly",
    (version) => {
      validators[version] ??= validator(schemas.folder!, version);
      const valid = validators[version];
      const core = objects.filter((o) => !o.apiVersion.startsWith("monitoring.coreos.com/"));
      expect(core.flatMap(valid)).toEqual([]);
    },
  );

  test("no object has an API that is on its way out, and no two have one name", () => {
    for (const o of objects) expect(CURRENT, `${o.kind} ${o.apiVersion}`).toContain(o.apiVersion);
    const names = objects.map((o) => `${o.kind}/${o.metadata.name}`);
    expect(names).toEqual([...new Set(names)]);
  });

  test("every policy, Service and budget is about pods that exist; every pod is covered both ways", () => {
    const labels = pods.map((pod) => pod.labels ?? {});
    // A test pod is an object itself, so its labels are its own.
    const selects = (o: Obj) =>
      o.kind === "NetworkPolicy"
        ? o.spec.podSelector.matchLabels
        : o.kind === "Service"
          ? o.spec.selector
          : o.kind === "PodDisruptionBudget"
            ? o.spec.selector.matchLabels
            : undefined;
    for (const o of objects) {
      const selector = selects(o);
      // The message broker has a policy for a test that a later chart may bring.
      if (!selector || selector["quartet/test"] === "nats") continue;
      expect(
        labels.some((l) => matches(l, selector)),
        `${o.kind}/${o.metadata.name} selects nothing`,
      ).toBe(true);
    }
    const policies = objects.filter((o) => o.kind === "NetworkPolicy");
    for (const policy of policies) expect(policy.spec.policyTypes).toEqual(["Ingress", "Egress"]);
    for (const { name, labels: l } of pods) {
      expect(
        policies.some((p) => matches(l, p.spec.podSelector.matchLabels)),
        `${name} has no policy`,
      ).toBe(true);
    }
  });
});

test("in the umbrella every peer that a policy names is a pod of the release", () => {
  const objects = render("quartet", backups);
  const labels = objects.flatMap((o) => (podOf(o) ? [podOf(o)!.labels] : []));
  for (const policy of objects.filter((o) => o.kind === "NetworkPolicy")) {
    const rules = [...(policy.spec.ingress ?? []), ...(policy.spec.egress ?? [])];
    for (const peer of rules.flatMap((rule) => [...(rule.from ?? []), ...(rule.to ?? [])])) {
      const selector = peer.podSelector?.matchLabels;
      if (!selector || selector["app.kubernetes.io/name"] === "prometheus" || selector["quartet/test"] === "nats")
        continue;
      expect(
        labels.some((l) => matches(l, selector)),
        `${policy.metadata.name} names ${JSON.stringify(selector)}`,
      ).toBe(true);
    }
  }
});

test("a service knows by which schedule its backups are made, and for how long they are kept", () => {
  const known = (args: string[], kind: string) =>
    render("quartet", args)
      .filter((o) => o.kind === kind && /-(user|analytics)-/.test(o.metadata.name))
      .map((o) => (o.spec.jobTemplate ?? o).spec.template.spec.containers[0].env as { name: string; value: string }[])
      .map((env) => Object.fromEntries(env.map(({ name, value }) => [name, value])))
      .map(({ BACKUP_SCHEDULE, BACKUP_RETENTION_DAYS }) => [BACKUP_SCHEDULE, BACKUP_RETENTION_DAYS]);
  for (const kind of ["Deployment", "CronJob"]) {
    const all = known([...backups, "--set", "user.backup.retentionDays=14"], kind);
    expect(all).toEqual(all.map(() => ["17 3 * * *", "14"]));
    expect(all.length).toBeGreaterThan(3);
  }
  for (const one of known([], "Deployment")) expect(one).toEqual([undefined, undefined]);
});

test("only the service itself and its backups may connect to its store", () => {
  const objects = render("quartet");
  for (const service of SERVICES) {
    const policy = objects.find((o) => o.kind === "NetworkPolicy" && o.metadata.name === `quartet-${service}-store`);
    const from = policy.spec.ingress.flatMap((rule: Obj) => rule.from);
    const instance = { "app.kubernetes.io/instance": "quartet" };
    expect(from).toEqual([{ podSelector: { matchLabels: { "quartet/service": service, ...instance } } }]);
    expect(policy.spec.egress).toBeUndefined();
  }
});

test("the environment names Services that the release has, and keys of Secrets that its Job makes", () => {
  const objects = render("quartet");
  const services = new Set(objects.filter((o) => o.kind === "Service").map((o) => o.metadata.name));
  const { secrets } = madeByJobs(objects);
  for (const { name, spec } of objects.flatMap((o) => podOf(o) ?? [])) {
    for (const variable of [...(spec.initContainers ?? []), ...spec.containers].flatMap((c: Obj) => c.env ?? [])) {
      const secret = variable.valueFrom?.secretKeyRef;
      if (secret) expect(secrets[secret.name], `${name} ${variable.name}`).toContain(secret.key);
      const host = /^\w+:\/\/(?:[^@/]*@)?([\w-]+)/.exec(variable.value ?? "")?.[1];
      if (host && variable.name.endsWith("_URL")) expect(services, `${name} ${variable.name}`).toContain(host);
    }
  }
});

test("no Secret is made where one is given", () => {
  for (const service of SERVICES) {
    const given = render(service, [
      ...external,
      "--set",
      "identity.existingSecret=own,identity.existingConfigMap=shared,nats.existingSecret=broker",
    ]);
    expect(given.filter((o) => ["StatefulSet", "Role", "Job"].includes(o.kind))).toEqual([]);
    const [container] = podOf(given.find((o) => o.kind === "Deployment"))!.spec.containers;
    const used = container.env.flatMap((v: Obj) => v.valueFrom?.secretKeyRef?.name ?? []);
    expect(new Set(used)).toEqual(new Set(["own", "broker", "given"]));
    expect(container.env).toContainEqual({ name: "NODE_EXTRA_CA_CERTS", value: "/etc/quartet/ca/ca.crt" });
  }
  expect(() => render("user", ["--set", "identity.existingConfigMap=shared"])).toThrow(/identity\.existingSecret/);
  expect(() => render("quartet", ["--set", "nats.auth.existingSecret=broker"])).toThrow(/\.nats\.existingSecret/);
});

const DIGEST = `sha256:${"0123456789abcdef".repeat(4)}`;
const elsewhere = [
  "global.ipFamilyPolicy=PreferDualStack,global.ipFamilies={IPv6,IPv4},global.dnsPort=5353",
  "global.dnsPeers[0].ipBlock.cidr=169.254.20.10/32",
  `user.image.digest=${DIGEST}`,
].flatMap((s) => ["--set", s]);

test("in a network of IPv6, with another DNS, everything listens on it, and nothing else is let out", () => {
  const objects = render("quartet", [...elsewhere, ...backups]);
  const deployments = objects.filter((o) => o.kind === "Deployment");
  for (const { spec } of deployments.flatMap((o) => podOf(o)!))
    expect(spec.containers[0].env).toContainEqual({ name: "HOST", value: "::" });
  for (const o of objects.filter((o) => o.kind === "Service")) {
    expect(o.spec.ipFamilyPolicy, o.metadata.name).toBe("PreferDualStack");
    expect(o.spec.ipFamilies, o.metadata.name).toEqual(["IPv6", "IPv4"]);
  }
  const egress = objects.filter((o) => o.kind === "NetworkPolicy").flatMap((o) => o.spec.egress ?? []);
  const dns = egress.filter((rule: Obj) => rule.ports.some((p: Obj) => p.protocol === "UDP"));
  expect(dns.length).toBeGreaterThan(5);
  for (const rule of dns) {
    expect(rule.to).toEqual([{ ipBlock: { cidr: "169.254.20.10/32" } }]);
    expect(rule.ports.map((p: Obj) => p.port)).toEqual([5353, 5353]);
  }
  const config = objects.find((o) => o.kind === "ConfigMap" && o.metadata.name === "quartet-analytics-store").data;
  expect(config["config.xml"]).toMatch(/<listen_host>::<.*\n.*0\.0\.0\.0.*\n.*<listen_try>1</);
});

test("with IPv6 alone nothing binds or asks for an IPv4 address, and Prometheus asks for the other records", () => {
  const objects = render("quartet", [
    ...["--set", "global.ipFamilies={IPv6},observability.enabled=true"],
    ...observed("observability."),
    ...backups,
  ]);
  const services = objects.filter((o) => o.kind === "Service");
  for (const o of services) expect(o.spec.ipFamilies, o.metadata.name).toEqual(["IPv6"]);
  const pods = JSON.stringify(objects.flatMap((o) => podOf(o)?.spec ?? []));
  expect(pods).not.toMatch(/0\.0\.0\.0|127\.0\.0\.1/);
  const scraped = (text: string) => [...text.matchAll(/type: (A+),/g)].map((match) => match[1]);
  const config = (all: Obj[]) =>
    all.find((o) => o.kind === "ConfigMap" && o.metadata.name === "quartet-observability-prometheus").data[
      "prometheus.yml"
    ];
  expect(new Set(scraped(config(objects)))).toEqual(new Set(["AAAA"]));
  // Where the cluster chooses there is one family, and it may be either.
  const usual = render("quartet", ["--set", "observability.enabled=true", ...observed("observability.")]);
  expect(new Set(scraped(config(usual)))).toEqual(new Set(["A", "AAAA"]));
  expect(() => render("user", ["--set", "global.ipFamilies={IPv4,IPv6}"])).toThrow(/global\.ipFamilyPolicy/);
});

test("an image has the digest that is said, and an external store may have an IPv6 address", () => {
  const objects = render("quartet", elsewhere);
  for (const o of objects.filter((o) => o.kind === "Deployment" && o.metadata.name.startsWith("quartet-user-")))
    expect(podOf(o)!.spec.containers[0].image).toMatch(new RegExp(`^quartet/user:[^@]+@${DIGEST}$`));
  expect(() => render("user", ["--set", "image.digest=sha256:abc"])).toThrow(/digest/);
  const policies = render("user", external).filter((o) => o.kind === "NetworkPolicy");
  expect(JSON.stringify(policies)).toContain('"::/0"');
});

test("only APIs scale by load; of a projector there is one, also in the profile for high availability", () => {
  for (const service of SERVICES) {
    for (const role of ["relay", "projector", "all"])
      expect(() => render(service, ["--set", `roles.${role}.hpa.enabled=true`])).toThrow(/hpa|roles/);
  }
  const objects = render("quartet", values("quartet/values-ha.yaml"));
  const projectors = objects.filter((o) => o.kind === "Deployment" && o.metadata.name.endsWith("-projector"));
  expect(projectors.map((o) => o.spec.replicas)).toEqual([1, 1, 1]);
  const scaled = objects.filter((o) => o.kind === "HorizontalPodAutoscaler").map((o) => o.metadata.name);
  expect(scaled.sort()).toEqual(["analytics", "gateway", "search", "session", "user"].map((s) => `quartet-${s}-api`));
});

test("the memory limits of the light profile add up to less than 5 GiB", () => {
  const mib = (s: string) => (s.endsWith("Gi") ? 1024 : 1) * Number.parseInt(s, 10);
  const running = render("quartet", values("quartet/values-light.yaml")).filter((o) =>
    ["Deployment", "StatefulSet"].includes(o.kind),
  );
  const sum = running
    .flatMap((o) => o.spec.template.spec.containers.map((c: Obj) => mib(c.resources.limits.memory)))
    .reduce((a: number, b: number) => a + b, 0);
  expect(sum).toBeLessThan(5 * 1024);
});

test.each([
  ["user", "mode=both", /mode/],
  ["user", "roles.api.replicas=many", /replicas/],
  ["user", "store.mode=cloud", /mode/],
  ["user", "replcas=2", /replcas/],
  ["session", "image.pullPolicy=Sometimes", /pullPolicy/],
  ["analytics", "image.tag=latest", /tag/],
  ["search", "store.standalone.security.enabled=perhaps", /enabled/],
  ["gateway", "service.nodePort=80", /nodePort/],
  ["nats", "replicas=2", /replicas/],
  ["quartet", "sesion.mode=all", /sesion/],
  ["quartet", "search.logLevel=loud", /logLevel/],
])("%s refuses %s by name", (chart, value, name) => {
  expect(() => render(chart, ["--set", value])).toThrow(name);
});

test("limits reach every process of a service, and a variable that `env` names wins", () => {
  const variables = (chart: string, ...settings: string[]) =>
    render(
      chart,
      settings.flatMap((setting) => ["--set", setting]),
    )
      .filter((o) => o.kind === "Deployment")
      .map((o) => o.spec.template.spec.containers[0].env as { name: string; value?: string }[]);
  const expected = {
    analytics: { QUERY_CONCURRENCY: "2", HEAVY_QUERY_CONCURRENCY: "1", QUERY_MEMORY_MIB: "384", MAX_WAITING: "70000" },
    session: { MAX_WAITING: "70000", SESSIONS_PER_USER: "100" },
    search: { MAX_WAITING: "70000" },
  };
  for (const [chart, wanted] of Object.entries(expected)) {
    for (const env of variables(chart, "limits.waiting=7000", "env.MAX_WAITING=70000")) {
      expect(Object.fromEntries(env.map(({ name, value }) => [name, value]))).toMatchObject(wanted);
      expect(new Set(env.map(({ name }) => name)).size, chart).toBe(env.length);
    }
  }
});

test("an external store without a Secret is refused by name", () => {
  expect(() => render("user", ["--set", "store.mode=external"])).toThrow(/store\.external\.existingSecret/);
});

test.each([...SERVICES, "gateway", "nats", "quartet"])("helm lint finds nothing in %s", (chart) => {
  execFileSync(findHelm(), ["lint", "--strict", "--quiet", "--kube-version", "1.34.0", join(charts, chart)], {
    stdio: "pipe",
  });
});

testAlways("schemas and pages are what values.yaml says", () => {
  execFileSync(process.execPath, [join(charts, "generate.ts"), "--check"], { stdio: "pipe" });
});

test("identity: each process is given its own key and nobody else's, and a Job makes what is absent", () => {
  const objects = render("quartet");
  const uses = objects
    .filter((o) => o.kind === "Deployment")
    .map((o) => {
      const env: Obj[] = podOf(o)!.spec.containers[0].env;
      const service = podOf(o)!.labels["quartet/service"];
      const secret = env.find((v) => v.name === "IDENTITY_KEYS")!.valueFrom.secretKeyRef;
      const map = env.find((v) => v.name === "IDENTITY_PUBLIC_KEYS")!.valueFrom.configMapKeyRef;
      return { service, secret: secret.name, map: map.name };
    });
  for (const { service, secret, map } of uses) {
    expect([secret, map]).toEqual([`quartet-identity-${service}`, "quartet-identity"]);
  }
  expect(new Set(uses.map((u) => u.service))).toEqual(new Set(["user", "session", "analytics", "search", "gateway"]));
  const { secrets, configMaps } = madeByJobs(objects);
  expect(Object.keys(secrets)).toEqual(expect.arrayContaining(uses.map((u) => u.secret)));
  expect(configMaps).toEqual(["quartet-identity"]);
  // Alone, a chart makes its own key; those of one system meet in one ConfigMap.
  for (const service of SERVICES) {
    const alone = madeByJobs(render(service, ["--set", "identity.system=shop"]));
    expect(alone.secrets).toEqual({
      [`${service}-store`]: expect.arrayContaining(["password"]),
      [`shop-identity-${service}`]: ["keys.json"],
    });
    expect(alone.configMaps).toEqual(["shop-identity"]);
  }
});
