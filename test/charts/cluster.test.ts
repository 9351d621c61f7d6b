import { spawnSync } from "node:child_process";
import { appendFileSync, cpSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { stringify } from "yaml";

const root = new URL("../../", import.meta.url).pathname;
const SERVICES = ["user", "session", "analytics", "search", "gateway"];
const noKubectl = spawnSync("kubectl", ["version", "--client"]).error !== undefined;

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "quartet-cluster-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Runs k8s/cluster.sh of a copy of the repository with a kubeconfig of one context, behind which nobody is. */
function cluster(command: string, context?: string, env: NodeJS.ProcessEnv = {}, at = root) {
  const config = join(folder, "config");
  const name = context ?? "";
  const contexts = context ? [{ name, context: { cluster: "c", user: "u" } }] : [];
  const clusters = [{ name: "c", cluster: { server: "https://127.0.0.1:1" } }];
  const users = [{ name: "u", user: {} }];
  writeFileSync(
    config,
    stringify({ apiVersion: "v1", kind: "Config", "current-context": name, contexts, clusters, users }),
  );
  const { status, stdout, stderr } = spawnSync(join(at, "k8s/cluster.sh"), [command], {
    env: { ...process.env, CONTEXT: undefined, KUBECONFIG: config, ...env },
    encoding: "utf8",
  });
  return { status, stdout, stderr };
}

describe.skipIf(noKubectl)("k8s/cluster.sh", () => {
  test.each(["up", "images", "down", "status", "test"])(
    "%s leaves a cluster alone that may be anybody's",
    (command) => {
      for (const context of ["production", "arn:aws:eks:eu:1:cluster/kind", "my-minikube", "admin@kind-prod"]) {
        const { status, stderr, stdout } = cluster(command, context);
        expect([status, stdout]).toEqual([1, ""]);
        expect(stderr.trim().split("\n")).toEqual([
          expect.stringContaining(`CONTEXT=${context} says that it is meant`),
        ]);
      }
    },
  );

  test.each([
    ["kind-quartet", undefined],
    ["minikube", undefined],
    ["production", "production"],
  ])("uses %s where CONTEXT is %s", (context, named) => {
    const { status, stderr } = cluster("down", context, { CONTEXT: named });
    expect([status, stderr.trim()]).toEqual([1, `the cluster of the context ${context} does not answer`]);
  });

  test("a name of another cluster does not do", () => {
    expect(cluster("up", "production", { CONTEXT: "staging" }).stderr).toMatch(/nothing was done/);
  });
});

describe("the tag of an image", () => {
  let copy: string;
  const tags = (env: NodeJS.ProcessEnv = {}) =>
    Object.fromEntries(
      cluster("tags", undefined, env, copy)
        .stdout.trim()
        .split("\n")
        .map((line) => line.split("=") as [string, string]),
    );
  beforeAll(() => {
    copy = join(folder, "copy");
    const parts = ["packages", "services", "k8s", "charts/quartet/Chart.yaml"];
    for (const part of [...parts, "package.json", "package-lock.json", ".npmrc", "LICENSE", "NOTICE"])
      cpSync(join(root, part), join(copy, part), { recursive: true, filter: (f) => !f.includes("node_modules") });
  });

  test("changes with its own code, with what it is built from, and with nothing else", () => {
    const before = tags();
    expect(Object.keys(before)).toEqual(SERVICES);
    for (const tag of Object.values(before)) expect(tag).toMatch(/^\d+\.\d+\.\d+-[0-9a-f]{12}$/);
    expect(tags()).toEqual(before);
    const changed = (file: string) => {
      const old = tags();
      appendFileSync(join(copy, file), "\n");
      const now = tags();
      return SERVICES.filter((s) => now[s] !== old[s]);
    };
    expect(changed("services/search/src/main.ts")).toEqual(["search"]);
    expect(changed("services/gateway/src/main.ts")).toEqual(["gateway"]);
    expect(changed("packages/service/src/index.ts")).toEqual(SERVICES);
    // Only those that depend on it, of themselves or through another package.
    expect(changed("packages/outbox/src/index.ts")).toEqual(["user", "session"]);
    expect(changed("packages/contracts/src/index.ts")).toEqual(SERVICES);
    expect(changed("services/Dockerfile")).toEqual(SERVICES);
    expect(changed("package-lock.json")).toEqual(SERVICES);
    expect(changed("packages/cli/src/main.ts")).toEqual([]);
    expect(changed("k8s/README.md")).toEqual([]);
  });

  test("is what is said, or the version's where none is built", () => {
    expect(new Set(Object.values(tags({ QUARTET_IMAGE_TAG: "mine" })))).toEqual(new Set(["mine"]));
    expect(Object.values(tags({ QUARTET_IMAGE_BUILD: "" }))[0]).toMatch(/^\d+\.\d+\.\d+$/);
  });
});
