import { type ChildProcess, spawn } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { choosePort } from "@quartet/engines";
import { Kubectl } from "./inject/kubectl.ts";
import { KubernetesInjector } from "./inject/kubernetes.ts";
import { clusterStores } from "./stores/kubernetes.ts";
import type { Target } from "./system.ts";

/** A system in a cluster. QUARTET_URL says where its gateway is reached from here; without it a port is forwarded, again whenever that ends. */
export async function clusterSystem(context: string, namespace: string, say: (line: string) => void): Promise<Target> {
  const kubectl = new Kubectl(context, namespace);
  const [gateway] = (
    await kubectl.json<{ items: { metadata: { name: string }; spec: { ports: { port: number }[] } }[] }>(
      "get",
      "services",
      "-l",
      "app.kubernetes.io/name=gateway",
    )
  ).items;
  if (!gateway) throw new Error(`no gateway's Service in ${namespace} of ${context}`);
  const secret = await kubectl.json<{ data: Record<string, string> }>(
    "get",
    "secret",
    `${gateway.metadata.name}-operator`,
  );
  const operatorToken = Buffer.from(secret.data["operator-token"] ?? "", "base64").toString();
  let closed = false;
  let forward: ChildProcess | undefined;
  let url = process.env.QUARTET_URL;
  if (!url) {
    const port = await choosePort();
    url = `http://127.0.0.1:${port}`;
    const start = (): void => {
      if (closed) return;
      const words = ["port-forward", `service/${gateway.metadata.name}`, `${port}:${gateway.spec.ports[0]!.port}`];
      forward = spawn("kubectl", kubectl.arguments(...words), { stdio: "ignore" });
      forward.once("exit", () => setTimeout(start, 500));
    };
    start();
    for (let attempt = 0; attempt < 100; attempt++) {
      if (
        await fetch(`${url}/healthz`).then(
          (r) => r.ok,
          () => false,
        )
      )
        break;
      await sleep(200);
    }
  }
  say(`the system of ${namespace} in ${context}, at ${url}`);
  const injector = new KubernetesInjector(kubectl);
  return {
    url,
    operatorToken,
    injector,
    stores: clusterStores(kubectl),
    async close() {
      closed = true;
      await injector.mendAll();
      forward?.kill();
    },
  };
}
