import { setTimeout as sleep } from "node:timers/promises";
import { STORES, type Store } from "../availability.ts";
import { APIS, type Capability, type Injector, type Part, REPLICAS, WORKERS } from "./injector.ts";
import type { Kubectl } from "./kubectl.ts";

/** Which chart brings a store. */
export const CHART_OF: Record<Store, string> = {
  postgres: "user",
  redis: "session",
  clickhouse: "analytics",
  elasticsearch: "search",
  nats: "nats",
};
const READY_MS = 180_000;

interface Policy {
  metadata: { name: string };
  spec: { ingress?: unknown[] };
}

/** Breaks a system in a cluster: pods deleted without grace, controllers scaled to nothing, the policy that lets a store be reached taken away. */
export class KubernetesInjector implements Injector {
  readonly kind = "kubernetes";
  readonly #kubectl: Kubectl;
  /** Replicas to go back to, by controller. */
  readonly #held = new Map<string, number>();
  readonly #frozen = new Set<Part>();
  /** What each store let in before it was cut off, by policy. */
  readonly #ingress = new Map<Store, { policy: string; ingress: unknown[] }>();
  #enforced: boolean | undefined;

  constructor(kubectl: Kubectl) {
    this.#kubectl = kubectl;
  }

  async cannot(what: Capability, part?: Part): Promise<string | undefined> {
    if (what === "slow") return "a pod under the restricted profile may not shape traffic";
    if (what === "rewind") return "the volume of a pod is not put back behind the cluster's back";
    if (what === "delete-consumer") return "NATS's own pod has no client to delete a consumer with";
    if (part && WORKERS.includes(part as never) && (await this.#sharesItsPod(part))) {
      return `${part} is no Deployment of its own (mode: split in the chart's values makes it one)`;
    }
    if (part && REPLICAS.includes(part as never)) return `${part}: a Deployment's pods have no names of their own`;
    if (what === "cut") {
      this.#enforced ??= await this.#isEnforced();
      if (!this.#enforced)
        return "this cluster's network enforces no NetworkPolicy: a store that nobody may reach was reached";
    }
    if (what === "freeze" && part) {
      const server = (await this.#kubectl.exec(await this.#podOf(part), "cat /proc/1/comm")).trim();
      if (!/^(tini|dumb-init|catatonit|pause|sh|bash)$/.test(server)) {
        return `${server} is process 1 of its container, which no signal from inside can stop`;
      }
    }
    return undefined;
  }

  #selector(part: Part): string {
    if (STORES.includes(part as Store)) return `quartet/store=${CHART_OF[part as Store]}`;
    const [service, role = "api"] = part.split("-");
    return `quartet/service=${service},app.kubernetes.io/component in (${role},all)`;
  }

  async #sharesItsPod(part: Part): Promise<boolean> {
    const [service, role] = part.split("-");
    const labels = `app.kubernetes.io/name=${service},app.kubernetes.io/component=${role}`;
    const { items } = await this.#kubectl.json<{ items: unknown[] }>("get", "deployments", "-l", labels);
    return items.length === 0;
  }

  #podOf(part: Part): Promise<string> {
    return this.#kubectl.pod(this.#selector(part));
  }

  async #controllersOf(part: Part): Promise<{ name: string; replicas: number }[]> {
    const labels = STORES.includes(part as Store)
      ? `app.kubernetes.io/name=${CHART_OF[part as Store]},app.kubernetes.io/component=store`
      : this.#selector(part).replace("quartet/service=", "app.kubernetes.io/name=");
    const { items } = await this.#kubectl.json<{
      items: { kind: string; metadata: { name: string }; spec: { replicas?: number } }[];
    }>("get", "deployments,statefulsets", "-l", labels);
    return items.map((i) => ({ name: `${i.kind.toLowerCase()}/${i.metadata.name}`, replicas: i.spec.replicas ?? 1 }));
  }

  async kill(part: Part, options: { hold?: boolean } = {}): Promise<void> {
    if (options.hold) {
      for (const { name, replicas } of await this.#controllersOf(part)) {
        if (replicas > 0) this.#held.set(name, replicas);
        await this.#kubectl.run("scale", name, "--replicas=0");
      }
    }
    await this.#kubectl.run(
      "delete",
      "pods",
      "-l",
      this.#selector(part),
      "--grace-period=0",
      "--force",
      "--wait=false",
    );
  }

  async freeze(part: Part): Promise<void> {
    await this.#signal(part, "STOP");
    this.#frozen.add(part);
  }

  async #signal(part: Part, signal: "STOP" | "CONT"): Promise<void> {
    const children = `for s in /proc/[0-9]*; do p=\${s#/proc/}; [ "$p" = 1 ] || [ "$p" = $$ ] || kill -${signal} "$p" 2>/dev/null; done; true`;
    await this.#kubectl.exec(await this.#podOf(part), children);
  }

  async revive(part: Part): Promise<void> {
    if (this.#frozen.delete(part)) await this.#signal(part, "CONT");
    for (const { name } of await this.#controllersOf(part)) {
      const replicas = this.#held.get(name);
      if (replicas === undefined) continue;
      await this.#kubectl.run("scale", name, `--replicas=${replicas}`);
      this.#held.delete(name);
    }
  }

  /** The policy that says who may reach a store. */
  async #policyOf(store: Store): Promise<Policy | undefined> {
    const { items } = await this.#kubectl.json<{
      items: (Policy & { spec: { podSelector: { matchLabels?: object } } })[];
    }>("get", "networkpolicies");
    return items.find((p) => {
      const labels = (p.spec.podSelector.matchLabels ?? {}) as Record<string, string>;
      return labels["quartet/store"] === CHART_OF[store] && p.spec.ingress !== undefined;
    });
  }

  async #setIngress(policy: string, ingress: unknown[]): Promise<void> {
    const patch = JSON.stringify([{ op: "replace", path: "/spec/ingress", value: ingress }]);
    await this.#kubectl.run("patch", "networkpolicy", policy, "--type=json", "-p", patch);
  }

  async cut(store: Store): Promise<void> {
    const policy = await this.#policyOf(store);
    if (!policy) throw new Error(`no NetworkPolicy says who may reach ${store}`);
    if (!this.#ingress.has(store)) {
      this.#ingress.set(store, { policy: policy.metadata.name, ingress: policy.spec.ingress ?? [] });
    }
    await this.#setIngress(policy.metadata.name, []);
  }

  async slow(): Promise<void> {
    throw new Error("nothing here can slow a connection");
  }

  async mend(store: Store): Promise<void> {
    const before = this.#ingress.get(store);
    if (!before) return;
    await this.#setIngress(before.policy, before.ingress);
    this.#ingress.delete(store);
  }

  /** Cuts a store off for a moment and tries to reach it from its own service's pod by a new connection. */
  async #isEnforced(): Promise<boolean> {
    const from = await this.#podOf("search");
    const probe = `node -e 'const u=new URL(process.env.ELASTICSEARCH_URL);const s=require("net").connect(u.port||9200,u.hostname);s.on("connect",()=>process.exit(0));s.on("error",()=>process.exit(1));setTimeout(()=>process.exit(1),2000)' && echo reached || echo silence`;
    await this.cut("elasticsearch");
    try {
      for (let attempt = 0; attempt < 5; attempt++) {
        if ((await this.#kubectl.exec(from, probe)).trim() === "silence") return true;
        await sleep(500);
      }
      return false;
    } finally {
      await this.mend("elasticsearch");
    }
  }

  async copyNats(): Promise<void> {
    throw new Error("not in a cluster");
  }

  async rewindNats(): Promise<void> {
    throw new Error("not in a cluster");
  }

  async restartAll(): Promise<void> {
    const all = "app.kubernetes.io/part-of=quartet";
    await this.#kubectl.run("delete", "pods", "-l", all, "--grace-period=0", "--force", "--wait=false");
    for (const kind of ["statefulset", "deployment"]) {
      const { items } = await this.#kubectl.json<{ items: { metadata: { name: string } }[] }>("get", kind, "-l", all);
      for (const { metadata } of items) {
        await this.#kubectl.run("rollout", "status", `${kind}/${metadata.name}`, `--timeout=${READY_MS / 1000}s`);
      }
    }
  }

  async dropSlot(): Promise<void> {
    const pod = await this.#podOf("postgres");
    const drop = `for i in $(seq 50); do psql -qAtX -U postgres -d quartet -c "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active_pid IS NOT NULL" >/dev/null; psql -qAtX -U postgres -d quartet -c "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots" >/dev/null 2>&1 && exit 0; done; exit 1`;
    await this.#kubectl.exec(pod, drop);
  }

  async deleteConsumer(): Promise<void> {
    throw new Error("not in a cluster");
  }

  async mendAll(): Promise<void> {
    for (const store of STORES) await this.mend(store);
    for (const part of [...STORES, ...WORKERS, ...APIS]) {
      if (this.#frozen.has(part) || this.#held.size > 0) await this.revive(part).catch(() => {});
    }
  }
}
