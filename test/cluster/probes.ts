import { eventually } from "../lib/client.ts";
import { CLIENTS, evaluate, get, kubectl, NAMESPACE, type Obj, podOf, pods, run, SERVICES, STORES } from "./kube.ts";

export interface Target {
  name: string;
  host: string;
  port: number;
  /** Who may connect: names of services, or of the strangers. */
  allowed: string[];
}

/** Every port that a pod of the release listens on, and who may connect to it. */
export async function targets(): Promise<Target[]> {
  const ports: Obj = { user: 5432, session: 6379, analytics: 8123, search: 9200, nats: 4222 };
  const callers: Obj = {
    user: ["gateway", "session"],
    session: ["gateway", "user"],
    analytics: ["gateway", "user"],
    search: ["gateway", "user"],
    // Everybody who may connect to anything: a service has no reason to.
    gateway: ["stranger", "outsider"],
  };
  const found: Target[] = [];
  for (const name of STORES) {
    const [item] = await pods(`quartet/store=${name}`);
    const allowed = name === "nats" ? ["user", "session", "analytics", "search"] : [name];
    found.push({ name: `${name}-store`, host: item.status.podIP, port: ports[name], allowed });
    // The native protocol of ClickHouse, the transport of Elasticsearch, the figures of NATS: nobody's.
    const more: Obj = { analytics: 9000, search: 9300, nats: 8222 };
    if (more[name])
      found.push({ name: `${name}-store:${more[name]}`, host: item.status.podIP, port: more[name], allowed: [] });
  }
  for (const name of SERVICES) {
    const item = await get(["pod", await podOf(name)]);
    // What a pod sends to itself no policy sees.
    found.push({ name, host: item.status.podIP, port: 8080, allowed: [name, ...callers[name]] });
    found.push({ name: `${name}:admin`, host: item.status.podIP, port: 9080, allowed: [name] });
  }
  return found;
}

const connects = (targets: Target[]) => `
import net from "node:net";
const targets = ${JSON.stringify(targets)};
const answers = await Promise.all(targets.map(({ name, host, port }) => new Promise((done) => {
  const socket = net.connect({ host, port });
  const end = (reached) => { socket.destroy(); done([name, reached]); };
  socket.once("connect", () => end(true)).once("error", () => end(false));
  setTimeout(() => end(false), 3000);
})));
console.log(JSON.stringify(answers.filter(([, reached]) => reached).map(([name]) => name)));
`;

/** What each pod reached: every service, a stranger in the namespace that may send anywhere, and one from another namespace. */
export async function reached(list: Target[]): Promise<Record<string, string[]>> {
  const script = connects(list);
  const from = async (pod: string, args: string[] = []) => JSON.parse(await evaluate(pod, script, args)).sort();
  const sources = SERVICES.map(async (name) => [name, await from(await podOf(name))]);
  const strangers = [
    from("stranger").then((found) => ["stranger", found]),
    from("outsider", ["--namespace", CLIENTS]).then((found) => ["outsider", found]),
  ];
  return Object.fromEntries(await Promise.all([...sources, ...strangers]));
}

/** Starts the two strangers: pods that no policy of the charts is about. */
export async function startStrangers(manifest: (name: string, namespace: string) => string): Promise<void> {
  const open = `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: stranger-may-send, namespace: ${NAMESPACE} }
spec:
  podSelector: { matchLabels: { name: stranger } }
  policyTypes: [Egress]
  egress: [{}]
`;
  const input = `${open}---\n${manifest("stranger", NAMESPACE)}---\n${manifest("outsider", CLIENTS)}`;
  await run("kubectl", ["apply", "-f", "-"], { input });
  for (const [name, namespace] of [
    ["stranger", NAMESPACE],
    ["outsider", CLIENTS],
  ] as const)
    await kubectl(["wait", "--for=condition=Ready", `pod/${name}`, "--timeout=60s", "--namespace", namespace]);
}

/** A subject of its own stream that the service may ask about, and what it must not say or hear. */
const SUBJECTS: Record<string, { may: string; mayNot: string[] }> = {
  user: {
    may: "$JS.API.STREAM.INFO.USERS",
    mayNot: ["dead.search.x", "activity.search", "heartbeat.facts.session", "$JS.API.STREAM.DELETE.USERS"],
  },
  session: {
    may: "$JS.API.STREAM.INFO.FACTS",
    mayNot: ["users.x", "facts.user.created.x", "activity.user", "$JS.API.STREAM.PURGE.USERS"],
  },
  analytics: {
    may: "$JS.API.STREAM.INFO.FACTS",
    mayNot: ["users.x", "facts.session.started.x", "activity.user", "$JS.API.STREAM.INFO.USERS"],
  },
  search: {
    may: "$JS.API.STREAM.INFO.USERS",
    mayNot: ["users.x", "facts.track.x.-", "activity.user", "$JS.API.STREAM.INFO.FACTS"],
  },
};

/** What no service may hear. */
const FOREIGN = ["users.*", "facts.>", "activity.*", "_INBOX_other.>", ">"];

const speaks = (service: string, subjects: { may: string; mayNot: string[] }) => `
import { connect } from "nats";
const url = new URL(process.env.NATS_URL);
const login = { servers: url.host, user: url.username, pass: url.password, inboxPrefix: "_INBOX_${service}" };
const refused = new Set();
const nats = await connect(login);
(async () => { for await (const s of nats.status()) if (s.permissionContext) refused.add(s.permissionContext.operation + " " + s.permissionContext.subject); })();
const { may, mayNot } = ${JSON.stringify(subjects)};
const allowed = JSON.parse(new TextDecoder().decode((await nats.request(may, "", { timeout: 3000 })).data)).config?.name;
for (const subject of mayNot) nats.publish(subject, "");
for (const subject of ${JSON.stringify(FOREIGN)}) nats.subscribe(subject, { callback() {} });
await nats.flush();
const until = Date.now() + 5000;
while (refused.size < mayNot.length + ${FOREIGN.length} && Date.now() < until) await new Promise((r) => setTimeout(r, 20));
await nats.close();
const nobody = await connect({ servers: url.host }).then(() => "let in", (e) => e.code);
console.log(JSON.stringify({ allowed, refused: [...refused].sort(), nobody }));
`;

/** What NATS lets a service say: `missing` are the subjects that it should have been refused and was not. */
export async function crossSubjects(service: string): Promise<{ allowed: string; missing: string[]; nobody: string }> {
  const subjects = SUBJECTS[service]!;
  const found = JSON.parse(await evaluate(await podOf(service), speaks(service, subjects)));
  const wanted = [...subjects.mayNot.map((s) => `publish ${s}`), ...FOREIGN.map((s) => `subscription ${s}`)];
  const missing = wanted.filter((w) => !found.refused.some((r: string) => r.toLowerCase() === w.toLowerCase()));
  return { allowed: found.allowed, missing, nobody: found.nobody };
}

/** NATS loses every stream: deleted by its administrator, from a pod that may reach it. */
export async function loseStreams(): Promise<void> {
  const secret = (await get(["secret", "quartet-nats-auth"])).data;
  await evaluate(
    await podOf("analytics"),
    `
import { connect } from "nats";
const nats = await connect({ servers: new URL(process.env.NATS_URL).host, user: "admin", pass: atob("${secret.admin}") });
const jsm = await nats.jetstreamManager();
for (const stream of ["USERS", "FACTS", "DEAD"]) await jsm.streams.delete(stream);
await nats.close();
`,
  );
}

/** Kills a store's pod without grace and waits until another stands in its place, ready. */
export async function killStore(service: string): Promise<void> {
  const name = `quartet-${service}-store-0`;
  const before = (await get(["pod", name])).metadata.uid;
  await kubectl(["delete", "pod", name, "--grace-period=0", "--force", "--wait=false"]);
  await eventually(
    `${name} again`,
    async () => {
      const item = await get(["pod", name]).catch(() => undefined);
      return item && item.metadata.uid !== before && item.status.containerStatuses?.[0]?.ready;
    },
    150_000,
  );
}
