import { execFile, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parse, stringify } from "yaml";
import { Client, eventually } from "../lib/client.ts";
import { freePort } from "../lib/launch.ts";

export const root = new URL("../..", import.meta.url).pathname;
export const SERVICES = ["user", "session", "analytics", "search", "gateway"] as const;
export const STORES = ["user", "session", "analytics", "search", "nats"] as const;
/** Namespace of the release under test, and the one of its clients, which knows no policy. */
export const NAMESPACE = process.env.QUARTET_TEST_NAMESPACE || "quartet-test";
export const CLIENTS = `${NAMESPACE}-clients`;

/** A Kubernetes object. */
export type Obj = any;

export interface Run {
  input?: string;
  /** Milliseconds; 120,000 if absent. */
  timeoutMs?: number;
  env?: NodeJS.ProcessEnv;
}

/** Runs a command; resolves to what it wrote on stdout. Throws an Error with the end of both its outputs. */
export function run(command: string, args: string[], o: Run = {}): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = execFile(
      command,
      args,
      { cwd: root, timeout: o.timeoutMs ?? 120_000, maxBuffer: 64e6, env: { ...process.env, ...o.env } },
      (error, stdout, stderr) => {
        if (!error) return resolve(stdout);
        const said = `${stdout.slice(-4000)}\n${stderr.slice(-4000)}`.trim();
        reject(
          new Error(`${command} ${args.join(" ").slice(0, 300)}: ${error.killed ? "took too long" : ""}\n${said}`),
        );
      },
    );
    child.stdin?.end(o.input ?? "");
  });
}

/** kubectl in the namespace under test, or in another that `args` name. */
export const kubectl = (args: string[], o?: Run) => run("kubectl", ["--namespace", NAMESPACE, ...args], o);
export const helm = (args: string[], o?: Run) => run("helm", ["--namespace", NAMESPACE, ...args], o);
export const get = async (what: string[]): Promise<Obj> => JSON.parse(await kubectl(["get", "-o", "json", ...what]));

/** Runs a shell command in a pod. */
export const exec = (pod: string, script: string, args: string[] = []) =>
  kubectl(["exec", ...args, pod, "--", "sh", "-c", script]);

/** Runs an ES module in a pod of ours, below /app, so that it finds the packages of its service. */
export const evaluate = (pod: string, script: string, args: string[] = []) =>
  kubectl(["exec", "-i", ...args, pod, "--", "sh", "-c", "cd /app && exec node --input-type=module -"], {
    input: script,
  });

/** What the cluster of the current context needs beyond the charts' defaults: the file that VALUES names. */
const own: Record<string, Obj> = process.env.VALUES ? parse(readFileSync(join(root, process.env.VALUES), "utf8")) : {};
/** Tags of the images under test, `service=tag` a line (`k8s/cluster.sh tags`); where none is said, the charts' own version. */
for (const line of (process.env.QUARTET_IMAGE_TAGS ?? "").split(/\s+/).filter(Boolean)) {
  const [service, tag] = line.split("=") as [string, string];
  own[service] = { ...own[service], image: { ...own[service]?.image, tag } };
}
// Alone, the chart of NATS makes its passwords by the gateway's image.
own.nats = { ...own.nats, secrets: { image: { ...own.gateway?.image } } };

/** `-f` with the cluster's values for the whole, or for one chart alone. */
export function clusterValues(chart?: string): string[] {
  const values = chart ? own[chart] : own;
  if (!values || Object.keys(values).length === 0) return [];
  const file = join(scratch(), `${chart ?? "all"}.yaml`);
  writeFileSync(file, stringify(values));
  return ["-f", file];
}

let folder: string | undefined;
function scratch(): string {
  if (!folder) {
    const made = mkdtempSync(join(tmpdir(), "quartet-cluster-"));
    process.on("exit", () => rmSync(made, { recursive: true, force: true }));
    folder = made;
  }
  return folder;
}

/** The gateway's image and its tag: what a client in the cluster runs in. */
export function imageOf(service: string): string {
  const chart = parse(readFileSync(join(root, "charts", service, "Chart.yaml"), "utf8"));
  const values = parse(readFileSync(join(root, "charts", service, "values.yaml"), "utf8"));
  const image = { ...values.image, ...own[service]?.image };
  return `${image.repository}:${image.tag || chart.appVersion}`;
}

/** Image of a store, as its chart names it. */
export function storeImageOf(service: string): string {
  const values = parse(readFileSync(join(root, "charts", service, "values.yaml"), "utf8"));
  const image = { ...values.store.standalone.image, ...own[service]?.store?.standalone?.image };
  return `${image.repository}:${image.tag}`;
}

/** A fresh namespace: what an earlier run left of it goes first. `closed`: as k8s/namespace.yaml has it, default deny and a quota included. */
export async function makeNamespace(name: string, closed: boolean): Promise<void> {
  await removeNamespace(name);
  const [namespace, ...rest] = readFileSync(join(root, "k8s/namespace.yaml"), "utf8")
    .replaceAll("name: quartet\n", `name: ${name}\n`)
    .replaceAll("namespace: quartet\n", `namespace: ${name}\n`)
    .split("\n---\n");
  await run("kubectl", ["apply", "-f", "-"], { input: closed ? [namespace, ...rest].join("\n---\n") : namespace! });
  await eventually(`the service account of ${name}`, () =>
    run("kubectl", ["--namespace", name, "get", "serviceaccount", "default"]).catch(() => ""),
  );
}

export async function removeNamespace(name: string): Promise<void> {
  await run("kubectl", ["delete", "namespace", name, "--ignore-not-found", "--wait", "--timeout=180s"], {
    timeoutMs: 200_000,
  });
}

const securityContext = (uid: number) => ({
  runAsNonRoot: true,
  runAsUser: uid,
  runAsGroup: uid,
  fsGroup: uid,
  seccompProfile: { type: "RuntimeDefault" },
});

/** A pod under Pod Security "restricted" with what is given for its one container. */
export function pod(
  name: string,
  namespace: string,
  container: Obj,
  o: { uid?: number; labels?: Obj; volumes?: Obj[] } = {},
): string {
  const { volumeMounts = [], ...rest } = container;
  const manifest = {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, namespace, labels: o.labels ?? {} },
    spec: {
      restartPolicy: "Never",
      automountServiceAccountToken: false,
      enableServiceLinks: false,
      terminationGracePeriodSeconds: 1,
      securityContext: securityContext(o.uid ?? 1000),
      containers: [
        {
          name: "main",
          imagePullPolicy: "IfNotPresent",
          resources: { requests: { cpu: "50m", memory: "64Mi" }, limits: { memory: "256Mi" } },
          securityContext: {
            allowPrivilegeEscalation: false,
            readOnlyRootFilesystem: true,
            capabilities: { drop: ["ALL"] },
          },
          volumeMounts: [{ name: "tmp", mountPath: "/tmp" }, ...volumeMounts],
          ...rest,
        },
      ],
      volumes: [{ name: "tmp", emptyDir: {} }, ...(o.volumes ?? [])],
    },
  };
  // As kubectl reads it: there a bare `yes` is a truth value.
  return stringify(manifest, { version: "1.1" });
}

/** Pods by a selector, those that are ending left out. */
export async function pods(selector: string): Promise<Obj[]> {
  const { items } = await get(["pods", "-l", selector]);
  return items.filter((item: Obj) => !item.metadata.deletionTimestamp);
}

/** Name of one ready pod of a service; `role` is `all` in the light profile. */
export async function podOf(service: string, role?: string): Promise<string> {
  const selector = `quartet/service=${service}${role ? `,app.kubernetes.io/component=${role}` : ""}`;
  const found = await eventually(`a pod of ${service}`, async () =>
    (await pods(selector)).find((item) => isReady(item)),
  );
  return found.metadata.name;
}

export const isReady = (item: Obj): boolean =>
  !!item.status.conditions?.some((c: Obj) => c.type === "Ready" && c.status === "True");

/** Container restarts by pod, those without left out. */
export async function restarts(): Promise<Record<string, number>> {
  const { items } = await get(["pods"]);
  const counts = items.map((item: Obj) => [
    item.metadata.name,
    (item.status.containerStatuses ?? []).reduce((sum: number, s: Obj) => sum + s.restartCount, 0),
  ]);
  return Object.fromEntries(counts.filter(([, n]: [string, number]) => n > 0));
}

/** Working set of all pods of the namespace in bytes, as their kubelets count it. */
export async function memory(): Promise<number> {
  const { items } = JSON.parse(await run("kubectl", ["get", "nodes", "-o", "json"]));
  let sum = 0;
  for (const node of items) {
    const path = `/api/v1/nodes/${node.metadata.name}/proxy/stats/summary`;
    const summary = JSON.parse(await run("kubectl", ["get", "--raw", path]));
    for (const item of summary.pods) if (item.podRef.namespace === NAMESPACE) sum += item.memory?.workingSetBytes ?? 0;
  }
  return sum;
}

/** The operator's token. */
export async function operatorToken(): Promise<string> {
  const secret = await get(["secret", "quartet-gateway-operator"]);
  return Buffer.from(secret.data["operator-token"], "base64").toString();
}

/** Forwards a port of this machine to the gateway until `close`; it ends with the pod it went to. */
async function forwardGateway(): Promise<{ url: string; close(): void }> {
  const port = await freePort();
  const child = spawn("kubectl", ["--namespace", NAMESPACE, "port-forward", "service/quartet-gateway", `${port}:80`], {
    stdio: "ignore",
  });
  const url = `http://127.0.0.1:${port}`;
  await eventually("the gateway through a forwarded port", () => fetch(`${url}/openapi.json`).then((r) => r.ok));
  return { url, close: () => void child.kill() };
}

/** Where this machine reaches the gateway: its NodePort if it has one that answers, else a forwarded port. */
export async function reachGateway(): Promise<{ url: string; close(): void }> {
  const service = await get(["service", "quartet-gateway"]);
  const nodePort = service.spec.ports[0].nodePort;
  const { items } = JSON.parse(await run("kubectl", ["get", "nodes", "-o", "json"]));
  const address = items[0].status.addresses.find((a: Obj) => a.type === "InternalIP")?.address;
  if (nodePort && address) {
    const url = `http://${address}:${nodePort}`;
    for (let attempt = 0; attempt < 5; attempt++) {
      const answer = await fetch(`${url}/openapi.json`, { signal: AbortSignal.timeout(1000) }).catch(() => undefined);
      if (answer?.ok) return { url, close() {} };
      await sleep(200);
    }
  }
  return forwardGateway();
}

/** The API as a client of this machine sees it; the way to it is made anew, because a forwarded port ends with its pod. */
export async function withClient<T>(work: (client: Client) => Promise<T>): Promise<T> {
  const gateway = await reachGateway();
  try {
    return await work(new Client(gateway.url, await operatorToken()));
  } finally {
    gateway.close();
  }
}

/** Unique ids of the pods that a selector finds, once no Deployment has pods of an older kind. */
export async function uids(selector: string): Promise<string[]> {
  for (const name of (await kubectl(["get", "deployments", "-o", "name"])).split("\n").filter(Boolean))
    await kubectl(["rollout", "status", name, "--timeout=120s"]);
  return (await pods(selector)).map((item) => item.metadata.uid).sort();
}

/** Creates a job from a CronJob, with another script if one is given, and waits for its end; resolves to what it said, rejects with it if the job failed. */
export async function runJob(cron: string, name: string, script?: string): Promise<string> {
  const job = JSON.parse(
    await kubectl(["create", "job", `--from=cronjob/${cron}`, name, "--dry-run=client", "-o", "json"]),
  );
  if (script) job.spec.template.spec.containers[0].command = ["bash", "-euc", script];
  await kubectl(["apply", "-f", "-"], { input: JSON.stringify(job) });
  const done = (job: Obj, type: string) =>
    job.status.conditions?.some((c: Obj) => c.type === type && c.status === "True");
  const end = await eventually(
    `job ${name} to end`,
    async () => {
      const job = await get(["job", name]);
      return done(job, "Complete") ? "complete" : done(job, "Failed") ? "failed" : false;
    },
    180_000,
  );
  const said = await kubectl(["logs", `job/${name}`]);
  if (end === "failed") throw new Error(`job ${name} failed:\n${said}`);
  return said;
}
