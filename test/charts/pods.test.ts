import { spawnSync } from "node:child_process";
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test as testAlways } from "vitest";
import { stringify } from "yaml";
import { charts, type Obj, podOf, render, whyNoHelm } from "./helm.ts";

const test = testAlways.skipIf(whyNoHelm);
const CHARTS = ["user", "session", "analytics", "search", "gateway", "nats", "observability"];
const POD = {
  podLabels: { team: "shop", cost: "7" },
  podAnnotations: { "sidecar.istio.io/inject": "false" },
  nodeSelector: { disk: "ssd" },
  tolerations: [{ key: "spot", operator: "Exists" }],
  affinity: { nodeAffinity: { preferredDuringSchedulingIgnoredDuringExecution: [] } },
  topologySpreadConstraints: [
    { maxSkew: 1, topologyKey: "topology.kubernetes.io/zone", whenUnsatisfiable: "DoNotSchedule" },
  ],
  priorityClassName: "important",
  imagePullSecrets: [{ name: "registry" }],
  extraEnvFrom: [{ secretRef: { name: "more" } }],
  serviceAccount: { create: true, name: "", annotations: { "eks.amazonaws.com/role-arn": "arn:x" } },
};

/** The objects of the whole system with these values, and every chart's values where `own` is given. */
function whole(own: object | undefined, global: object = {}): Obj[] {
  const folder = mkdtempSync(join(tmpdir(), "quartet-pods-"));
  try {
    const parts = Object.fromEntries(CHARTS.map((chart) => [chart, own ?? {}]));
    const shown = { enabled: true, prometheus: { enabled: true }, grafana: { enabled: true } };
    const values = { ...parts, global, observability: { ...own, ...shown } };
    writeFileSync(join(folder, "values.yaml"), stringify(values));
    const backups = ["--set", "user.backup.enabled=true,analytics.backup.enabled=true"];
    return render("quartet", ["-f", join(folder, "values.yaml"), ...backups]);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Pods of the charts; the Job that makes Secrets has an account with that right. */
const podsOf = (objects: Obj[]) =>
  objects
    .flatMap((o) => (podOf(o) ? [{ o, ...podOf(o)! }] : []))
    .filter(({ labels }) => labels["app.kubernetes.io/component"] !== "secrets");

test("what the values say of pods is said of every pod of every chart", () => {
  const objects = whole(POD);
  const accounts = objects.filter((o) => o.kind === "ServiceAccount").map((o) => o.metadata);
  for (const { o, name, labels, spec } of podsOf(objects)) {
    const template = o.kind === "Pod" ? o : (o.spec.jobTemplate?.spec ?? o.spec).template;
    expect(labels, name).toMatchObject(POD.podLabels);
    expect(template.metadata.annotations, name).toMatchObject(POD.podAnnotations);
    for (const key of ["nodeSelector", "tolerations", "affinity", "priorityClassName", "imagePullSecrets"] as const)
      expect(spec[key], `${name} ${key}`).toEqual(POD[key]);
    // The account is there, and the cloud is told whose it is.
    const account = accounts.find((a) => a.name === spec.serviceAccountName);
    expect(account?.annotations, name).toEqual(POD.serviceAccount.annotations);
    // A constraint without a selector is about the pods that have it.
    const [constraint] = spec.topologySpreadConstraints;
    expect(constraint, name).toMatchObject(POD.topologySpreadConstraints[0]!);
    expect(labels, name).toMatchObject(constraint.labelSelector.matchLabels);
    const served = o.kind === "Deployment" || labels["quartet/store"] === "nats";
    if (served) expect(spec.containers[0].envFrom, name).toEqual(POD.extraEnvFrom);
  }
  // One for each chart, and nobody else's: nothing of them may be read with it.
  expect(accounts.length).toBe(CHARTS.length + 1);
  const bound = objects.filter((o) => o.kind === "RoleBinding").flatMap((o) => o.subjects.map((s: Obj) => s.name));
  expect(bound).toEqual(["quartet-secrets"]);
});

test("an account may be another's, or the namespace's", () => {
  for (const [value, expected] of [
    ["create=false,name=mine", "mine"],
    ["create=true,name=mine", "mine"],
    ["create=false", "default"],
  ] as const) {
    const set = value.split(",").flatMap((v) => ["--set", `serviceAccount.${v}`]);
    const objects = render("session", set);
    for (const { name, spec } of podsOf(objects)) expect(spec.serviceAccountName, name).toBe(expected);
    const made = objects.filter((o) => o.kind === "ServiceAccount" && !/-secrets$/.test(o.metadata.name));
    expect(made.map((o) => o.metadata.name)).toEqual(value.startsWith("create=true") ? ["mine"] : []);
  }
});

test("the umbrella says it once for all charts, and a chart may say otherwise", () => {
  const { imagePullSecrets, nodeSelector, tolerations, priorityClassName } = POD;
  const everywhere = whole(undefined, { imagePullSecrets, nodeSelector, tolerations, priorityClassName });
  const pods = everywhere.flatMap((o) => podOf(o) ?? []);
  expect(pods.length).toBeGreaterThan(15);
  for (const { name, spec } of pods)
    expect(spec, name).toMatchObject({ imagePullSecrets, nodeSelector, tolerations, priorityClassName });
  const own = render("user", ["--set", "nodeSelector.disk=hdd,global.nodeSelector.disk=ssd"]);
  for (const { spec } of podsOf(own)) expect(spec.nodeSelector).toEqual({ disk: "hdd" });
});

test("a label that finds the pods cannot be said twice", () => {
  expect(() => render("session", ["--set", "podLabels.quartet/service=x"])).toThrow(/podLabels: quartet\/service/);
});

test.each(CHARTS)("the Service of %s takes annotations", (chart) => {
  const args = ["--set", "service.annotations.a=b", "--set-json", `global={"ipFamilyPolicy":"PreferDualStack"}`];
  const shown = chart === "observability" ? ["--set", "prometheus.enabled=true,grafana.enabled=true"] : [];
  const services = render(chart, [...args, ...shown]).filter((o) => o.kind === "Service");
  const clients = services.filter((o) => !/-(metrics|store)$/.test(o.metadata.name));
  expect(clients.length).toBeGreaterThan(0);
  for (const o of clients) expect(o.metadata.annotations, o.metadata.name).toEqual({ a: "b" });
  for (const o of services) expect(o.spec.ipFamilyPolicy, o.metadata.name).toBe("PreferDualStack");
});

test.each([
  ["nats.replicas=3", /global\.quartet\.natsReplicas=3 sets both/],
  ["user.nats.replicas=3", /global\.quartet\.natsReplicas=3 sets both/],
  ["user.env.NATS_REPLICAS=3", /1 servers and 3 copies/],
  ["nats.replicas=3,user.env.NATS_REPLICAS=3", [3, "3"]],
  ["nats.replicas=3,user.nats.replicas=3", [3, "3"]],
  // Said by name: fewer copies than servers.
  ["global.quartet.natsReplicas=3,user.env.NATS_REPLICAS=1", [3, "1"]],
  ["global.quartet.natsReplicas=3", [3, "3"]],
  ["nats.enabled=false,global.quartet.natsReplicas=5", [undefined, "5"]],
])("NATS and the copies of its streams with %s", (value, expected) => {
  const objects = () => render("quartet", ["--set", value]);
  if (expected instanceof RegExp) return expect(objects).toThrow(expected);
  const found = objects();
  const servers = found.find((o) => o.metadata.name === "quartet-nats-store" && o.kind === "StatefulSet");
  const user = found.find((o) => o.metadata.name === "quartet-user-api" && o.kind === "Deployment");
  const copies = podOf(user)!.spec.containers[0].env.filter((v: Obj) => v.name === "NATS_REPLICAS");
  expect([servers?.spec.replicas, ...copies.map((v: Obj) => v.value)]).toEqual(expected);
});

testAlways("every chart says for which Kubernetes it is, and where it comes from", () => {
  for (const chart of [...CHARTS, "quartet", "common"]) {
    const text = readFileSync(join(charts, chart, "Chart.yaml"), "utf8");
    for (const key of ["kubeVersion", "home", "sources"]) expect(text, chart).toMatch(new RegExp(`^${key}: `, "m"));
  }
});

testAlways("a minikube of two nodes has volumes on both, and one of one is as it was", () => {
  const folder = mkdtempSync(join(tmpdir(), "quartet-minikube-"));
  try {
    writeFileSync(join(folder, "minikube"), '#!/bin/sh\necho "$@"\n');
    chmodSync(join(folder, "minikube"), 0o755);
    const said = (nodes?: string, ...args: string[]) =>
      spawnSync(join(charts, "../k8s/minikube.sh"), args, {
        env: { PATH: `${folder}:${process.env.PATH}`, ...(nodes ? { NODES: nodes } : {}) },
        encoding: "utf8",
      });
    const one = said(undefined, "--driver", "docker").stdout.trim().split("\n");
    expect(one).toHaveLength(1);
    expect(one[0]).toMatch(/^start --cni calico .* --driver docker$/);
    expect(one[0]).not.toContain("--nodes");
    const two = said("2").stdout.trim().split("\n");
    expect(two[0]).toMatch(/--nodes 2 --addons volumesnapshots,csi-hostpath-driver$/);
    expect(two[1]).toBe("addons disable default-storageclass");
    expect(two[2]).toMatch(/^kubectl -- patch storageclass csi-hostpath-sc .*is-default-class/);
    expect(said("many")).toMatchObject({ status: 2, stdout: "" });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
