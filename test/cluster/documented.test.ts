import { spawn } from "node:child_process";
import { cpSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { stringify } from "yaml";
import { findHelm } from "../charts/helm.ts";
import { Client, eventually, logIn, type Person, signUp } from "../lib/client.ts";
import { type Command, clusterPages, commandsOf, commandsOfNotes, openTerminal, type Terminal } from "./commands.ts";
import {
  clusterValues,
  evaluate,
  exec,
  get,
  kubectl,
  makeNamespace,
  NAMESPACE,
  type Obj,
  operatorToken,
  podOf,
  reachGateway,
  removeNamespace,
  root,
  run,
  SERVICES,
  uids,
  withClient,
} from "./kube.ts";

/**
 * The commands of the pages about a cluster, as they stand there, in the life of one release for each major version of Helm that is here: installed, looked at,
 * enlarged, backed up, restored, upgraded, rolled back, uninstalled and removed.
 */

/** Where the commands are run that are not run here; or why they cannot be. */
const ELSEWHERE: [command: RegExp, why: string][] = [
  [/^(kind|minikube|skaffold|tilt) /, "make a cluster or images of their own, which needs Docker"],
  [
    /^npm run (generate|test:charts|lint:charts|cluster:test|cluster:test:long)$/,
    "look at the charts, or are these tests",
  ],
  [/^k8s\/cluster\.sh images$/, "came before these tests"],
  ...(process.env.QUARTET_IMAGE_BUILD
    ? []
    : [[/^npm run cluster:up$/, "needs QUARTET_IMAGE_BUILD"] as [RegExp, string]]),
  [/^(helm (rollback|uninstall|test|upgrade|upgrade --force-conflicts)|kubectl scale)$/, "names what is run at length"],
  [/^helm (install|test) (user|session|analytics|search|gateway|nats) /, "alone.test.ts, in a namespace of each"],
  [/k8s\/ha\/|values-ha\.yaml/, "need the operators of the stores"],
  [/^kubectl get crd /, "needs the operators' definitions"],
  [/grafana/, "there is no image of Grafana on a cluster without a registry"],
  [/^--set .*kube-prometheus-stack/, "needs the Prometheus operator's definitions"],
  [/^ALTER ROLE .*\.\.\.$/, "what k8s/rotate-password.sh does"],
  [/^ROLLBACK PREPARED /, "prepared transactions are off in the PostgreSQL of the charts"],
  [/quartet-nats-tls|quartet-authority|rollout restart /, "tls.test.ts, with TLS switched on"],
  [/rotate-password\.sh/, "quartet.test.ts, every part of it"],
  [/^kubectl create job --from=cronjob\/<name>-backup now$/, "stands in k8s/README.md at length"],
  [/app\.kubernetes\.io\/name=\w+,app\.kubernetes\.io\/instance=<release>$/, "alone.test.ts, as the notes have it"],
  [/^ROLE=| \.\.\.$/, "is no whole command"],
];
const elsewhere = ({ command }: Command) => ELSEWHERE.some(([pattern]) => pattern.test(command));

/** Commands that were run. */
const done = new Set<string>();
const once = (c: Command) => `${c.page}: ${c.command}`;

const folder = mkdtempSync(join(tmpdir(), "quartet-documented-"));
const OWN = join(folder, "own.yaml");

/** Helm by its version: the one of PATH and the pinned one of the chart tests, if they are of two major versions. */
async function helms(): Promise<[version: string, path: string][]> {
  const found = new Map<string, [string, string]>();
  for (const path of [(await run("bash", ["-c", "command -v helm"])).trim(), findHelm()]) {
    const version = (await run(path, ["version", "--short"])).trim().replace(/\+.*/, "");
    found.set(version.replace(/\..*/, ""), [version, path]);
  }
  return [...found.values()].sort();
}

async function waitForJob(name: string): Promise<void> {
  await kubectl(["wait", "--for=condition=complete", `job/${name}`, "--timeout=180s"], { timeoutMs: 200_000 });
}

/** A session of PostgreSQL that stays within a transaction, as a forgotten one does; its process id. */
async function forgottenTransaction(): Promise<{ pid: string; leave(): Promise<unknown> }> {
  const psql = ["exec", "-i", "quartet-user-store-0", "--", "psql", "-U", "postgres", "-d", "quartet", "-At"];
  const child = spawn("kubectl", ["--namespace", NAMESPACE, ...psql], { stdio: ["pipe", "pipe", "ignore"] });
  const ended = new Promise((end) => child.once("exit", end));
  const pid = await new Promise<string>((hear) => {
    let said = "";
    child.stdout.on("data", (data) => {
      said += data;
      const found = /^(\d+)\n/m.exec(said);
      if (found) hear(found[1]!);
    });
    child.stdin.write("BEGIN;\nSELECT pg_backend_pid();\n");
  });
  // psql asks nobody while it waits for its terminal: it hears that its session was ended when it says something.
  const leave = () => {
    child.stdin.end();
    return ended;
  };
  return { pid, leave };
}

let versions: [version: string, path: string][];
let classGrows: boolean;

beforeAll(async () => {
  versions = await helms();
  await makeNamespace(NAMESPACE, true);
  const classes = JSON.parse(await run("kubectl", ["get", "storageclass", "-o", "json"])).items;
  classGrows = classes.length > 0 && classes.every((c: Obj) => c.allowVolumeExpansion);
  const backup = { backup: { enabled: true } };
  writeFileSync(OWN, stringify({ user: backup, analytics: backup, gateway: { service: { nodePort: null } } }));
}, 300_000);

afterAll(async () => {
  rmSync(folder, { recursive: true, force: true });
  if (!process.env.QUARTET_TEST_KEEP) await removeNamespace(NAMESPACE);
}, 300_000);

describe.each([0, 1])("the life of a release with Helm (%i)", (which) => {
  let terminal: Terminal;
  let people: (Person & { token: string })[];
  let helm: Terminal["run"];
  const values = () => ["-f charts/quartet/values-light.yaml", clusterValues().join(" "), `-f ${OWN}`].join(" ");

  beforeAll(() => {
    const version = versions[which];
    if (!version) return;
    console.log(`Helm ${version[0]}`);
    const env = { NAMESPACE, RELEASE: "quartet", VOLUMES: classGrows ? "grow" : "keep" };
    terminal = openTerminal(NAMESPACE, version[1], env);
    helm = (command, o) => terminal.run(`helm ${command}`, o);
  });
  afterAll(() => terminal?.close());

  /** Runs commands of a page in their order, those listed above left out. */
  async function follow(commands: Command[], change: (command: string) => string = (c) => c): Promise<string[]> {
    const said: string[] = [];
    for (const c of commands.filter((c) => !elsewhere(c))) {
      said.push(await terminal.run(change(c.command)));
      done.add(once(c));
    }
    return said;
  }
  const step = (name: string, work: () => Promise<void>, timeout = 700_000) =>
    test(name, async ({ skip }) => (versions[which] ? work() : skip("no second Helm here")), timeout);

  const everybodyIsThere = () =>
    withClient(async (client) => {
      for (const { id, handle } of people)
        expect((await client.get(`/v1/users/${id}`)).body.handle, handle).toBe(handle);
    });

  step("its page installs it, and its own tests pass", async () => {
    const own = commandsOf("charts/quartet/README.md").filter((c) => c.command.startsWith("helm "));
    const said = await follow(own, (c) => (c.startsWith("helm install") ? `${c} ${values()}` : c));
    for (const service of SERVICES) expect(said.at(-1)).toContain(`quartet-${service}-test`);
    people = await withClient(async (client) => {
      const made: typeof people = [];
      for (let i = 0; i < 3; i++) {
        const person = await signUp(client);
        made.push({ ...person, token: (await logIn(client, person)).token });
      }
      return made;
    });
  });

  step("its notes: who runs, the API, the operator's token", async () => {
    const notes = commandsOfNotes("quartet", await helm(`get notes quartet -n quartet`));
    const forward = notes.find((c) => c.command.includes("port-forward"))!;
    const token = notes.find((c) => c.command.includes("operator-token"))!;
    const last = notes.find((c) => c.command.includes(" delete "))!;
    expect(notes.length).toBeGreaterThanOrEqual(5);
    const rest = notes.filter((c) => ![forward, token, last].includes(c));
    const [listed] = await follow(rest);
    for (const service of SERVICES) expect(listed).toContain(`quartet-${service}-`);
    const port = / (\d+):\d+$/.exec(forward.command)![1];
    await terminal.runUntil(forward.command, `http://localhost:${port}/openapi.json`);
    const [said] = await follow([token]);
    expect(said).toBe(await operatorToken());
    for (const c of [forward, last]) done.add(once(c));
  });

  step("the runbooks: letters, figures, what the stores tell", async () => {
    if (which > 0) return; // they know nothing of Helm
    const commands = new Map(
      clusterPages()
        .filter((p) => p.startsWith("docs/runbooks/"))
        .map((p) => [p, commandsOf(p)]),
    );
    // One shell for the way into the cluster, as its reader has; it ends the forwarding that it began.
    const way = commandsOf("docs/runbooks/README.md").filter((c) => !elsewhere(c));
    const script = ["trap 'kill $(jobs -p)' EXIT", ...way.map((c) => c.command), "npm run --silent dead -- list"];
    const said = await terminal.run(script.join("\n"));
    expect(said).toMatch(/"stores".*slot_name.*No dead letters/s);
    for (const c of way) done.add(once(c));
    commands.delete("docs/runbooks/README.md");
    const gateway = await reachGateway();
    try {
      const client = new Client(gateway.url, await operatorToken());
      const env = { QUARTET_URL: gateway.url, QUARTET_OPERATOR_TOKEN: client.operatorToken };
      const admin = { token: client.operatorToken };
      const erased = await signUp(client);
      const { body: erasure } = await client.delete(`/v1/users/${erased.id}`, admin);
      await evaluate(
        await podOf("user"),
        `import { connect } from "nats"; const u = new URL(process.env.NATS_URL);
         const nc = await connect({ servers: u.host, user: u.username, pass: u.password, inboxPrefix: "_INBOX_user" });
         await nc.jetstream().publish("users.${people[0]!.id}", '{"type":"quartet.nonsense.v1"}'); await nc.close();`,
      );
      const letters = await eventually("two letters", async () => {
        const { body } = await client.get("/v1/admin/dead", admin);
        return body.deadLetters.length === 2 && body.deadLetters.map((d: Obj) => d.seq);
      });
      const forgotten = await forgottenTransaction();
      const psql = (text: string) =>
        exec("quartet-user-store-0", `psql -U postgres -d quartet -v ON_ERROR_STOP=1 -c "${text}"`);
      await psql("SELECT pg_create_logical_replication_slot('nobodys', 'pgoutput')");
      for (const c of [...commands.values()].flat().filter((c) => !elsewhere(c))) {
        const command = c.command
          .replace("SEQ", () => String(c.command.includes("drop") ? letters[1] : letters[0]))
          .replace("/<id>", `/${erasure.erasureId}`)
          .replace("<pid>", forgotten.pid)
          .replace("<store>", "search")
          .replace("'...'", "'nobodys'");
        if (command.startsWith("GET ")) expect((await client.get(command.slice(4), admin)).status, once(c)).toBe(200);
        else if (/system\./.test(command))
          await exec(
            "quartet-analytics-store-0",
            `clickhouse-client --user analytics_service --password "$CLICKHOUSE_PASSWORD" --query "${command}"`,
          );
        else if (command.startsWith("SELECT ")) expect(await psql(command), once(c)).toMatch(/row/);
        else await terminal.run(command, { env });
        done.add(once(c));
      }
      expect(await psql(`SELECT FROM pg_stat_activity WHERE pid = ${forgotten.pid}`)).toContain("(0 rows)");
      await forgotten.leave();
      // One was sent again, the other dropped: neither waits any more.
      await eventually("both letters to be gone", async () => {
        const { body } = await client.get("/v1/admin/dead", admin);
        return !body.deadLetters.some((d: Obj) => letters.includes(d.seq));
      });
      await terminal.run("npm run --silent dead -- drop all", { env });
    } finally {
      gateway.close();
    }
  });

  step("the chart of what there is to see, by its page", async () => {
    const own = commandsOf("charts/observability/README.md");
    await follow(own.filter((c) => /^helm (install|test) /.test(c.command)));
    const boards = await get(["configmaps", "-l", "grafana_dashboard"]);
    expect(boards.items.length).toBeGreaterThan(5);
    await helm("uninstall observability -n quartet --wait");
  });

  step("k8s/README.md: a larger volume, a backup, a restore; nobody is missing and no store restarted", async () => {
    const stores = await uids("quartet/store");
    const commands = commandsOf("k8s/README.md").filter((c) => !elsewhere(c) && !c.command.startsWith("npm "));
    expect(commands.length).toBeGreaterThanOrEqual(8);
    for (const c of commands) {
      await follow([c]);
      const job = /create job .* ([\w-]+)$/.exec(c.command)?.[1];
      if (job) await waitForJob(job);
    }
    const { spec } = await get(["statefulset", "quartet-user-store"]);
    expect(spec.volumeClaimTemplates[0].spec.resources.requests.storage).toBe("16Gi");
    expect(await uids("quartet/store")).toEqual(stores);
    await everybodyIsThere();
  });

  step("a second and a third upgrade with other tolerations and pull secrets, and a rollback", async () => {
    // Those with a volume Job, and one without.
    const parts = ["user", "analytics", "gateway"];
    const upgrade = (name: string) => {
      const set = parts.flatMap((part) => [
        `${part}.tolerations[0].key=${name}`,
        `${part}.tolerations[0].operator=Exists`,
        `${part}.imagePullSecrets[0].name=${name}`,
      ]);
      return helm(
        `-n quartet upgrade quartet charts/quartet --reset-then-reuse-values --set '${set.join(",")}' --wait`,
      );
    };
    const pulls = async () => {
      const { items } = await get(["deployments", "-l", `app.kubernetes.io/name in (${parts.join(", ")})`]);
      return [...new Set(items.map((d: Obj) => d.spec.template.spec.imagePullSecrets?.[0]?.name ?? ""))];
    };
    await upgrade("first");
    await upgrade("second");
    expect(await pulls()).toEqual(["second"]);
    const history = JSON.parse(await helm("-n quartet history quartet -o json"));
    await helm(`-n quartet rollback quartet ${history.at(-3).revision} --wait`);
    expect(await pulls()).toEqual([""]);
    await everybodyIsThere();
  });

  step("who scaled by hand is told so by Helm 4, and --force-conflicts takes the replicas back", async () => {
    await kubectl(["scale", "deployment/quartet-session-all", "--replicas=0"]);
    const upgrade = "-n quartet upgrade quartet charts/quartet --reset-then-reuse-values --wait";
    if (versions[which]![0].startsWith("v4")) {
      await expect(helm(upgrade)).rejects.toThrow(/conflict/);
      await helm(`${upgrade} --force-conflicts`);
    } else await helm(`${upgrade} --set session.podAnnotations.scaled=back`);
    await kubectl(["rollout", "status", "deployment/quartet-session-all", "--timeout=120s"]);
    expect((await get(["deployment", "quartet-session-all"])).spec.replicas).toBe(1);
  });

  // Building images needs a way to build them.
  const build = process.env.QUARTET_IMAGE_BUILD;
  test.skipIf(!build)(
    "npm run cluster:up after a change of code rolls out the service that changed",
    async ({ skip }) => {
      if (!versions[which]) return skip("no second Helm here");
      const clone = join(folder, `clone-${which}`);
      for (const name of [
        "charts",
        "k8s",
        "services",
        "packages",
        "package.json",
        "package-lock.json",
        ".npmrc",
        "LICENSE",
        "NOTICE",
      ])
        cpSync(join(root, name), join(clone, name), {
          recursive: true,
          verbatimSymlinks: true,
          filter: (from) => !from.endsWith("node_modules"),
        });
      writeFileSync(join(clone, "services/gateway/src/main.ts"), `// Changed with ${versions[which]![0]}.\n`, {
        flag: "a",
      });
      // The other images are there under their tags, and need not be built to be found so.
      const only = join(folder, "build.sh");
      writeFileSync(only, `case "$*" in *SERVICE=gateway*) exec ${build} "$@" ;; esac\n`);
      const VALUES = join(folder, "cluster.yaml");
      writeFileSync(VALUES, await helm("-n quartet get values quartet -o yaml"));
      const env = {
        VALUES,
        QUARTET_IMAGE_BUILD: `bash ${only}`,
        CONTEXT: (await kubectl(["config", "current-context"])).trim(),
      };
      const uidsOf = async (service: string) => uids(`quartet/service=${service}`);
      const before = Object.fromEntries(await Promise.all(SERVICES.map(async (s) => [s, await uidsOf(s)])));
      await terminal.run(`cd ${clone} && k8s/cluster.sh up`, { env });
      for (const c of commandsOf("k8s/README.md").filter((c) => c.command === "npm run cluster:up")) done.add(once(c));
      for (const service of SERVICES) {
        const now = await uidsOf(service);
        if (service === "gateway") expect(now).not.toEqual(before[service]);
        else expect(now, service).toEqual(before[service]);
      }
      await everybodyIsThere();
    },
    700_000,
  );

  step("uninstalled and removed by its notes, nothing of it is left", async () => {
    const notes = commandsOfNotes("quartet", await helm("get notes quartet -n quartet"));
    await helm("uninstall quartet -n quartet --wait");
    await follow(notes.filter((c) => c.command.includes(" delete ")));
    await follow(commandsOf("charts/quartet/README.md").filter((c) => c.command.startsWith("kubectl delete")));
    const kinds =
      "deployments,statefulsets,services,configmaps,networkpolicies,cronjobs,jobs,secrets,persistentvolumeclaims";
    const left = await eventually("everything to go", async () => {
      const { items } = await get([kinds, "-l", "app.kubernetes.io/instance=quartet"]);
      return { names: items.map((o: Obj) => `${o.kind}/${o.metadata.name}`) };
    });
    expect(left.names).toEqual([]);
    await kubectl(["delete", "jobs,pods", "--all", "--wait"]);
  });
});

test("every command of the pages about a cluster was run, or is listed above with where it is and why", () => {
  const pages = clusterPages();
  for (const page of ["k8s/README.md", "charts/quartet/README.md", "docs/runbooks/slot-waits.md"])
    expect(pages).toContain(page);
  const left = pages.flatMap(commandsOf).filter((c) => !elsewhere(c) && !done.has(once(c)));
  expect(left.map(once)).toEqual([]);
});
