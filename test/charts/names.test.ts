import { describe, expect, test as testAlways } from "vitest";
import { madeByJobs, type Obj, podOf, render, whyNoHelm } from "./helm.ts";

const test = testAlways.skipIf(whyNoHelm);

const PARTS = ["user", "session", "analytics", "search", "gateway", "nats"];
const STORES = ["user", "session", "analytics", "search", "nats"];
/** Everything that makes an object. */
const ALL = [
  "observability.enabled=true,observability.prometheus.enabled=true,observability.grafana.enabled=true",
  "observability.prometheusRule.enabled=true,observability.serviceMonitor.enabled=true",
  "user.backup.enabled=true,analytics.backup.enabled=true",
  ...["user", "session", "analytics", "search", "gateway"].map(
    (s) => `${s}.roles.api.hpa.enabled=true,${s}.serviceMonitor.enabled=true,${s}.prometheusRule.enabled=true`,
  ),
].flatMap((s) => ["--set", s]);

/** As long as asked, with a dash wherever a name might be cut; Helm takes no release that ends in one. */
const long = (length: number, seed = "ab-") => seed.repeat(54).slice(0, length).replace(/-+$/, "z");

const RELEASES = [
  ..."quartet q user my-session nats gateway observability research donatsu user-analytics quartet-user".split(" "),
  "user-session-analytics-search-gateway-nats",
  "analytics-of-every-user-session-and-search-at-nats-gw",
  ...[30, 35, 36, 37, 40, 41, 44, 45, 46, 49, 52, 53].map((n) => long(n)),
  ...[38, 41, 50, 53].map((n) => long(n, "a--")),
  ...[41, 53].map((n) => long(n, "user-")),
];

/** How long a name may be, where it is less than the 253 characters of every object: what the API or a controller makes a label or a host of. */
const LONGEST: Record<string, number> = {
  Service: 63, // a host name
  Job: 63, // the label job-name
  StatefulSet: 52, // the label controller-revision-hash has eleven characters more
  CronJob: 52, // a Job of it has eleven more
  Deployment: 63,
  Pod: 63,
};

const unique = (objects: Obj[]) => objects.map((o) => `${o.kind}/${o.metadata.name}`);

function wrong(objects: Obj[]): string[] {
  const found: string[] = [];
  for (const o of objects) {
    const { name, labels = {} } = o.metadata;
    const label = /^[a-z]([-a-z0-9]*[a-z0-9])?$/;
    if (!label.test(name)) found.push(`${o.kind} ${name}: not a name`);
    if (name.length > (LONGEST[o.kind] ?? 253)) found.push(`${o.kind} ${name}: ${name.length} characters`);
    const all = [labels, podOf(o)?.labels ?? {}, o.spec?.selector?.matchLabels ?? {}];
    for (const [key, value] of all.flatMap((each) => Object.entries<string>(each)))
      if (!/^([A-Za-z0-9]([-\w.]{0,61}[A-Za-z0-9])?)?$/.test(value)) found.push(`${o.kind} ${name}: ${key}=${value}`);
  }
  const names = unique(objects);
  found.push(...names.filter((n, i) => names.indexOf(n) !== i).map((n) => `${n} twice`));
  return found;
}

/** What the pods of a release look for by name is there: Services, Secrets, ConfigMaps and claims. */
function dangling(objects: Obj[]): string[] {
  const made = madeByJobs(objects);
  const has = new Set([
    ...unique(objects),
    ...Object.keys(made.secrets).map((name) => `Secret/${name}`),
    ...made.configMaps.map((name) => `ConfigMap/${name}`),
    "ConfigMap/kube-root-ca.crt",
  ]);
  const found: string[] = [];
  for (const { name, spec } of objects.flatMap((o) => podOf(o) ?? [])) {
    const need = (kind: string, of?: string) => of && !has.has(`${kind}/${of}`) && found.push(`${name}: ${kind} ${of}`);
    for (const c of [...(spec.initContainers ?? []), ...spec.containers])
      for (const v of c.env ?? []) {
        need("Secret", v.valueFrom?.secretKeyRef?.name);
        need("ConfigMap", v.valueFrom?.configMapKeyRef?.name);
        const host = /^\w+:\/\/(?:[^@/]*@)?(?:[\w-]+\.)?([\w-]+)/.exec(v.value ?? "")?.[1];
        if (v.name.endsWith("_URL")) need("Service", host);
      }
    for (const v of spec.volumes ?? []) {
      need("ConfigMap", v.configMap?.name);
      need("Secret", v.secret?.secretName);
      need("PersistentVolumeClaim", v.persistentVolumeClaim?.claimName);
      for (const s of v.projected?.sources ?? []) need("ConfigMap", s.configMap?.name);
    }
  }
  for (const o of objects.filter((o) => o.kind === "StatefulSet")) {
    if (!has.has(`Service/${o.spec.serviceName}`)) found.push(`${o.metadata.name}: its Service`);
  }
  for (const o of objects.filter((o) => o.kind === "HorizontalPodAutoscaler")) {
    if (!has.has(`Deployment/${o.spec.scaleTargetRef.name}`)) found.push(`${o.metadata.name}: its Deployment`);
  }
  return found;
}

describe.each(RELEASES)("release %s", (release) => {
  test("has a name of its own for every object, and none that Kubernetes refuses", () => {
    const objects = render("quartet", ALL, release);
    expect(wrong(objects)).toEqual([]);
    expect(dangling(objects)).toEqual([]);
  });
});

test.each(PARTS)("%s alone, under any name", (chart) => {
  const backup = ["user", "analytics"].includes(chart) ? ["--set", "backup.enabled=true"] : [];
  for (const release of [chart, `my-${chart}`, "quartet", "user-analytics", long(46, `${chart}-`), long(53)]) {
    const objects = render(chart, backup, release);
    expect(wrong(objects), release).toEqual([]);
  }
});

test("releases whose long names begin alike have no name in common", () => {
  const [a, b] = ["one", "two"].map((end) => unique(render("quartet", ALL, `${long(50)}${end}`)));
  expect(a!.filter((name) => b!.includes(name))).toEqual([]);
});

test("a store is called what it was called: an upgrade must not lose its volume", () => {
  const stores = (release: string, chart = "quartet") =>
    render(chart, [], release)
      .filter((o) => o.kind === "StatefulSet")
      .map((o) => o.metadata.name)
      .sort();
  const usual = (release: string) => STORES.map((s) => `${release}-${s}-store`).sort();
  for (const release of ["quartet", "q", long(30), long(36)]) expect(stores(release)).toEqual(usual(release));
  // A release that says the name of a part is the name of that part.
  expect(stores("my-session")).toEqual(
    ["my-session-store", ...usual("my-session").filter((n) => n !== "my-session-session-store")].sort(),
  );
  for (const chart of STORES) {
    expect(stores(chart, chart)).toEqual([`${chart}-store`]);
    expect(stores("quartet", chart)).toEqual([`quartet-${chart}-store`]);
    expect(stores(`my-${chart}-1`, chart)).toEqual([`my-${chart}-1-store`]);
  }
});

test.each([
  ["2quartet", "quartet"],
  ["my.quartet", "quartet"],
  ["2user", "user"],
  ["my.nats", "nats"],
])("release %s of %s is refused in one line that says why", (release, chart) => {
  let message = "";
  try {
    render(chart, [], release);
  } catch (error) {
    message = (error as { stderr: string }).stderr.trim();
  }
  expect(message).toContain(`release name "${release}": Services are named after it`);
  expect(message.match(/^.*(Error|release name).*$/gm)).toHaveLength(1);
});

test.each([
  ["user", "fullnameOverride=Users"],
  ["user", "fullnameOverride=2user"],
  ["user", "fullnameOverride=user-"],
  ["nats", `fullnameOverride=${long(47)}`],
  ["observability", "fullnameOverride=a.b"],
])("%s refuses %s by name", (chart, value) => {
  expect(() => render(chart, ["--set", value])).toThrow(/fullnameOverride/);
});

test("in the umbrella another name is refused where the other parts would look for the usual one", () => {
  expect(() => render("quartet", ["--set", "user.fullnameOverride=people"])).toThrow(
    /user\.fullnameOverride.*session\.peers\.user/,
  );
  expect(() => render("quartet", ["--set", "nats.fullnameOverride=stream"])).toThrow(
    /nats\.fullnameOverride.*nats\.host/,
  );
  const told = ["session", "gateway"].flatMap((s) => ["--set", `${s}.peers.user=http://people`]);
  const objects = render("quartet", ["--set", "user.fullnameOverride=people", ...told]);
  expect(wrong(objects)).toEqual([]);
  expect(dangling(objects)).toEqual([]);
  const twice = ["--set", "observability.enabled=true,observability.fullnameOverride=quartet-gateway"];
  expect(() => render("quartet", twice)).toThrow(/observability\.fullnameOverride.*gateway/);
});

/** Labels of pods by the release that makes them. */
const podLabels = (objects: Obj[]): Record<string, string>[] =>
  objects.flatMap((o) => (podOf(o) ? [podOf(o)!.labels] : []));
const selects = (selector: Record<string, string>, labels: Record<string, string>) =>
  Object.entries(selector).every(([key, value]) => labels[key] === value);

/** Every label selector of an object, with where it stands. */
function* selectors(o: Obj): Generator<[string, Record<string, string>]> {
  const who = `${o.kind}/${o.metadata.name}`;
  if (o.kind === "Service") yield [who, o.spec.selector];
  if (o.kind === "NetworkPolicy") {
    yield [who, o.spec.podSelector.matchLabels];
    for (const rule of [...(o.spec.ingress ?? []), ...(o.spec.egress ?? [])])
      for (const peer of [...(rule.from ?? []), ...(rule.to ?? [])])
        if (peer.podSelector?.matchLabels && !peer.namespaceSelector)
          yield [`${who} peer`, peer.podSelector.matchLabels];
  }
  if (["Deployment", "StatefulSet", "PodDisruptionBudget"].includes(o.kind)) yield [who, o.spec.selector.matchLabels];
}

test("two releases in one namespace have no object in common, and neither selects a pod of the other", () => {
  const pairs = [
    ["quartet", "quartet-2"],
    ["a", "a-b"],
    [long(40), long(41)],
  ];
  for (const pair of pairs) {
    const both = pair.map((release) => render("quartet", [...ALL, "--set", "global.quartet.natsReplicas=3"], release));
    expect(wrong(both.flat())).toEqual([]);
    for (const [mine, other] of [both, both.toReversed()] as [Obj[], Obj[]][]) {
      const foreign = podLabels(other);
      for (const [who, selector] of mine.flatMap((o) => [...selectors(o)])) {
        expect(selector, who).toBeDefined();
        // What watches may watch all: the default of networkPolicy.monitoring names any Prometheus.
        if (JSON.stringify(selector) === '{"app.kubernetes.io/name":"prometheus"}') continue;
        expect(
          foreign.filter((labels) => selects(selector, labels)),
          `${who} ${JSON.stringify(selector)}`,
        ).toEqual([]);
      }
      for (const monitor of mine.filter((o) => o.kind === "ServiceMonitor")) {
        const services = other.filter((o) => o.kind === "Service");
        const { matchLabels } = monitor.spec.selector;
        expect(services.filter((s) => selects(matchLabels, s.metadata.labels)).map((s) => s.metadata.name)).toEqual([]);
      }
    }
  }
});
