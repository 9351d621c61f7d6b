import "reflect-metadata";
import { createPrivateKey, type webcrypto } from "node:crypto";
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  PemConverter,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509Certificate,
  X509CertificateGenerator,
} from "@peculiar/x509";

/** A certificate and the private key of it (PKCS #8), both PEM. */
export interface Pair {
  certificate: string;
  key: string;
}

const ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
const DAY_MS = 86_400_000;
/** Ten years, like the authority of a Kubernetes cluster itself: nobody is woken by the end of what nobody renews. */
const LIFE_MS = 3650 * DAY_MS;

const newKey = () => crypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]) as Promise<webcrypto.CryptoKeyPair>;

async function pem(certificate: X509Certificate, key: webcrypto.CryptoKey): Promise<Pair> {
  const pkcs8 = await crypto.subtle.exportKey("pkcs8", key);
  return { certificate: `${certificate.toString("pem")}\n`, key: `${PemConverter.encode(pkcs8, "PRIVATE KEY")}\n` };
}

/** An authority for the servers of one system: it signs nothing but them, and is valid for ten years. */
export async function makeAuthority(name: string): Promise<Pair> {
  const keys = await newKey();
  const now = Date.now();
  const certificate = await X509CertificateGenerator.createSelfSigned({
    name: [{ CN: [name] }],
    // A clock may be late.
    notBefore: new Date(now - DAY_MS),
    notAfter: new Date(now + LIFE_MS),
    keys,
    signingAlgorithm: ALGORITHM,
    extensions: [
      new BasicConstraintsExtension(true, 0, true),
      new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
      await SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return pem(certificate, keys.privateKey);
}

/**
 * A server's certificate for these DNS names, valid as long as the authority (whose key may be of any kind that OpenSSL reads). Throws where the authority is no
 * authority, or its key is another's.
 */
export async function makeCertificate(authority: Pair, names: readonly [string, ...string[]]): Promise<Pair> {
  const issuer = new X509Certificate(authority.certificate);
  if (!issuer.getExtension(BasicConstraintsExtension)?.ca) throw new Error("the certificate is not of an authority");
  const algorithm = { ...issuer.publicKey.algorithm, hash: "SHA-256" };
  const der = createPrivateKey(authority.key).export({ type: "pkcs8", format: "der" });
  const signingKey = await crypto.subtle.importKey("pkcs8", der, algorithm, false, ["sign"]);
  const keys = await newKey();
  const certificate = await X509CertificateGenerator.create({
    subject: [{ CN: [names[0].slice(0, 64)] }],
    issuer: issuer.subject,
    notBefore: new Date(Math.max(Date.now() - DAY_MS, issuer.notBefore.getTime())),
    notAfter: issuer.notAfter,
    publicKey: keys.publicKey,
    signingKey,
    signingAlgorithm: algorithm,
    extensions: [
      new BasicConstraintsExtension(false, undefined, true),
      new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
      // The servers of a NATS cluster are each other's clients.
      new ExtendedKeyUsageExtension([ExtendedKeyUsage.serverAuth, ExtendedKeyUsage.clientAuth]),
      new SubjectAlternativeNameExtension(names.map((value) => ({ type: "dns", value }))),
      await SubjectKeyIdentifierExtension.create(keys.publicKey),
      await AuthorityKeyIdentifierExtension.create(issuer.publicKey),
    ],
  });
  if (!(await certificate.verify({ publicKey: issuer.publicKey })))
    throw new Error("the authority's key is not the one of its certificate");
  return pem(certificate, keys.privateKey);
}
