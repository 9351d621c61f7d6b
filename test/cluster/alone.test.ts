import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { stringify } from "yaml";
import { eventually } from "../lib/client.ts";
import { commandsOfNotes, openTerminal } from "./commands.ts";
import { clusterValues, makeNamespace, NAMESPACE, type Obj, pod, removeNamespace, run, storeImageOf } from "./kube.ts";

/**
 * Each chart by itself in a namespace of its own, with its store inside and with one that somebody else runs. Nothing of the others is there: no NATS,
 * no peers. All at once, because most of it is waiting.
 */
const WITH_STORE = ["user", "session", "analytics", "search"] as const;
const CHARTS = [...WITH_STORE, "gateway", "nats"] as const;
const STORES = `${NAMESPACE}-stores`;
const spaceOf = (chart: string) => `${NAMESPACE}-${chart}`;
const PASSWORD = "of-the-plain-store";
const WAIT = ["--wait", "--timeout", "6m"];

/** Stores as anybody might run them: official images, nothing of our charts. */
const PLAIN: Record<
  (typeof WITH_STORE)[number],
  { port: number; uid: number; url: string; container: Obj; writable: string[] }
> = {
  user: {
    port: 5432,
    uid: 999,
    url: `postgres://owner:${PASSWORD}@postgres.${STORES}:5432/people`,
    container: {
      args: ["postgres", "-c", "wal_level=logical"],
      env: { POSTGRES_USER: "owner", POSTGRES_PASSWORD: PASSWORD, POSTGRES_DB: "people" },
    },
    writable: ["/var/lib/postgresql", "/var/run/postgresql"],
  },
  session: {
    port: 6379,
    uid: 999,
    url: `redis://default:${PASSWORD}@redis.${STORES}:6379`,
    container: {
      args: [
        "redis-server",
        "--requirepass",
        PASSWORD,
        "--appendonly",
        "yes",
        "--appendfsync",
        "always",
        "--dir",
        "/data",
      ],
      env: {},
    },
    writable: ["/data"],
  },
  analytics: {
    port: 8123,
    uid: 101,
    url: `http://owner:${PASSWORD}@clickhouse.${STORES}:8123/facts`,
    container: { env: { CLICKHOUSE_USER: "owner", CLICKHOUSE_PASSWORD: PASSWORD, CLICKHOUSE_DB: "facts" } },
    writable: ["/var/lib/clickhouse", "/var/log/clickhouse-server"],
  },
  search: {
    port: 9200,
    uid: 1000,
    url: `http://elasticsearch.${STORES}:9200`,
    container: {
      env: {
        "discovery.type": "single-node",
        "xpack.security.enabled": "false",
        "node.store.allow_mmap": "false",
        ES_JAVA_OPTS: "-Xms512m -Xmx512m",
      },
    },
    writable: ["/usr/share/elasticsearch/data"],
  },
};

function plainStore(service: (typeof WITH_STORE)[number]): string {
  const { port, uid, url, container, writable } = PLAIN[service];
  const name = new URL(url).hostname.split(".")[0]!;
  const mounts = writable.map((mountPath, i) => ({ name: `w${i}`, mountPath }));
  const manifest = pod(
    name,
    STORES,
    {
      image: storeImageOf(service),
      ...container,
      env: Object.entries(container.env).map(([key, value]) => ({ name: key, value })),
      resources: { requests: { cpu: "50m", memory: "128Mi" }, limits: { memory: "1Gi" } },
      securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: ["ALL"] } },
      volumeMounts: mounts,
    },
    { uid, labels: { store: name }, volumes: mounts.map((mount) => ({ name: mount.name, emptyDir: {} })) },
  );
  const service_ = {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name, namespace: STORES },
    spec: { selector: { store: name }, ports: [{ port, targetPort: port }] },
  };
  return `${manifest}---\n${stringify(service_)}`;
}

const helm = (chart: string, args: string[]) =>
  run("helm", ["--namespace", spaceOf(chart), ...args], { timeoutMs: 400_000 });

/** What went on in the chart's namespace, for the message of a test that failed. */
async function explain(chart: string, error: unknown): Promise<never> {
  const ns = ["--namespace", spaceOf(chart)];
  const seen = await run("kubectl", [...ns, "get", "pods,events"]).catch(String);
  const said = await run("kubectl", [
    ...ns,
    "logs",
    "--tail=15",
    "--prefix",
    "-l",
    "app.kubernetes.io/part-of=quartet",
  ]).catch(String);
  throw new Error(`${chart}: ${(error as Error).message}\n${seen.slice(-3000)}\n${said.slice(-3000)}`);
}

async function installAndTest(chart: string, values: string[]): Promise<void> {
  try {
    const light = ["--set", chart === "nats" ? "replicas=1" : "mode=all"];
    await helm(chart, ["install", chart, `charts/${chart}`, ...light, ...clusterValues(chart), ...values, ...WAIT]);
    expect(await helm(chart, ["test", chart, "--timeout", "4m"])).toMatch(/Phase:\s+Succeeded/);
  } catch (error) {
    await explain(chart, error);
  }
}

/** Commands of the chart's notes that a pattern fits, run as they stand there; what each said. */
async function follow(chart: string, notes: string, pattern: RegExp): Promise<string[]> {
  const terminal = openTerminal(spaceOf(chart), "helm");
  const commands = commandsOfNotes(chart, notes).filter((c) => pattern.test(c.command));
  const said: string[] = [];
  try {
    for (const { command } of commands) said.push(await terminal.run(command));
  } finally {
    terminal.close();
  }
  return said;
}

/** What a release leaves is what its notes say, and how to remove that. */
async function uninstall(chart: string): Promise<void> {
  const notes = await helm(chart, ["get", "notes", chart]);
  if (chart !== "nats") expect((await follow(chart, notes, / get pods /))[0]).toContain("Running");
  await helm(chart, ["uninstall", chart, "--wait"]);
  expect(await follow(chart, notes, / delete /)).toHaveLength(1);
  const kinds = "statefulsets,deployments,services,configmaps,secrets,networkpolicies,persistentvolumeclaims";
  const left = () =>
    run("kubectl", [
      "--namespace",
      spaceOf(chart),
      "get",
      kinds,
      "-l",
      `app.kubernetes.io/instance=${chart}`,
      "-o",
      "name",
    ]);
  await eventually(`nothing of ${chart} to be left`, async () => (await left()) === "", 60_000);
}

const all = (charts: readonly string[], work: (chart: string) => Promise<void>) => Promise.all(charts.map(work));

beforeAll(async () => {
  await Promise.all([makeNamespace(STORES, false), ...CHARTS.map((chart) => makeNamespace(spaceOf(chart), true))]);
}, 300_000);

afterAll(async () => {
  if (!process.env.QUARTET_TEST_KEEP) await Promise.all([STORES, ...CHARTS.map(spaceOf)].map(removeNamespace));
}, 300_000);

describe("each chart alone", () => {
  test("with its store inside: it installs, and its own test passes", async () => {
    await all(CHARTS, (chart) => installAndTest(chart, chart === "gateway" ? ["--set", "service.nodePort=null"] : []));
    await all(CHARTS, uninstall);
  }, 900_000);

  test("with a store that somebody else runs: it installs, and its own test passes", async () => {
    await run("kubectl", ["apply", "-f", "-"], { input: WITH_STORE.map(plainStore).join("---\n") });
    await run("kubectl", ["--namespace", STORES, "wait", "--for=condition=Ready", "pod", "--all", "--timeout=120s"]);
    await all(WITH_STORE, async (chart) => {
      const ns = ["--namespace", spaceOf(chart)];
      await run("kubectl", [
        ...ns,
        "create",
        "secret",
        "generic",
        "plain",
        `--from-literal=url=${PLAIN[chart as "user"].url}`,
      ]);
      const peers = [{ namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": STORES } } }];
      await installAndTest(chart, [
        ...["--set", "store.mode=external,store.external.existingSecret=plain"],
        ...["--set-json", `store.external.networkPolicyPeers=${JSON.stringify(peers)}`],
      ]);
      const stores = await run("kubectl", [...ns, "get", "statefulsets", "-o", "name"]);
      expect(stores).toBe("");
    });
  }, 900_000);
});
