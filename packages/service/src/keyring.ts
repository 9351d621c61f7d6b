import { createPrivateKey, createPublicKey, hkdfSync, type KeyObject, sign, verify } from "node:crypto";
import type { IdentityPrivateKey, IdentityPublicKey } from "@quartet/contracts";
import { LRUCache } from "lru-cache";

/** Who is calling: a person with a session, the operator, or another service of ours. */
export type Identity =
  | { kind: "user"; userId: string; sessionId: string }
  | { kind: "operator" }
  | { kind: "service"; name: string };

/** The keys that a process was given: its own, of which the first signs, and the public ones of everybody. */
export interface KeyringConfig {
  IDENTITY_KEYS: { keys: IdentityPrivateKey[] };
  IDENTITY_PUBLIC_KEYS: Record<string, { keys: IdentityPublicKey[] }>;
}

/** What one process signs and knows. */
export interface Keyring {
  /** The service that it speaks for, and that identities must be meant for. */
  readonly service: string;
  /**
   * A JWT (EdDSA) for one other service, valid for 30 s: it says who is calling and by whose word. The same one is given again for ten seconds, since
   * a signature costs more than everything else in a call.
   */
  sign(identity: Identity, audience: string): string;
  /**
   * The identity in a token for this service; undefined if it is malformed, forged, expired, meant for another, or more than its signer may say: people and
   * the operator are the gateway's to name, every other service speaks for itself alone. Five seconds of clock skew are forgiven.
   */
  verify(token: string): Identity | undefined;
  /**
   * Secrets of 32 bytes for a purpose of this service alone, derived (HKDF) from its private keys, the newest first: make with the first, accept with any,
   * so that what was made before a rotation stays good as long as the old key is kept.
   */
  secrets(purpose: string): readonly [Buffer, ...Buffer[]];
}

/**
 * By node:crypto in the formats that jose reads and writes, and not by jose itself: that asks WebCrypto, which waits for the same four threads as the
 * password hashes. Beside eight of those a check took 157 ms at the median, and 0.2 ms here; one algorithm and one form of header are ever accepted.
 */
const ALGORITHM = "EdDSA";
const LIFETIME_SECONDS = 30;
const REUSE_MS = 10_000;
const SKEW_SECONDS = 5;
const MOST_REMEMBERED = 5_000;
const MOST_CHARACTERS = 2048;
/** It alone has asked who somebody is, so it alone may say it. */
const NAMES_OTHERS = "gateway";

/** Thrown where the keys do not fit together. */
export class KeyringError extends Error {
  override name = "KeyringError";
}

/** Throws KeyringError if the public keys lack the service's own: nobody would believe it. */
export function createKeyring(service: string, config: KeyringConfig): Keyring {
  const own = config.IDENTITY_KEYS.keys;
  const [signer] = own;
  /** By the exact header of the tokens they sign. */
  const owners = new Map<string, { service: string; x: string; key: KeyObject }>();
  for (const [name, { keys }] of Object.entries(config.IDENTITY_PUBLIC_KEYS)) {
    for (const jwk of keys) {
      const key = createPublicKey({ key: { ...jwk }, format: "jwk" });
      owners.set(headerOf(jwk), { service: name, x: jwk.x, key });
    }
  }
  const known = signer && owners.get(headerOf(signer));
  if (!signer || known?.service !== service || known.x !== signer.x) {
    throw new KeyringError(`IDENTITY_PUBLIC_KEYS lacks the key of ${service} that IDENTITY_KEYS begins with`);
  }
  const privateKey = createPrivateKey({ key: { ...signer }, format: "jwk" });
  const signed = new LRUCache<string, string>({ max: MOST_REMEMBERED, ttl: REUSE_MS });
  const verified = new LRUCache<string, { identity: Identity; until: number }>({ max: MOST_REMEMBERED });
  const secrets = new Map<string, [Buffer, ...Buffer[]]>();

  const makeToken = (identity: Identity, audience: string): string => {
    const iat = Math.floor(Date.now() / 1000);
    const claims = { iss: service, aud: audience, iat, exp: iat + LIFETIME_SECONDS, ...toClaims(identity) };
    const text = `${headerOf(signer)}.${base64url(claims)}`;
    return `${text}.${sign(null, Buffer.from(text), privateKey).toString("base64url")}`;
  };

  /** What a token says, if its signature is good and it is for us, now. */
  const read = (token: string): { claims: Claims; issuer: string } | undefined => {
    const [header = "", payload = "", signature = "", ...rest] = token.split(".", 4);
    const owner = owners.get(header);
    if (!owner || rest.length > 0) return undefined;
    const text = Buffer.from(`${header}.${payload}`);
    if (!verify(null, text, owner.key, Buffer.from(signature, "base64url"))) return undefined;
    const claims = JSON.parse(Buffer.from(payload, "base64url").toString("utf8")) as Claims;
    const now = Date.now() / 1000;
    const inTime =
      Number(claims.exp) > now - SKEW_SECONDS &&
      Number(claims.iat) < now + SKEW_SECONDS &&
      Number(claims.iat) > now - LIFETIME_SECONDS - SKEW_SECONDS;
    return inTime && claims.aud === service && claims.iss === owner.service
      ? { claims, issuer: owner.service }
      : undefined;
  };

  return {
    service,
    sign(identity, audience) {
      const key = JSON.stringify([audience, toClaims(identity)]);
      let token = signed.get(key);
      if (token === undefined) {
        token = makeToken(identity, audience);
        signed.set(key, token);
      }
      return token;
    },
    verify(token) {
      if (token.length > MOST_CHARACTERS) return undefined;
      const before = verified.get(token);
      if (before && before.until > Date.now()) return before.identity;
      try {
        const found = read(token);
        const identity = found && fromClaims(found.claims, found.issuer);
        if (identity) verified.set(token, { identity, until: (Number(found.claims.exp) + SKEW_SECONDS) * 1000 });
        return identity;
      } catch {
        return undefined;
      }
    },
    secrets(purpose) {
      let found = secrets.get(purpose);
      if (!found) {
        const derive = ({ d }: IdentityPrivateKey): Buffer =>
          Buffer.from(hkdfSync("sha256", Buffer.from(d, "base64url"), "", `quartet ${purpose}`, 32));
        found = own.map(derive) as [Buffer, ...Buffer[]];
        secrets.set(purpose, found);
      }
      return found;
    },
  };
}

/** `createKeyring` for the top of a main file: keys that do not fit are one line on stderr and exit code 1. */
export function loadKeyring(service: string, config: KeyringConfig): Keyring {
  try {
    return createKeyring(service, config);
  } catch (error) {
    if (!(error instanceof KeyringError)) throw error;
    process.stderr.write(`configuration: ${error.message}\n`);
    process.exit(1);
  }
}

/** The whole header of a token is what the key's id makes it: compared as text, nothing in it is read. */
function headerOf({ kid }: { kid: string }): string {
  return base64url({ alg: ALGORITHM, typ: "JWT", kid });
}

function base64url(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString("base64url");
}

type Claims = Partial<Record<"iss" | "aud" | "role" | "sub" | "sid", unknown>> & { iat?: unknown; exp?: unknown };

function toClaims(identity: Identity): Record<string, string> {
  if (identity.kind === "user") return { sub: identity.userId, sid: identity.sessionId };
  return { role: identity.kind };
}

function fromClaims(claims: Claims, issuer: string): Identity | undefined {
  if (claims.role === "service") return { kind: "service", name: issuer };
  if (issuer !== NAMES_OTHERS) return undefined;
  if (claims.role === "operator") return { kind: "operator" };
  if (claims.role === undefined && typeof claims.sub === "string" && typeof claims.sid === "string") {
    return { kind: "user", userId: claims.sub, sessionId: claims.sid };
  }
  return undefined;
}
