import { afterAll, beforeAll, expect, test } from "vitest";
import { eventually } from "../lib/client.ts";
import { clusterValues, makeNamespace, NAMESPACE, type Obj, removeNamespace, run } from "./kube.ts";

/**
 * The umbrella as a GitOps tool brings it: rendered without a cluster and applied, again and again. There is no release of Helm, and no hook: what Helm or
 * Argo CD would wait for is a Job among others.
 */
const SPACE = `${NAMESPACE}-gitops`;
const kubectl = (args: string[], input = "", timeoutMs = 120_000) =>
  run("kubectl", ["--namespace", SPACE, ...args], { input, timeoutMs });
const get = async (what: string): Promise<Obj[]> => JSON.parse(await kubectl(["get", "-o", "json", what])).items;

async function render(): Promise<string> {
  const values = [
    "-f",
    "charts/quartet/values-light.yaml",
    ...clusterValues(),
    ...["--set", "gateway.service.nodePort=null,user.backup.enabled=true"],
  ];
  const env = { KUBECONFIG: "/nonexistent" };
  const version = ["--kube-version", "1.34.0", "--skip-tests"];
  return run("helm", ["template", "quartet", "charts/quartet", "--namespace", SPACE, ...version, ...values], { env });
}

/** Applies, waits until everything is there, and resolves to what was created. */
async function sync(manifest: string): Promise<string[]> {
  const said = await kubectl(["apply", "-f", "-"], manifest);
  await kubectl(["wait", "--for=condition=Complete", "job", "--all", "--timeout=180s"], "", 200_000);
  for (const kind of ["statefulsets", "deployments"])
    for (const { metadata } of await get(kind))
      await kubectl(["rollout", "status", `${kind}/${metadata.name}`, "--timeout=300s"], "", 320_000);
  return said
    .split("\n")
    .flatMap((line) => / (?:created|configured)$/.exec(line) && line.split(" ")[0]!)
    .filter((line) => line !== null);
}

/** Every Secret with what is in it, everybody's public keys, and every pod that is to stay, with how often it was restarted. */
async function state(): Promise<Record<string, unknown>> {
  const secrets = (await get("secrets")).map((o) => [`Secret ${o.metadata.name}`, o.data]);
  const maps = (await get("configmaps")).filter((o) => o.metadata.name === "quartet-identity");
  const pods = (await get("pods")).filter((o) => o.metadata.ownerReferences[0].kind !== "Job");
  return Object.fromEntries([
    ...secrets,
    ...maps.map((o) => [o.metadata.name, o.data]),
    ...pods.map((o) => [o.metadata.name, [o.metadata.uid, o.status.containerStatuses[0].restartCount]]),
  ]);
}

beforeAll(async () => makeNamespace(SPACE, true), 300_000);
afterAll(async () => {
  if (!process.env.QUARTET_TEST_KEEP) await removeNamespace(SPACE);
}, 300_000);

test("a sync after a sync changes no password and restarts no pod; nor one after a day, when its Jobs are gone", async () => {
  const manifest = await render();
  const began = Date.now();
  await sync(manifest);
  console.log(`ready after ${Math.round((Date.now() - began) / 1000)} s`);
  const before = await state();
  expect(Object.keys(before).filter((name) => name.startsWith("Secret "))).toHaveLength(11);

  const again = await render();
  expect(again).toBe(manifest);
  expect(await sync(again)).toEqual([]);
  expect(await state()).toEqual(before);

  const jobs = (await get("jobs")).map((o) => `job.batch/${o.metadata.name}`).sort();
  await kubectl(["delete", "jobs", "--all", "--wait"]);
  expect((await sync(await render())).sort()).toEqual(jobs);
  expect(await state()).toEqual(before);

  // Who starts anew is let in: the stores know the passwords that the Secrets have.
  await kubectl(["delete", "pods", "--selector", "quartet/service", "--wait=false"]);
  await eventually("new pods", async () => {
    const pods = (await get("pods")).filter((o) => o.metadata.labels["quartet/service"]);
    return pods.length === 5 && pods.every((o) => !before[o.metadata.name]);
  });
  await sync(await render());
}, 600_000);
