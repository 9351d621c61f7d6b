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

function template(release: string, chart: string, values: string[]): Promise<string> {
  const args = ["--namespace", SPACE, "--kube-version", "1.34.0", "--skip-tests", ...values];
  return run("helm", ["template", release, `charts/${chart}`, ...args], { env: { KUBECONFIG: "/nonexistent" } });
}

const render = () =>
  template("quartet", "quartet", [
    "-f",
    "charts/quartet/values-light.yaml",
    ...clusterValues(),
    ...["--set", "gateway.service.nodePort=null,user.backup.enabled=true"],
  ]);

/** Applies, waits until everything is there, and resolves to what was created. */
async function sync(manifest: string): Promise<string[]> {
  const said = await kubectl(["apply", "-f", "-"], manifest);
  await kubectl(["wait", "--for=condition=Complete", "job", "--all", "--timeout=180s"], "", 200_000);
  for (const kind of ["statefulsets", "deployments"])
    for (const { metadata } of await get(kind))
      await kubectl(["rollout", "status", `${kind}/${metadata.name}`, "--timeout=300s"], "", 320_000);
  // `configured` it also calls what only lacks the server's defaults, and is as it was: see `state`.
  return said.split("\n").flatMap((line) => (line.endsWith(" created") ? line.split(" ")[0]! : []));
}

/** Every Secret with what is in it, everybody's public keys, the generation of what has one, and every pod that is to stay, with how often it was restarted. */
async function state(): Promise<Record<string, unknown>> {
  const secrets = (await get("secrets")).map((o) => [`Secret ${o.metadata.name}`, o.data]);
  const maps = (await get("configmaps")).filter((o) => o.metadata.name === "quartet-identity");
  const rest = await get("deployments,statefulsets,cronjobs,networkpolicies,persistentvolumeclaims");
  const pods = (await get("pods")).filter((o) => o.metadata.ownerReferences[0].kind !== "Job");
  return Object.fromEntries([
    ...secrets,
    ...maps.map((o) => [o.metadata.name, o.data]),
    ...rest.map((o) => [`${o.kind} ${o.metadata.name}`, o.metadata.generation]),
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
  const [role] = await get("roles");
  for (const name of role.rules[1].resourceNames) expect(before).toHaveProperty([`Secret ${name}`]);

  const again = await render();
  expect(again).toBe(manifest);
  expect(await sync(again)).toEqual([]);
  expect(await state()).toEqual(before);

  const jobs = (await get("jobs")).map((o) => `job.batch/${o.metadata.name}`).sort();
  await kubectl(["delete", "jobs", "--all", "--wait"]);
  expect((await sync(await render())).sort()).toEqual(jobs);
  expect(await state()).toEqual(before);

  // Who starts anew is let in: the stores know the passwords that the Secrets have.
  const services = (await get("deployments")).length;
  await kubectl(["delete", "pods", "--selector", "quartet/service", "--wait=false"]);
  await eventually("new pods", async () => {
    const pods = (await get("pods")).filter((o) => o.metadata.labels["quartet/service"]);
    return pods.length >= services && pods.every((o) => !before[o.metadata.name]);
  });
  await sync(await render());
}, 600_000);

test("a Secret that is there without what is needed stays as it is, and the Job says so at once", async () => {
  await kubectl(["create", "secret", "generic", "shop-user-store", "--from-literal=secret=of-somebody"]);
  const only = ["--show-only", "templates/secrets.yaml"];
  await kubectl(["apply", "-f", "-"], await template("shop", "user", [...clusterValues("user"), ...only]));
  const failed = await eventually("the Job to fail", async () =>
    (await get("jobs")).find((o) => o.metadata.name.startsWith("shop") && o.status.failed),
  );
  expect(await kubectl(["logs", `job/${failed.metadata.name}`])).toMatch(
    /Secret shop-user-store is there, without admin-password, password: nothing was changed/,
  );
  const [secret] = (await get("secrets")).filter((o) => o.metadata.name.startsWith("shop"));
  expect(Object.keys(secret.data)).toEqual(["secret"]);
  const failure = await eventually("the Job to be given up", async () => {
    const job = (await get("jobs")).find((o) => o.metadata.name === failed.metadata.name);
    return job?.status.conditions?.find((c: Obj) => c.type === "Failed");
  });
  expect(failure.reason).toBe("PodFailurePolicy");
}, 120_000);
