import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  cpSync,
  existsSync,
  globSync,
  lstatSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test as testAlways } from "vitest";
import { parseAllDocuments } from "yaml";
import { charts, findHelm, madeByJobs, type Obj, podOf, render, whyNoHelm } from "./helm.ts";

const test = testAlways.skipIf(whyNoHelm);
const root = join(charts, "..");
const read = (file: string) => readFileSync(join(root, file), "utf8");
const ALL = [
  "--set",
  "observability.enabled=true,observability.grafana.enabled=true,user.backup.enabled=true,analytics.backup.enabled=true",
];

/** What Argo CD runs: `helm template` with the name and the namespace, and no cluster to ask. */
function template(chart: string, args: string[] = []): string {
  const command = ["template", chart, "--name-template", "quartet", "--namespace", "quartet", "--kube-version", "1.34"];
  const env = { ...process.env, KUBECONFIG: "/nonexistent" };
  return execFileSync(findHelm(), [...command, "--include-crds", ...args], {
    env,
    encoding: "utf8",
    maxBuffer: 64e6,
    stdio: "pipe",
  });
}

const CASES: [string, string[]][] = [
  ["quartet", ALL],
  ["quartet", ["-f", join(charts, "quartet/values-light.yaml")]],
  ["quartet", ["-f", join(charts, "quartet/values-ha.yaml")]],
  ["quartet", ["-f", join(root, "k8s/gitops/values.yaml")]],
  ...["user", "session", "analytics", "search", "gateway", "nats"].map((c): [string, string[]] => [c, []]),
  ["observability", ["--set", "grafana.enabled=true,prometheus.enabled=true"]],
];

describe.each(CASES)("%s %s", (chart, args) => {
  test("is the same however often it is rendered, and nothing in it is secret", () => {
    const once = template(join(charts, chart), args);
    expect(template(join(charts, chart), args)).toBe(once);
    expect(parseAllDocuments(once).filter((d) => d.get("kind") === "Secret")).toEqual([]);
  });
});

testAlways("no template asks the cluster or makes anything by chance", () => {
  for (const file of globSync("*/templates/**/*.{tpl,yaml,txt}", { cwd: charts })) {
    const text = readFileSync(join(charts, file), "utf8");
    const found = text.match(
      /\b(lookup|rand\w+|gen(CA|Signed|Self|Private)\w*|derivePassword|uuidv4|bcrypt|htpasswd)\b.*/g,
    );
    // This one only refuses what the API would refuse with a worse message; nothing that is rendered follows from it.
    const allowed = found?.filter((line) => !/^lookup "apps\/v1" "StatefulSet"/.test(line));
    expect(allowed ?? [], file).toEqual([]);
    expect(text, file).not.toMatch(/\{\{[^}]*[\s(]now\b/);
  }
});

describe("the Job that makes what is absent", () => {
  const objects = render("quartet", ALL);
  const mine = objects.filter((o) => o.metadata.labels["app.kubernetes.io/component"] === "secrets");
  const hook = (o: Obj) => o.metadata.annotations?.["helm.sh/hook"];

  test("comes before everything else, after what it needs, and takes its rights with it when it is done", () => {
    expect(mine.map((o) => o.kind).sort()).toEqual(["Job", "NetworkPolicy", "Role", "RoleBinding", "ServiceAccount"]);
    for (const o of mine) {
      expect(hook(o)).toBe("pre-install,pre-upgrade");
      expect(o.metadata.annotations["helm.sh/hook-delete-policy"]).toBe("before-hook-creation,hook-succeeded");
      expect(Number(o.metadata.annotations["helm.sh/hook-weight"])).toBe(o.kind === "Job" ? -5 : -10);
    }
  });

  test("may read what it makes by name, and change nothing but the public keys", () => {
    const { secrets, configMaps } = madeByJobs(objects);
    expect(mine.find((o) => o.kind === "Role").rules).toEqual([
      { apiGroups: [""], resources: ["secrets"], verbs: ["create"] },
      { apiGroups: [""], resources: ["secrets"], resourceNames: Object.keys(secrets).sort(), verbs: ["get"] },
      { apiGroups: [""], resources: ["configmaps"], verbs: ["create"] },
      { apiGroups: [""], resources: ["configmaps"], resourceNames: configMaps, verbs: ["get", "update"] },
    ]);
  });

  test("is not there where every Secret is somebody else's", () => {
    const given = render("quartet", [...ALL, "--set", "global.quartet.makeSecrets=false"]);
    expect(given.filter((o) => o.kind === "Role" || hook(o) === hook(mine[0]))).toEqual([]);
    const pods = (from: Obj[]) => from.filter((o) => o.kind !== "Job").flatMap((o) => podOf(o) ?? []);
    expect(pods(given)).toEqual(pods(objects));
  });

  test("makes what k8s/gitops/README.md lists", () => {
    const rows = [...read("k8s/gitops/README.md").matchAll(/^\| `(quartet-[\w-]+)` \| ((?:`[\w.-]+`(?:, )?)+) \|/gm)];
    const listed = Object.fromEntries(rows.map(([, name, keys]) => [name, keys!.replaceAll("`", "").split(", ")]));
    const { secrets, configMaps } = madeByJobs(objects);
    expect(listed).toEqual({ ...secrets, [configMaps[0]!]: ["keys.json"] });
  });
});

describe("where symbolic links are dropped, as Flux does", () => {
  const folder = mkdtempSync(join(tmpdir(), "quartet-flux-"));
  beforeAll(() => {
    cpSync(charts, join(folder, "charts"), {
      recursive: true,
      filter: (file) => !lstatSync(file).isSymbolicLink(),
    });
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  test.each(["quartet", "user", "nats"])("%s finds what it depends on, and renders the same", (chart) => {
    const copy = join(folder, "charts", chart);
    expect(() => template(copy)).toThrow(/missing in charts/);
    execFileSync(findHelm(), ["dependency", "build", copy], { stdio: "pipe" });
    const sorted = (text: string) =>
      parseAllDocuments(text)
        .map((d) => JSON.stringify(d.toJSON()))
        .sort();
    expect(sorted(template(copy))).toEqual(sorted(template(join(charts, chart))));
  });
});

testAlways("symbolic links stay inside the repository: Argo CD refuses a repository with another", () => {
  const links = globSync("*/charts/*", { cwd: charts }).filter((file) =>
    lstatSync(join(charts, file)).isSymbolicLink(),
  );
  expect(links.length).toBeGreaterThan(10);
  for (const file of links) {
    const target = readlinkSync(join(charts, file));
    expect(target, file).toMatch(/^(\.\.\/)+[a-z]+$/);
    expect(existsSync(join(charts, file, "Chart.yaml")), file).toBe(true);
  }
});

describe("the examples", () => {
  const objects = (file: string): Obj[] => parseAllDocuments(read(file)).map((d) => d.toJSON());

  testAlways("of Argo CD name files of this repository", () => {
    const [namespace, quartet] = objects("k8s/gitops/argocd.yaml");
    expect(read(join(namespace.spec.source.path, namespace.spec.source.directory.include))).toContain(
      "kind: Namespace",
    );
    const { path, helm } = quartet.spec.source;
    for (const file of ["Chart.yaml", ...helm.valueFiles]) expect(read(join(path, file))).not.toBe("");
    expect([helm.releaseName, quartet.spec.destination.namespace]).toEqual(["quartet", "quartet"]);
  });

  testAlways("of Flux name files of this repository", () => {
    const [source, release] = objects("k8s/gitops/flux.yaml");
    const { chart, valuesFiles, sourceRef } = release.spec.chart.spec;
    expect([sourceRef.name, sourceRef.namespace]).toEqual([source.metadata.name, source.metadata.namespace]);
    for (const file of [join(chart, "Chart.yaml"), ...valuesFiles]) expect(read(file)).not.toBe("");
    for (const top of [chart, ...valuesFiles].map((file: string) => file.split("/")[1]))
      expect(source.spec.ignore).toContain(`!/${top}\n`);
  });
});

test("a release's values file names every image by digest, and a released chart has them itself", () => {
  const folder = mkdtempSync(join(tmpdir(), "quartet-images-"));
  try {
    // As a clone has it; the registry is asked by a command, which here makes a digest of the name.
    cpSync(charts, join(folder, "charts"), { recursive: true, verbatimSymlinks: true });
    symlinkSync(join(root, "node_modules"), join(folder, "node_modules"));
    const DIGEST_OF = `f() { printf sha256:; printf %s "$1" | sha256sum | cut -c1-64; }; f`;
    const script = join(folder, "charts/images.ts");
    const said = execFileSync(process.execPath, [script, "registry.example.org/me", "--write"], {
      env: { ...process.env, DIGEST_OF },
      encoding: "utf8",
    });
    writeFileSync(join(folder, "images.yaml"), said);
    const everything = [...ALL, "--set", "observability.prometheus.enabled=true"];
    const released = render(join(folder, "charts/quartet"), everything, "quartet");
    expect(render("quartet", [...everything, "-f", join(folder, "images.yaml")])).toEqual(released);
    const images = released.flatMap((o) => podOf(o)?.spec.containers.map((c: Obj): string => c.image) ?? []);
    expect(images.length).toBeGreaterThan(20);
    for (const image of images) {
      const [name, digest] = image.split("@");
      expect(digest, image).toBe(`sha256:${createHash("sha256").update(name!).digest("hex")}`);
      if (name!.includes("quartet/")) expect(name).toMatch(/^registry\.example\.org\/me\/quartet\/\w+:[\w.]+$/);
    }
    const none = () =>
      execFileSync(process.execPath, [script, "r/o"], { env: { ...process.env, DIGEST_OF: "echo" }, stdio: "pipe" });
    expect(none).toThrow(/has no digest/);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
