import { createHash, generateKeyPairSync } from "node:crypto";
import { z } from "zod";

/** Who signs: each service has keys of its own. */
export const IDENTITY_HOLDERS = ["user", "session", "analytics", "search", "gateway"] as const;
export type IdentityHolder = (typeof IDENTITY_HOLDERS)[number];

const b64 = z.string().regex(/^[A-Za-z0-9_-]{43}$/, "must be 32 bytes in base64url");
const publicKey = z.object({
  kty: z.literal("OKP"),
  crv: z.literal("Ed25519"),
  x: b64,
  kid: z.string().min(1).max(64),
});
const privateKey = publicKey.extend({ d: b64 });

/** An Ed25519 key as a JWK (RFC 8037). */
export type IdentityPublicKey = z.infer<typeof publicKey>;
export type IdentityPrivateKey = z.infer<typeof privateKey>;

/** More than two are never needed: the one that signs, and the one before it or after it. */
const MOST_KEYS = 4;

function jsonOf<S extends z.ZodType>(schema: S) {
  return z
    .string()
    .transform((text, ctx) => {
      try {
        return JSON.parse(text) as unknown;
      } catch {
        ctx.addIssue({ code: "custom", message: "is not valid JSON" });
        return z.NEVER;
      }
    })
    .pipe(schema);
}

/** `{"keys": [JWK, ...]}`: a service's own keys. The first one signs. */
export const identityKeys = jsonOf(z.object({ keys: z.array(privateKey).min(1).max(MOST_KEYS) }));
/** `{"user": {"keys": [JWK, ...]}, ...}`: the public keys of everybody. A private part is refused: it has no business there. */
export const identityPublicKeys = jsonOf(
  z.record(
    z.string(),
    z.object({ keys: z.array(publicKey.extend({ d: z.never("is a private key").optional() })).max(MOST_KEYS) }),
  ),
);

/** A new key. Its id is its RFC 7638 thumbprint. */
export function makeIdentityKey(): IdentityPrivateKey {
  const { x, d } = generateKeyPairSync("ed25519").privateKey.export({ format: "jwk" }) as { x: string; d: string };
  const kid = createHash("sha256")
    .update(JSON.stringify({ crv: "Ed25519", kty: "OKP", x }))
    .digest("base64url");
  return { kty: "OKP", crv: "Ed25519", x, d, kid };
}

/** What others may see of a key. */
export function publicPart({ kty, crv, x, kid }: IdentityPrivateKey): IdentityPublicKey {
  return { kty, crv, x, kid };
}

/** The private keys of every service, where one place holds them all: a local system, a test. */
export type Identities = Record<IdentityHolder, { keys: IdentityPrivateKey[] }>;

/** A new key for every service. */
export function makeIdentities(): Identities {
  return Object.fromEntries(IDENTITY_HOLDERS.map((name) => [name, { keys: [makeIdentityKey()] }])) as Identities;
}

/** What a process of `service` is given of the keys, as its environment: its own, and the public ones of everybody. */
export function identityEnv(
  identities: Identities,
  service: IdentityHolder,
): { IDENTITY_KEYS: string; IDENTITY_PUBLIC_KEYS: string } {
  const everybody = Object.entries(identities).map(([name, { keys }]) => [name, { keys: keys.map(publicPart) }]);
  return {
    IDENTITY_KEYS: JSON.stringify(identities[service]),
    IDENTITY_PUBLIC_KEYS: JSON.stringify(Object.fromEntries(everybody)),
  };
}
