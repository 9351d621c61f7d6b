import { X509Certificate } from "node:crypto";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Client, eventually, logIn, signUp } from "../lib/client.ts";
import {
  clusterValues,
  evaluate,
  exec,
  get,
  helm,
  kubectl,
  makeNamespace,
  NAMESPACE,
  type Obj,
  operatorToken,
  podOf,
  pods,
  reachGateway,
  removeNamespace,
} from "./kube.ts";

/**
 * TLS from the services to their stores and to NATS, by one value. Stores whose server cannot, on the cluster under test, are left out by its own values
 * (global.tls.except). The tests follow one another.
 */
const ON = ["-f", "charts/quartet/values-light.yaml", "--set", "global.tls.enabled=true,gateway.service.nodePort=null"];
const PORTS: Record<string, string> = {
  user: "quartet-user-store:5432",
  session: "quartet-session-store:6379",
  analytics: "quartet-analytics-store:8123",
  search: "quartet-search-store:9200",
  nats: "quartet-nats:4222",
};

const install = () =>
  helm(["upgrade", "--install", "quartet", "charts/quartet", ...clusterValues(), ...ON, "--wait", "--timeout", "6m"], {
    timeoutMs: 400_000,
  });

/** The parts that speak TLS: those with a Secret of a certificate. */
async function secured(): Promise<string[]> {
  const { items } = await get(["secrets", "-l", "app.kubernetes.io/component=tls"]);
  return items.map((item: Obj) => item.metadata.labels["app.kubernetes.io/name"]).sort();
}

/** What was there before: everything by kind, name, version and restarts, but what counts time. */
async function standing(): Promise<string[]> {
  const secrets = await get(["secrets", "-l", "app.kubernetes.io/instance=quartet"]);
  const all = [...secrets.items, ...(await pods("quartet/service")), ...(await pods("quartet/store"))];
  return all
    .map((o: Obj) => `${o.metadata.name} ${o.metadata.uid} ${o.status?.containerStatuses?.[0]?.restartCount ?? ""}`)
    .sort();
}

async function useIt(): Promise<void> {
  const gateway = await reachGateway();
  try {
    const client = new Client(gateway.url, await operatorToken());
    const person = await signUp(client);
    const { token } = await logIn(client, person);
    const found = await client.get(`/v1/search?q=${person.handle}`, { after: person.created });
    expect(found.body.hits.map((hit: Obj) => hit.handle)).toContain(person.handle);
    const current = await client.get("/v1/sessions/current", { token });
    expect(current.body.user.handle).toBe(person.handle);
    await eventually("the sign-up in the history", async () => {
      const { body } = await client.get("/v1/admin/status", { token: client.operatorToken });
      return body.stores.clickhouse.facts >= 1;
    });
  } finally {
    gateway.close();
  }
}

beforeAll(async () => {
  await makeNamespace(NAMESPACE, true);
  await install();
}, 700_000);

afterAll(async () => {
  if (!process.env.QUARTET_TEST_KEEP) await removeNamespace(NAMESPACE);
}, 300_000);

test("a sign-up is found, its session lives, and its history is counted", async () => {
  const parts = await secured();
  console.log(`TLS: ${parts.join(", ")}`);
  expect(parts).toContain("nats");
  const said = await helm(["test", "quartet"], { timeoutMs: 300_000 });
  expect(said).not.toMatch(/Phase:\s+(Failed|Unknown)/);
  await useIt();
}, 400_000);

test("each server has a certificate of the release's authority for its name, and answers nobody in plain text", async () => {
  for (const part of await secured()) {
    const service = part === "nats" ? "user" : part;
    const [host, port] = PORTS[part]!.split(":");
    // PostgreSQL and NATS say first that they speak TLS; the others speak nothing else.
    const said = await evaluate(
      await podOf(service),
      `
      import net from "node:net";
      import tls from "node:tls";
      const [host, port] = ["${host}", ${port}];
      const open = () => new Promise((done, failed) => {
        const socket = net.connect(port, host, () => done(socket));
        socket.once("error", failed);
      });
      const heard = (socket) => new Promise((done) => {
        socket.once("data", (chunk) => done(String(chunk)));
        socket.once("close", () => done("closed"));
        socket.once("error", (error) => done(error.code));
      });
      const first = { user: Buffer.from([0, 0, 0, 8, 4, 210, 22, 47]) }["${part}"];
      const plain = { session: "PING\\r\\n", analytics: "GET /ping HTTP/1.0\\r\\n\\r\\n", search: "GET / HTTP/1.0\\r\\n\\r\\n", nats: "PING\\r\\n" }["${part}"];
      const socket = await open();
      if (first) socket.write(first);
      const hello = first || "${part}" === "nats" ? await heard(socket) : "";
      const secure = tls.connect({ socket, servername: host });
      await new Promise((done, failed) => secure.once("secureConnect", done).once("error", failed));
      const { subject, issuer } = secure.getPeerCertificate();
      const found = { protocol: secure.getProtocol(), subject: subject.CN, issuer: issuer.CN };
      secure.destroy();
      let answer = "";
      if (plain) {
        const bare = await open();
        if ("${part}" === "nats") await heard(bare);
        bare.write(plain);
        answer = await heard(bare);
        bare.destroy();
      }
      console.log(JSON.stringify({ ...found, hello: hello.slice(0, 400), answer }));
      process.exit(0);
      `,
    );
    const found = JSON.parse(said.trim().split("\n").at(-1)!);
    expect(found, part).toMatchObject({
      protocol: expect.stringMatching(/^TLSv1\.[23]$/),
      issuer: "quartet-authority",
    });
    expect(found.answer, part).not.toMatch(/PONG|Ok\.|cluster_name/);
    if (part === "nats") expect(found.hello).toContain('"tls_required":true');
    if (part === "user") expect(found.hello).toBe("S");
  }
}, 120_000);

test("the same values again change no Secret and restart nothing", async () => {
  const before = await standing();
  await install();
  expect(await standing()).toEqual(before);
}, 500_000);

test("another authority comes in the order of k8s/README.md, and then nothing of the old one is left in use", async () => {
  const certificate = async (name: string) =>
    new X509Certificate(Buffer.from((await get(["secret", name])).data["tls.crt"], "base64"));
  const believed = async () =>
    (await get(["configmap", "quartet-authority"])).data["ca.crt"].match(/BEGIN CERTIFICATE/g).length;
  const rolled = async (what: string[]) => {
    const names = (await kubectl(["get", "-o", "name", ...what])).trim().split("\n");
    await kubectl(["rollout", "restart", ...names]);
    for (const name of names) await kubectl(["rollout", "status", name, "--timeout=150s"]);
  };
  const parts = await secured();
  const before = await certificate("quartet-authority");
  expect(await believed()).toBe(1);
  await kubectl(["delete", "secret", "quartet-authority"]);
  await install();
  expect(await believed()).toBe(2);
  await rolled(["deployment", "-l", "app.kubernetes.io/part-of=quartet"]);
  await useIt();
  await kubectl(["delete", "secret", "-l", "app.kubernetes.io/component=tls"]);
  await install();
  expect(await secured()).toEqual(parts);
  const now = await certificate("quartet-authority");
  for (const part of parts) {
    const own = await certificate(`quartet-${part}-tls`);
    expect([own.verify(now.publicKey), own.verify(before.publicKey)], part).toEqual([true, false]);
  }
  for (const part of parts) await rolled([`statefulset/quartet-${part}-store`]);
  // By hand too, with TLS or without.
  await exec(
    "quartet-session-store-0",
    'REDISCLI_AUTH="$ADMIN_PASSWORD" redis-cli $REDIS_CLI_OPTIONS --user admin ping',
  );
  await eventually("the system", () => useIt().then(() => true), 60_000);
}, 900_000);
