import { type Identities, identityEnv, makeIdentities, makeIdentityKey, publicPart } from "@quartet/contracts";
import { jwtVerify, SignJWT } from "jose";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import { createKeyring, identityConfig, type Keyring, KeyringError, parseConfig } from "../src/index.ts";
import { keyringOf } from "../src/testing.ts";

const ann = { kind: "user", userId: "ann", sessionId: "s1" } as const;
const operator = { kind: "operator" } as const;
const keys = makeIdentities();
const ring = (service: keyof Identities, from = keys): Keyring => keyringOf(service, from);

describe("a keyring", () => {
  it("says who is calling: people and the operator by the gateway's word, a service by its own", async () => {
    const search = ring("search");
    for (const identity of [ann, operator])
      expect(search.verify(ring("gateway").sign(identity, "search"))).toEqual(identity);
    for (const name of ["user", "session", "analytics", "gateway"] as const) {
      const token = ring(name).sign({ kind: "service", name }, "search");
      expect(search.verify(token)).toEqual({ kind: "service", name });
    }
  });

  it("nobody but the gateway can name a person or the operator, and nobody can call itself another service", async () => {
    const search = ring("search");
    for (const name of ["user", "session", "analytics", "search"] as const) {
      for (const identity of [ann, operator])
        expect(search.verify(ring(name).sign(identity, "search"))).toBeUndefined();
      const as = ring(name).sign({ kind: "service", name: "gateway" }, "search");
      expect(search.verify(as)).toEqual({ kind: "service", name });
    }
  });

  it("refuses what is forged, expired, from the future, meant for another, or without what it needs", async () => {
    const search = ring("search");
    const [key] = keys.gateway.keys;
    const now = Math.floor(Date.now() / 1000);
    const make = (claims: object, header: object = {}, by: object = key as object) =>
      new SignJWT({ iss: "gateway", aud: "search", iat: now, exp: now + 30, role: "operator", ...claims })
        .setProtectedHeader({ alg: "EdDSA", typ: "JWT", kid: key!.kid, ...header })
        .sign(by as never);
    expect(search.verify(await make({}))).toEqual(operator);
    const stranger = makeIdentityKey();
    const secret = new TextEncoder().encode(key!.x);
    const bad = [
      await make({ aud: "user" }),
      await make({ iss: "user" }),
      await make({ iss: undefined }),
      await make({ exp: now - 10, iat: now - 40 }),
      await make({ iat: now + 60, exp: now + 90 }),
      await make({ iat: now - 3600, exp: now + 3600 }),
      await make({ exp: undefined }),
      await make({}, {}, stranger),
      await make({}, { kid: stranger.kid }, stranger),
      await make({}, { alg: "HS256" }, secret),
      `${Buffer.from('{"alg":"none"}').toString("base64url")}.${(await make({})).split(".")[1]}.`,
      "x",
      "..",
      "a".repeat(100_000),
    ];
    for (const token of bad) expect([token, search.verify(token)]).toEqual([token, undefined]);
  });

  it("signs what another JWT library accepts", async () => {
    const { payload } = await jwtVerify(ring("gateway").sign(ann, "search"), publicPart(keys.gateway.keys[0]!), {
      issuer: "gateway",
      audience: "search",
      algorithms: ["EdDSA"],
    });
    expect(payload).toMatchObject({ sub: "ann", sid: "s1", exp: (payload.iat ?? 0) + 30 });
  });

  it("signs once for the same caller and callee", async () => {
    const gateway = ring("gateway");
    const first = gateway.sign(ann, "search");
    expect(gateway.sign({ ...ann }, "search")).toBe(first);
    expect(gateway.sign(ann, "user")).not.toBe(first);
    expect(gateway.sign({ ...ann, sessionId: "s2" }, "search")).not.toBe(first);
  });

  it("keys rotate without a moment in which anybody is refused", async () => {
    const [old, next] = [keys.session.keys[0]!, makeIdentityKey()];
    // First everybody learns the new key, then it signs, then the old one goes. Each step meets those that have not taken it yet.
    const steps = [[old], [old, next], [next, old], [next]].map((session) => ({ ...keys, session: { keys: session } }));
    for (let i = 0; i + 1 < steps.length; i++) {
      for (const [mine, theirs] of [
        [i, i + 1],
        [i + 1, i],
      ] as const) {
        const token = ring("session", steps[mine]).sign({ kind: "service", name: "session" }, "user");
        const said = ring("user", steps[theirs]).verify(token);
        expect([mine, theirs, said]).toEqual([mine, theirs, { kind: "service", name: "session" }]);
      }
    }
    expect(
      ring("user", steps[3]).verify(ring("session", steps[0]).sign({ kind: "service", name: "session" }, "user")),
    ).toBeUndefined();
    // What was sealed before is known until the old key goes.
    const [before] = ring("session", steps[0]).secrets("x");
    expect(ring("session", steps[1]).secrets("x")[0]).toEqual(before);
    expect(ring("session", steps[2]).secrets("x")[1]).toEqual(before);
    expect(ring("session", steps[3]).secrets("x")).toHaveLength(1);
    expect(ring("session").secrets("y")[0]).not.toEqual(before);
    expect(ring("user").secrets("x")[0]).not.toEqual(before);
  });

  it("refuses keys that do not fit, and a private key among the public ones", () => {
    const other = { ...identityEnv(keys, "user"), IDENTITY_KEYS: identityEnv(makeIdentities(), "user").IDENTITY_KEYS };
    expect(() => createKeyring("user", parseConfig(z.object(identityConfig), other))).toThrow(KeyringError);
    const open = { ...identityEnv(keys, "user"), IDENTITY_PUBLIC_KEYS: JSON.stringify({ user: keys.user }) };
    expect(() => parseConfig(z.object(identityConfig), open)).toThrow(/IDENTITY_PUBLIC_KEYS.* is a private key/);
  });
});
