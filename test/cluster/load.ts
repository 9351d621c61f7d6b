import { readFileSync } from "node:fs";
import { stringify } from "yaml";
import { eventually } from "../lib/client.ts";
import { CLIENTS, imageOf, NAMESPACE, operatorToken, pod, run } from "./kube.ts";

/** What the client of load.mjs says at its end. */
export interface Report {
  seconds: number;
  requests: number;
  /** Writes that were acknowledged. */
  writes: number;
  failed: number;
  /** Failed requests by operation and status; status 0 had no answer. */
  byKind: Record<string, number>;
  failures: { op: string; status: number; detail: string; at: string; ms: number }[];
  /** What is not as it was acknowledged. */
  wrong: string[];
  people: number;
  /** Sign-ups as analytics counts them. */
  counted: { before: number; after: number; made: number };
  found: Record<string, unknown>;
}

const inClients = (args: string[], o = {}) => run("kubectl", ["--namespace", CLIENTS, ...args], o);

/** Starts a load on the gateway's Service from a pod of its own; resolves once every worker is logged in. */
export async function startLoad(name: string, env: Record<string, string> = {}): Promise<{ stop(): Promise<Report> }> {
  const script = { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "load", namespace: CLIENTS } };
  const data = { "load.mjs": readFileSync(new URL("./load.mjs", import.meta.url), "utf8") };
  const variables = {
    TARGET: `http://quartet-gateway.${NAMESPACE}`,
    OPERATOR_TOKEN: await operatorToken(),
    ...env,
  };
  const container = {
    image: imageOf("gateway"),
    command: ["node", "/load/load.mjs"],
    env: Object.entries(variables).map(([key, value]) => ({ name: key, value })),
    volumeMounts: [{ name: "load", mountPath: "/load", readOnly: true }],
  };
  const volumes = [{ name: "load", configMap: { name: "load" } }];
  const manifest = pod(name, CLIENTS, container, { volumes, labels: { load: "yes" } });
  // One that a failed test has left would be counted in this one.
  await inClients(["delete", "pod", "-l", "load=yes", "--wait"]);
  await inClients(["apply", "-f", "-"], { input: `${stringify({ ...script, data })}---\n${manifest}` });
  const log = () => inClients(["logs", name]).catch(() => "");
  const phase = () => inClients(["get", "pod", name, "-o", "jsonpath={.status.phase}"]);
  await eventually(
    `the load ${name} to begin`,
    async () => {
      if ((await phase()) === "Failed") throw new Error(await log());
      return (await log()).includes("loading");
    },
    90_000,
  );
  return {
    async stop() {
      await inClients(["exec", name, "--", "touch", "/tmp/stop"]);
      await eventually(`the load ${name} to end`, async () => ["Succeeded", "Failed"].includes(await phase()), 180_000);
      const said = await log();
      const line = said.split("\n").findLast((l) => l.startsWith("{"));
      if (!line) throw new Error(`the load ${name} failed:\n${said.slice(-3000)}`);
      return JSON.parse(line);
    },
  };
}
