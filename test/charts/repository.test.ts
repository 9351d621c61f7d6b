import { existsSync, globSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { parse, parseAllDocuments } from "yaml";
import { findSchemas, KUBERNETES, validator } from "./kubernetes.ts";

const root = new URL("../../", import.meta.url).pathname;
const read = (file: string) => readFileSync(join(root, file), "utf8");
const SERVICES = ["user", "session", "analytics", "search", "gateway"];
const schemas = findSchemas();

describe.each(readdirSync(join(root, ".github/workflows")))("workflow %s", (file) => {
  const text = read(`.github/workflows/${file}`);
  const workflow = parse(text);

  test("pins every action by its commit, with the version beside it", () => {
    const uses = [...text.matchAll(/uses: *(.*)/g)].map((match) => match[1]!);
    expect(uses.length).toBeGreaterThan(0);
    for (const line of uses) expect(line).toMatch(/^[\w-]+\/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$/);
  });

  test("grants nothing to all jobs, and bounds each", () => {
    expect(workflow.permissions).toEqual({});
    for (const [name, job] of Object.entries<Record<string, unknown>>(workflow.jobs)) {
      expect(job.permissions, name).toBeTypeOf("object");
      expect(job["timeout-minutes"], name).toBeTypeOf("number");
      expect(job["runs-on"], name).toMatch(/-\d/);
    }
  });

  test("runs scripts that package.json has", () => {
    const { scripts } = JSON.parse(read("package.json"));
    for (const [, name] of text.matchAll(/npm run ([\w:]+)/g)) expect(scripts, name).toHaveProperty([name!]);
  });
});

test("skaffold: a configuration for each service, and files that exist", () => {
  const main = parse(read("skaffold.yaml"));
  expect(main.requires.map((r: { path: string }) => r.path)).toEqual(SERVICES.map((s) => `charts/${s}/skaffold.yaml`));
  expect(main.profiles.map((p: { name: string }) => p.name)).toEqual([
    "dev",
    "kind",
    "minikube",
    "docker-desktop",
    "lab",
  ]);
  const [release] = main.deploy.helm.releases;
  const added = JSON.stringify(main.profiles).match(/[\w/-]+\.yaml/g)!;
  for (const file of [...release.valuesFiles, ...added, `${release.chartPath}/Chart.yaml`])
    expect(existsSync(join(root, file)), file).toBe(true);
  for (const service of SERVICES) {
    const { build, profiles } = parse(read(`charts/${service}/skaffold.yaml`));
    const [{ image, docker }] = build.artifacts;
    expect(image).toBe(parse(read(`charts/${service}/values.yaml`)).image.repository);
    // Skaffold itself knows which clusters are local; to any other it has to push.
    expect(build.local).not.toHaveProperty("push");
    expect(docker).toEqual({ dockerfile: "services/Dockerfile", buildArgs: { SERVICE: service } });
    expect(release.setValueTemplates).toHaveProperty([`${service}.image.tag`], `{{.IMAGE_TAG_quartet_${service}}}`);
    const sync = profiles[0].patches[1].value.manual.map((rule: { src: string }) => rule.src);
    for (const pattern of sync) expect(globSync(pattern, { cwd: root }).length, pattern).toBeGreaterThan(0);
    expect(main.profiles[0].patches[0].value).toHaveProperty([`${service}.development`], true);
  }
});

test("kind's node is of the Kubernetes that the charts are tested with, by digest", () => {
  const [{ image }] = parse(read("k8s/kind.yaml")).nodes;
  expect(image).toMatch(new RegExp(`^kindest/node:v${KUBERNETES[1]}\\.\\d+@sha256:[0-9a-f]{64}$`));
});

test("ways to a local cluster share no port, show the console, and say so", () => {
  const values = parse(read("k8s/local-values.yaml"));
  expect(values.gateway.env.QUARTET_CONSOLE).toBe("operator");
  const skaffold = parse(read("skaffold.yaml"));
  expect(skaffold.deploy.helm.releases[0].valuesFiles).toContain("k8s/local-values.yaml");
  expect(read("Tiltfile")).toContain("'k8s/local-values.yaml'");
  expect(read("k8s/cluster.sh")).toContain("-f k8s/local-values.yaml");
  const taken = parse(read("k8s/kind.yaml")).nodes[0].extraPortMappings.map((p: { hostPort: number }) => p.hostPort);
  const forwarded = [
    ...skaffold.portForward.map((f: { localPort: number }) => f.localPort),
    ...[...read("Tiltfile").matchAll(/port_forwards=\['(\d+):/g)].map(([, p]) => Number(p)),
    ...[...read("charts/quartet/templates/NOTES.txt").matchAll(/ (\d+):\{\{/g)].map(([, p]) => Number(p)),
  ];
  expect(forwarded).toEqual([8088, 8088, 8088]);
  for (const port of [...taken, 8080, 8081, 8082, 8083, 8084]) expect(forwarded).not.toContain(port);
});

test("Tilt: nothing from the network, the contexts of a developer alone, every button", () => {
  const text = read("Tiltfile");
  expect(text).not.toMatch(/ext:\/\/|https?:\/\/(?!localhost)/);
  expect(text).toMatch(/allow_k8s_contexts\(\['kind-quartet', 'minikube', 'docker-desktop', 'lab'\]\)/);
  expect([...text.matchAll(/^button\('(\w+)'/gm)].map((match) => match[1])).toEqual([
    "seed",
    "chaos",
    "rebuild",
    "test",
  ]);
  const ours = (folder: string): string[] =>
    Object.keys(JSON.parse(read(`${folder}/package.json`)).dependencies ?? {})
      .filter((name) => name.startsWith("@quartet/"))
      .map((name) => name.slice("@quartet/".length));
  const direct = SERVICES.flatMap((service) => ours(`services/${service}`));
  const packages = new Set([...direct, ...direct.flatMap((name) => ours(`packages/${name}`))]);
  const named = /^PACKAGES = \[(.+)\]$/m.exec(text)![1]!.matchAll(/'(\w+)'/g);
  expect([...named].map(([, name]) => name).sort()).toEqual([...packages].sort());
  expect(text).toContain(`SERVICES = [${SERVICES.map((s) => `'${s}'`).join(", ")}]`);
});

test("all charts are of one version, and say so of each other", () => {
  const own = globSync("charts/*/Chart.yaml", { cwd: root }).map((file) => parse(read(file)));
  const versions = own.flatMap((c) => [
    c.version,
    ...(c.dependencies ?? []).map((d: { version: string }) => d.version),
  ]);
  expect(new Set(versions).size).toBe(1);
  for (const c of own) if (c.type !== "library") expect(c.appVersion, c.name).toBe(c.version);
});

test("the devcontainer and the workflows have the Node that package.json asks for", () => {
  const major = /\d+/.exec(JSON.parse(read("package.json")).devDependencies.node)![0];
  expect(read(".devcontainer/Dockerfile")).toMatch(new RegExp(`^FROM node:${major}-`, "m"));
  for (const file of readdirSync(join(root, ".github/workflows")))
    for (const [, version] of read(`.github/workflows/${file}`).matchAll(/node-version: (\d+)/g))
      expect(version).toBe(major);
});

test.skipIf(schemas.why).each(KUBERNETES)("the namespace fits Kubernetes %s", (version) => {
  const valid = validator(schemas.folder!, version);
  const objects = parseAllDocuments(read("k8s/namespace.yaml")).map((document) => document.toJSON());
  expect(objects.flatMap(valid)).toEqual([]);
});
