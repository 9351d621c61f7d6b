import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test as testAlways } from "vitest";
import { stringify } from "yaml";
import { charts, type Obj, render, whyNoHelm } from "./helm.ts";

const test = testAlways.skipIf(whyNoHelm);

/** What cannot be changed of an object that is there. A size of a volume is another matter: see below. */
function fixed(o: Obj): unknown {
  // A test is removed before it is made anew. So is the Job that makes Secrets, but not by those who apply it without Helm.
  if (o.metadata.annotations?.["helm.sh/hook"] === "test") return undefined;
  if (o.kind === "Job") return [o.spec.template, o.spec.completions, o.spec.selector];
  if (o.kind === "Deployment") return o.spec.selector;
  if (o.kind === "StatefulSet")
    return [o.spec.selector, o.spec.serviceName, o.spec.podManagementPolicy, o.spec.volumeClaimTemplates];
  if (o.kind === "Service") return o.spec.clusterIP;
  if (o.kind === "PersistentVolumeClaim") return [o.spec.accessModes, o.spec.storageClassName];
  return undefined;
}

const BACKUPS = ["--set", "user.backup.enabled=true,analytics.backup.enabled=true"];
const base = render("quartet", BACKUPS);

/** What an operator changes in a release that runs. */
const CHANGES: Record<string, string> = {
  tolerations: "tolerations[0].key=a,tolerations[0].operator=Exists",
  imagePullSecrets: "imagePullSecrets[0].name=registry",
  nodeSelector: "nodeSelector.disk=ssd",
  "the service's image": "image.tag=1.2.3",
  "the store's image": "store.standalone.image.tag=1.2.3",
  "the pull policy": "image.pullPolicy=Always,store.standalone.image.pullPolicy=Always",
  "a backup's resources": "backup.resources.limits.memory=512Mi",
  "a backup's schedule": "backup.schedule=1 1 * * *,backup.keep=3,backup.size=16Gi",
  "an authority": "caSecret=authority",
  roles: "mode=all",
  stopped: "stopped=true",
  "the heap": "heapMiB=200",
};

describe.each(["user", "analytics"])("an upgrade of %s that changes", (service) => {
  test.each(Object.entries(CHANGES))("%s leaves alone what cannot be changed", (_what, change) => {
    const set = change.split(",").map((c) => `${service}.${c}`);
    const after = render("quartet", [...BACKUPS, ...set.flatMap((c) => ["--set", c])]);
    const before = new Map(base.map((o) => [`${o.kind}/${o.metadata.name}`, o]));
    for (const o of after) {
      const old = before.get(`${o.kind}/${o.metadata.name}`);
      if (old) expect(fixed(o), `${o.kind}/${o.metadata.name}`).toEqual(fixed(old));
    }
  });
});

test("the registry of all images is such a change too", () => {
  const after = render("quartet", [...BACKUPS, "--set", "global.imageRegistry=mirror.example.org"]);
  const jobs = (objects: Obj[]) =>
    objects.filter((o) => o.kind === "Job" && fixed(o) !== undefined).map((o) => o.metadata.name);
  expect(jobs(after)).toHaveLength(3);
  expect(jobs(after).filter((name) => jobs(base).includes(name))).toEqual([]);
});

test("a stopped service has its store and its Services, and no process; the others are as they were", () => {
  const hpa = ["--set", "user.roles.api.hpa.enabled=true"];
  const running = render("quartet", [...BACKUPS, ...hpa]);
  const stopped = render("quartet", [...BACKUPS, ...hpa, "--set", "user.stopped=true"]);
  const gone = running.filter((o) => !stopped.some((s) => s.kind === o.kind && s.metadata.name === o.metadata.name));
  expect(gone.map((o) => `${o.kind}/${o.metadata.name}`).sort()).toEqual([
    "Deployment/quartet-user-api",
    "Deployment/quartet-user-relay",
    "HorizontalPodAutoscaler/quartet-user-api",
    "PodDisruptionBudget/quartet-user-api",
  ]);
});

describe("a volume of another size", () => {
  const folder = mkdtempSync(join(tmpdir(), "quartet-volumes-"));
  beforeAll(() => {
    mkdirSync(join(folder, "charts"));
    mkdirSync(join(folder, "templates"));
    symlinkSync(join(charts, "common"), join(folder, "charts/common"));
    const chart = { apiVersion: "v2", name: "try", version: "0.1.0" };
    writeFileSync(
      join(folder, "Chart.yaml"),
      stringify({ ...chart, dependencies: [{ name: "common", version: "0.1.0" }] }),
    );
    writeFileSync(
      join(folder, "templates/try.yaml"),
      '{{ include "common.volumeFits" (dict "part" "user" "persistence" .Values.now "existing" .Values.existing) }}',
    );
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  /** What the chart says when the cluster has a StatefulSet of that size and class. */
  function said(was: [string, string?] | undefined, now: [string | number, string?]): string {
    const spec = was && { resources: { requests: { storage: was[0] } }, storageClassName: was[1] };
    const existing = spec ? { spec: { volumeClaimTemplates: [{ spec }] } } : {};
    const values = join(folder, "now.yaml");
    writeFileSync(values, stringify({ existing, now: { size: now[0], storageClass: now[1] ?? "" } }));
    try {
      render(folder, ["-f", values], "try");
      return "";
    } catch (error) {
      return (error as { stderr: string }).stderr.split("\n").find((line) => line.startsWith("Error")) ?? "";
    }
  }

  test("is refused with the command that grows it", () => {
    expect(said(["8Gi"], ["16Gi"])).toContain("`k8s/grow-volume.sh user 16Gi` first");
    expect(said(["8Gi"], ["1Ti"])).toContain("k8s/grow-volume.sh user 1Ti");
    expect(said(["16Gi"], ["8Gi"])).toContain("a volume does not shrink");
    expect(said(["8Gi", "slow"], ["8Gi", "fast"])).toContain("keeps its class");
  });
  test("is no other where it is only written another way, or nothing is there yet", () => {
    expect(said(["8Gi"], ["8Gi"])).toBe("");
    expect(said(["8Gi"], ["8192Mi"])).toBe("");
    expect(said(["512Gi"], ["0.5Ti"])).toBe("");
    expect(said(["1500M"], ["1.5G"])).toBe("");
    expect(said(["8Gi"], [8589934592])).toBe("");
    expect(said(["8Gi", "fast"], ["8Gi", "fast"])).toBe("");
    expect(said(undefined, ["16Gi"])).toBe("");
  });
});
