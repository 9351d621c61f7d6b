import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { type IdentityPrivateKey, identityKeys, makeIdentityKey, publicPart } from "@quartet/contracts";
import { z } from "zod";
import { loadConfig } from "./config.ts";

/**
 * The Job of the charts: makes the key of each service that has none, as a Secret of its own, and tells everybody the public ones in one ConfigMap. What is
 * there stays as it is, so it may run again at any time. It speaks to the API server of the cluster that it runs in, with its service account.
 */
const names = z.string().transform((text) => z.record(z.string(), z.string().min(1)).parse(JSON.parse(text)));
const config = loadConfig(
  z.object({
    NAMESPACE: z.string().min(1),
    /** The Secret of each service, by service. */
    PRIVATE_SECRETS: names,
    /** The ConfigMap of the public keys. */
    PUBLIC_CONFIG_MAP: z.string().min(1),
    LABELS: names,
    KUBERNETES_SERVICE_HOST: z.string().min(1),
    KUBERNETES_SERVICE_PORT: z.string().default("443"),
    TOKEN_FILE: z.string().default("/var/run/secrets/kubernetes.io/serviceaccount/token"),
  }),
);

const KEY = "keys.json";
const PATIENCE_MS = 240_000;
const host = config.KUBERNETES_SERVICE_HOST;
const api = `https://${host.includes(":") ? `[${host}]` : host}:${config.KUBERNETES_SERVICE_PORT}/api/v1/namespaces/${config.NAMESPACE}`;

interface Item {
  metadata: { name: string; resourceVersion?: string; labels?: Record<string, string> };
  data?: Record<string, string>;
}

/** Undefined for 404 and, of a write, for 409: somebody else was there first. */
async function call(method: string, path: string, body?: object): Promise<Item | undefined> {
  const response = await fetch(`${api}/${path}`, {
    method,
    headers: {
      authorization: `Bearer ${readFileSync(config.TOKEN_FILE, "utf8").trim()}`,
      ...(body ? { "content-type": "application/json" } : {}),
    },
    ...(body ? { body: JSON.stringify(body) } : {}),
    signal: AbortSignal.timeout(10_000),
  });
  if (response.status === 404 || response.status === 409) return undefined;
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${(await response.text()).slice(0, 300)}`);
  return (await response.json()) as Item;
}

async function privateKeysOf(service: string, name: string): Promise<IdentityPrivateKey[]> {
  for (;;) {
    const found = await call("GET", `secrets/${name}`);
    const text = found && Buffer.from(found.data?.[KEY] ?? "", "base64").toString("utf8");
    if (text !== undefined) {
      const parsed = identityKeys.safeParse(text);
      if (!parsed.success) throw new Error(`Secret ${name}: ${KEY} is no JWK set of Ed25519 keys`);
      return parsed.data.keys;
    }
    const made = await call("POST", "secrets", {
      metadata: { name, labels: config.LABELS },
      type: "Opaque",
      stringData: { [KEY]: JSON.stringify({ keys: [makeIdentityKey()] }) },
    });
    if (made) console.log(`made the key of ${service}: Secret ${name}`);
  }
}

async function publish(own: Record<string, object>): Promise<void> {
  const name = config.PUBLIC_CONFIG_MAP;
  for (;;) {
    const found = await call("GET", `configmaps/${name}`);
    const known = JSON.parse(found?.data?.[KEY] ?? "{}") as Record<string, object>;
    const text = JSON.stringify({ ...known, ...own });
    if (found && text === JSON.stringify(known)) return;
    const item = { metadata: { name, labels: config.LABELS, ...found?.metadata }, data: { [KEY]: text } };
    const written = await (found ? call("PUT", `configmaps/${name}`, item) : call("POST", "configmaps", item));
    if (written) return console.log(`the public keys are in ConfigMap ${name}`);
  }
}

/** The role may be a moment later than its Job, and the API server away for one. */
for (const deadline = Date.now() + PATIENCE_MS; ; await sleep(1000)) {
  try {
    const own: Record<string, object> = {};
    for (const [service, name] of Object.entries(config.PRIVATE_SECRETS)) {
      own[service] = { keys: (await privateKeysOf(service, name)).map(publicPart) };
    }
    await publish(own);
    console.log("every service has a key");
    break;
  } catch (error) {
    if (Date.now() > deadline) throw error;
    console.log(`not yet: ${(error as Error).message}`);
  }
}
