import { randomInt, X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { type IdentityPrivateKey, identityKeys, makeIdentityKey, publicPart } from "@quartet/contracts";
import { z } from "zod";
import { loadConfig } from "./config.ts";

/**
 * The Job of the charts: makes each Secret that is absent (passwords; the key of each service, whose public half it tells everybody in one ConfigMap; the servers' certificates). What is
 * there stays as it is, so it may run again at any time, beside another one too. It speaks to the API server of the cluster that it runs in, with its service
 * account. Ends with status 2 where another try would not help: a Secret that is there and has not what is needed is whoever's who made it.
 */
const json = z.string().transform((text, context) => {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    context.addIssue("not JSON");
    return z.NEVER;
  }
});
const names = json.pipe(z.record(z.string(), z.string().min(1)));
const config = loadConfig(
  z.object({
    NAMESPACE: z.string().min(1),
    /** Secrets with passwords, by name: whose they are (for the labels), and their keys. */
    PASSWORDS: json
      .pipe(
        z.record(z.string(), z.object({ part: z.string(), component: z.string(), keys: z.array(z.string()).min(1) })),
      )
      .default({}),
    /** The Secret with the key of each service, by service. */
    IDENTITY_SECRETS: names.default({}),
    /** The ConfigMap of the public keys. */
    IDENTITY_CONFIG_MAP: z.string().default(""),
    /** The Secrets with the certificate of a server, by name: whose they are, and the DNS names that they are for. */
    CERTIFICATES: json
      .pipe(z.record(z.string(), z.object({ part: z.string(), names: z.tuple([z.string()], z.string()) })))
      .default({}),
    /** The Secret of the authority that signs them, and the ConfigMap that tells everybody whom to believe. */
    AUTHORITY: z.string().default(""),
    LABELS: names,
    KUBERNETES_SERVICE_HOST: z.string().min(1),
    KUBERNETES_SERVICE_PORT: z.string().default("443"),
    TOKEN_FILE: z.string().default("/var/run/secrets/kubernetes.io/serviceaccount/token"),
  }),
);

const KEY = "keys.json";
// pattern: a ConfigMap of ours, or a certificate in PEM.
const CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;
const PATIENCE_MS = 240_000;
const host = config.KUBERNETES_SERVICE_HOST;
const api = `https://${host.includes(":") ? `[${host}]` : host}:${config.KUBERNETES_SERVICE_PORT}/api/v1/namespaces/${config.NAMESPACE}`;

/** No tool that brought the charts takes away what it did not bring: data on a volume opens with it. */
const annotations = {
  "helm.sh/resource-policy": "keep",
  "argocd.argoproj.io/compare-options": "IgnoreExtraneous",
  "argocd.argoproj.io/sync-options": "Prune=false,Delete=false",
};

interface Item {
  metadata: { name: string; resourceVersion?: string; labels?: Record<string, string> };
  data?: Record<string, string>;
}

/** What another try does not mend. */
class Wrong extends Error {}

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

/** What is in a Secret, which is made if it is absent. Throws Wrong where it is there without one of the keys. */
async function secret(
  name: string,
  part: string,
  component: string,
  keys: readonly string[],
  make: () => Record<string, string> | Promise<Record<string, string>>,
  type = "Opaque",
): Promise<Record<string, string>> {
  for (;;) {
    const found = await call("GET", `secrets/${name}`);
    if (found) {
      const missing = keys.filter((key) => !found.data?.[key]);
      if (missing.length)
        throw new Wrong(`Secret ${name} is there, without ${missing.join(", ")}: nothing was changed`);
      return Object.fromEntries(
        Object.entries(found.data!).map(([key, value]) => [key, Buffer.from(value, "base64").toString("utf8")]),
      );
    }
    const labels = { ...config.LABELS, "app.kubernetes.io/name": part, "app.kubernetes.io/component": component };
    const stringData = await make();
    if (await call("POST", "secrets", { metadata: { name, labels, annotations }, type, stringData })) {
      console.log(`made Secret ${name}`);
    }
  }
}

/** 32 letters and digits, a letter first: nats-server would read one that begins with a digit as a number. */
function password(): string {
  const alphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
  return Array.from({ length: 32 }, (_, i) => alphabet[randomInt(i === 0 ? 52 : 62)]).join("");
}

async function privateKeysOf(service: string, name: string): Promise<IdentityPrivateKey[]> {
  const fresh = () => ({ [KEY]: JSON.stringify({ keys: [makeIdentityKey()] }) });
  const parsed = identityKeys.safeParse((await secret(name, service, "identity", [KEY], fresh))[KEY]);
  if (!parsed.success) throw new Wrong(`Secret ${name}: ${KEY} is no JWK set of Ed25519 keys`);
  return parsed.data.keys;
}

/** What everybody may read: makes the ConfigMap say what `change` makes of what it says. */
async function publish(
  name: string,
  component: string,
  key: string,
  change: (known: string) => string,
): Promise<string> {
  for (;;) {
    const found = await call("GET", `configmaps/${name}`);
    const known = found?.data?.[key] ?? "";
    const text = change(known);
    if (found && text === known) return text;
    const labels = { ...config.LABELS, "app.kubernetes.io/component": component };
    const item = { metadata: { name, labels, annotations, ...found?.metadata }, data: { ...found?.data, [key]: text } };
    const written = await (found ? call("PUT", `configmaps/${name}`, item) : call("POST", "configmaps", item));
    if (written) {
      console.log(`ConfigMap ${name} has the new ${key}`);
      return text;
    }
  }
}

const addKeys = (own: Record<string, object>) => (known: string) =>
  JSON.stringify({ ...(JSON.parse(known || "{}") as Record<string, object>), ...own });

/** Those who are believed: the authority, and the one before it, whose servers may still be there. */
const addAuthority = (certificate: string) => (known: string) => {
  const own = certificate.trim();
  const [before] = (known.match(CERTIFICATE) ?? []).filter((other) => other !== own);
  return known.trim().startsWith(own) ? known : [own, before, ""].filter((text) => text !== undefined).join("\n");
};

/** The authority, and each server's certificate of it. One that is there has to be of an authority that is believed, and for the names of its server. */
async function certify(): Promise<void> {
  const { makeAuthority, makeCertificate } = await import("./certificates.ts");
  const name = config.AUTHORITY;
  const owner = config.LABELS["app.kubernetes.io/name"] ?? "quartet";
  const authority = await secret(
    name,
    owner,
    "authority",
    ["tls.crt"],
    async () => {
      const { certificate, key } = await makeAuthority(name);
      return { "tls.crt": certificate, "tls.key": key };
    },
    "kubernetes.io/tls",
  );
  const believed = await publish(name, "authority", "ca.crt", addAuthority(authority["tls.crt"]!));
  const authorities = (believed.match(CERTIFICATE) ?? []).map((text) => new X509Certificate(text));
  for (const [wanted, { part, names }] of Object.entries(config.CERTIFICATES)) {
    const fresh = async () => {
      const pair = { certificate: authority["tls.crt"]!, key: authority["tls.key"] ?? "" };
      if (!pair.key) throw new Wrong(`Secret ${name} has no tls.key to sign ${wanted} with: nothing was changed`);
      const { certificate, key } = await makeCertificate(pair, names);
      return { "tls.crt": certificate, "tls.key": key, "ca.crt": believed };
    };
    const found = await secret(wanted, part, "tls", ["tls.crt", "tls.key", "ca.crt"], fresh, "kubernetes.io/tls");
    const own = new X509Certificate(found["tls.crt"]!);
    const unnamed = names.filter((host) => !own.checkHost(host));
    const anew = "delete it, and it is made anew";
    if (unnamed.length) throw new Wrong(`Secret ${wanted}: the certificate is not for ${unnamed.join(", ")}; ${anew}`);
    if (!authorities.some((one) => own.checkIssued(one) && own.verify(one.publicKey)))
      throw new Wrong(`Secret ${wanted}: the certificate is not of the authority in Secret ${name}; ${anew}`);
    console.log(`Secret ${wanted}: valid until ${own.validToDate.toISOString().slice(0, 10)}`);
  }
}

/** The role may be a moment later than its Job, and the API server away for one. */
for (const deadline = Date.now() + PATIENCE_MS; ; await sleep(1000)) {
  try {
    for (const [name, { part, component, keys }] of Object.entries(config.PASSWORDS)) {
      await secret(name, part, component, keys, () => Object.fromEntries(keys.map((key) => [key, password()])));
    }
    const own: Record<string, object> = {};
    for (const [service, name] of Object.entries(config.IDENTITY_SECRETS)) {
      own[service] = { keys: (await privateKeysOf(service, name)).map(publicPart) };
    }
    if (config.IDENTITY_CONFIG_MAP && Object.keys(own).length)
      await publish(config.IDENTITY_CONFIG_MAP, "identity", KEY, addKeys(own));
    if (Object.keys(config.CERTIFICATES).length) await certify();
    console.log("every Secret is there");
    break;
  } catch (error) {
    if (error instanceof Wrong) {
      console.error(error.message);
      process.exit(2);
    }
    if (Date.now() > deadline) throw error;
    console.log(`not yet: ${(error as Error).message}`);
  }
}
