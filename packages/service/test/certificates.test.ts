import { execFileSync } from "node:child_process";
import { createPrivateKey, generateKeyPairSync, X509Certificate } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect, createServer, type TLSSocket } from "node:tls";
import { afterEach, expect, test } from "vitest";
import { makeAuthority, makeCertificate, type Pair } from "../src/certificates.ts";

const NAMES = ["store", "store.shop", "store.shop.svc", "localhost"] as const;
let close: () => void = () => undefined;
afterEach(() => close());

/** The error code with which a client of that authority ends its handshake, or the protocol. */
async function handshake({ certificate, key }: Pair, ca: string, servername: string): Promise<string> {
  const server = createServer({ cert: certificate, key }, (socket: TLSSocket) => socket.on("error", () => undefined));
  await new Promise<void>((ready) => server.listen(0, "127.0.0.1", ready));
  close = () => server.close();
  const { port } = server.address() as AddressInfo;
  return new Promise((done) => {
    const socket = connect({ port, host: "127.0.0.1", ca, servername }, () => {
      done(socket.getProtocol() ?? "");
      socket.destroy();
    });
    socket.on("error", (error: NodeJS.ErrnoException) => done(error.code ?? error.message));
  });
}

test("a server is believed under its names, by whoever knows its authority, and by nobody else", async () => {
  const authority = await makeAuthority("shop");
  const pair = await makeCertificate(authority, NAMES);
  for (const name of NAMES) expect(await handshake(pair, authority.certificate, name)).toBe("TLSv1.3");
  expect(await handshake(pair, authority.certificate, "other")).toBe("ERR_TLS_CERT_ALTNAME_INVALID");
  const stranger = await makeAuthority("shop");
  expect(await handshake(pair, stranger.certificate, "store")).toMatch(/SIGNATURE|UNABLE_TO/);
  expect(authority.certificate).not.toBe(stranger.certificate);
});

test("a certificate is as OpenSSL and RFC 5280 want it, and ends with its authority", async () => {
  const authority = await makeAuthority("shop");
  const { certificate, key } = await makeCertificate(authority, NAMES);
  const [own, above] = [new X509Certificate(certificate), new X509Certificate(authority.certificate)];
  expect([above.ca, own.ca, own.checkIssued(above), own.verify(above.publicKey)]).toEqual([true, false, true, true]);
  expect(own.checkPrivateKey(createPrivateKey(key))).toBe(true);
  expect(own.validTo).toBe(above.validTo);
  expect(own.validToDate.getTime() - Date.now()).toBeGreaterThan(9 * 365 * 86_400_000);
  expect(own.subjectAltName).toBe(NAMES.map((name) => `DNS:${name}`).join(", "));
  expect(own.keyUsage).toEqual(["1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"]);
  // A name may be longer than a common name.
  const long = `${"a".repeat(60)}.${"b".repeat(60)}`;
  expect(new X509Certificate((await makeCertificate(authority, [long])).certificate).checkHost(long)).toBe(long);
});

test("an authority of RSA, with its key in the old form, signs too", async () => {
  const folder = mkdtempSync(join(tmpdir(), "quartet-ca-"));
  try {
    const at = (name: string) => join(folder, name);
    const subject = ["-subj", "/CN=given", "-days", "30", "-keyout", at("key"), "-out", at("crt")];
    execFileSync("openssl", ["req", "-x509", "-newkey", "rsa:2048", "-nodes", ...subject], { stdio: "pipe" });
    execFileSync("openssl", ["rsa", "-traditional", "-in", at("key"), "-out", at("key")], { stdio: "pipe" });
    const [certificate, key] = [readFileSync(at("crt"), "utf8"), readFileSync(at("key"), "utf8")];
    expect(key).toMatch(/^-----BEGIN RSA PRIVATE KEY/);
    expect(await handshake(await makeCertificate({ certificate, key }, NAMES), certificate, "store.shop")).toBe(
      "TLSv1.3",
    );
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test("an authority of another key, or none, is refused", async () => {
  const [a, b] = [await makeAuthority("a"), await makeAuthority("b")];
  await expect(makeCertificate({ ...a, key: b.key }, ["x"])).rejects.toThrow(/authority's key/);
  await expect(makeCertificate(await makeCertificate(a, ["x"]), ["y"])).rejects.toThrow(/not of an authority/);
  const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  const rsa = privateKey.export({ type: "pkcs8", format: "pem" }) as string;
  await expect(makeCertificate({ ...a, key: rsa }, ["x"])).rejects.toThrow();
});
