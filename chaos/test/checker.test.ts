import { factId } from "@quartet/contracts";
import { describe, expect, it } from "vitest";
import type { Endpoint } from "../availability.ts";
import { check } from "../check/checker.ts";
import type { Evidence, FaultWindow, Final } from "../check/evidence.ts";
import { factIdOf, keyOf } from "../check/final.ts";
import { checkMatrix, measureMatrix } from "../check/isolation.ts";
import type { Did, Op } from "../history.ts";

const A = "0190aaaa-0000-7000-8000-0000000000aa";
const B = "0190bbbb-0000-7000-8000-0000000000bb";
const T0 = Date.UTC(2026, 0, 1);

/** A history in which the n-th operation begins n seconds after the first and takes 10 ms. */
function history(...dids: (Did | [Did, Partial<Op>])[]): Op[] {
  return dids.map((entry, i) => {
    const [did, more] = Array.isArray(entry) ? entry : [entry, {}];
    return {
      client: "c",
      endpoint: "GET /healthz" as Endpoint,
      at: T0 + i * 1000,
      ms: 10,
      status: 200,
      outcome: "ok",
      did,
      ...more,
    };
  });
}

const create = (user: string): Did => ({ kind: "create", key: user, handle: "h", user });
const update = (user: string, revision: number): Did => ({ kind: "update", user, revision });
const search = (user: string, revision?: number): Did => ({
  kind: "search",
  user,
  found: revision !== undefined,
  ...(revision === undefined ? {} : { revision }),
});
const unknown: Partial<Op> = { status: 503, outcome: "unknown" };

/** The stores as they are when A lives at revision 2 and nobody else does. */
function final(change: Partial<Final> = {}): Final {
  const held = { id: A, revision: 2, digest: "d", sessionDigest: "s" };
  return {
    pausedAt: T0 + 60_000,
    converged: true,
    users: new Map([[A, 2]]),
    search: new Map([[A, 2]]),
    sessions: new Map(),
    counts: {},
    signups: 1,
    deadLetters: 0,
    stores: {
      postgres: [held],
      redis: [held],
      elasticsearch: [held],
      clickhouse: { changes: [{ user: A, facts: 2 }], keys: [], named: [{ user: A, facts: 2 }], facts: 2 },
    },
    ...change,
  };
}

function broken(ops: Op[], change: Partial<Evidence> = {}): string[] {
  const evidence: Evidence = {
    ops,
    faults: [],
    exempt: [],
    final: final(),
    baseline: { counts: {}, signups: 0 },
    alone: true,
    ...change,
  };
  return check(evidence).flatMap((v) => (v.violations.length > 0 ? [v.invariant] : []));
}

const good = history(create(A), update(A, 2));
const held = (change: Partial<NonNullable<Final["stores"]>>): Final =>
  final({ stores: { ...final().stores!, ...change } });

describe("the checker", () => {
  it("finds nothing where nothing is wrong", () => {
    expect(broken(good)).toEqual([]);
    // An unknown write may be there or not.
    expect(broken(history(create(A), [update(A, 2), unknown]))).toEqual([]);
    const withoutIt = final({ users: new Map([[A, 2]]) });
    expect(broken(history(create(A), update(A, 2), [update(A, 3), unknown]), { final: withoutIt })).toEqual([]);
  });

  it.each<[string, Op[], Partial<Evidence>]>([
    ["acknowledged", history(create(A), update(A, 2), update(A, 3)), {}],
    ["acknowledged", good, { final: final({ search: new Map([[A, 1]]) }) }],
    ["acknowledged", history(create(A), [update(A, 2), { status: 412, outcome: "refused" }]), {}],
    ["people", good, { final: final({ users: new Map([[A, null]]) }) }],
    [
      "people",
      history(create(A), update(A, 2), create(B), { kind: "erase", user: B }),
      {
        final: final({
          signups: 2,
          search: new Map([
            [A, 2],
            [B, 1],
          ]),
        }),
      },
    ],
    [
      "people",
      good,
      {
        final: held({ postgres: [...final().stores!.postgres, { id: B, revision: 1, digest: "", sessionDigest: "" }] }),
      },
    ],
    [
      "people",
      history(create(A), update(A, 2), create(B), { kind: "erase", user: B }),
      {
        final: {
          ...held({
            clickhouse: {
              ...final().stores!.clickhouse,
              named: [
                { user: A, facts: 2 },
                { user: B, facts: 1 },
              ],
            },
          }),
          signups: 2,
        },
      },
    ],
    ["stores-equal", good, { final: held({ redis: [] }) }],
    ["stores-equal", good, { final: held({ redis: [{ id: A, revision: 1, sessionDigest: "s" }] }) }],
    [
      "stores-equal",
      good,
      { final: held({ elasticsearch: [{ id: A, revision: 2, digest: "other", sessionDigest: "s" }] }) },
    ],
    [
      "stores-equal",
      good,
      {
        final: held({
          elasticsearch: [...final().stores!.elasticsearch, { id: B, revision: 1, digest: "", sessionDigest: "" }],
        }),
      },
    ],
    ["facts", good, { final: final({ signups: 0 }) }],
    ["facts", good, { final: final({ signups: 2 }) }],
    [
      "facts",
      good,
      { final: held({ clickhouse: { ...final().stores!.clickhouse, changes: [{ user: A, facts: 1 }] } }) },
    ],
    [
      "facts",
      good,
      { final: held({ clickhouse: { ...final().stores!.clickhouse, changes: [{ user: A, facts: 3 }] } }) },
    ],
    ["converged", good, { final: final({ converged: "an erasure is open" }) }],
    ["no-dead-letters", good, { final: final({ deadLetters: 1 }) }],
    ["monotonic", history(create(A), update(A, 2), search(A, 2), search(A, 1)), {}],
    ["monotonic", history(create(A), update(A, 2), search(A, 2), search(A)), {}],
    ["owner-reads", history(create(A), update(A, 2), { kind: "read", user: A, found: true, revision: 1 }), {}],
    ["owner-reads", history(create(A), update(A, 2), { kind: "read", user: A, found: true, revision: 7 }), {}],
    ["as-of", history(create(A), update(A, 2), [search(A, 1), { asOf: T0 + 1_500 }]), {}],
    ["as-of", history(create(A), update(A, 2), [search(A), { asOf: T0 + 1_500 }]), {}],
    ["as-of", history(create(A), update(A, 2), [{ kind: "signups", total: 0 }, { asOf: T0 + 1_500 }]), {}],
    ["as-of", history(create(A), update(A, 2), [{ kind: "signups", total: 2 }, { asOf: T0 + 1_500 }]), {}],
    [
      "own-writes",
      history(create(A), update(A, 2), { kind: "search", user: A, found: true, revision: 1, after: 2, waited: true }),
      {},
    ],
    [
      "erased",
      history(
        create(A),
        update(A, 2),
        create(B),
        { kind: "erase", user: B },
        { kind: "read", user: B, found: true, revision: 1 },
      ),
      {},
    ],
    [
      "erased",
      history(
        create(A),
        update(A, 2),
        create(B),
        { kind: "erase", user: B, erasure: "e" },
        { kind: "receipt", user: B, erasure: "e", complete: true },
        search(B, 1),
      ),
      {},
    ],
  ])("%s: sees a history in which it is broken", (invariant, ops, change) => {
    expect(broken(ops, change)).toContain(invariant);
  });

  describe("of sessions and passwords", () => {
    const login = (session: string): Did => ({ kind: "login", user: A, session });
    const current = (session: string): Did => ({ kind: "current", user: A, session });
    const facts = (...keys: string[]): Final["stores"] => ({
      ...final().stores!,
      clickhouse: { ...final().stores!.clickhouse, keys: keys.map(keyOf) },
    });
    const revoked = history(create(A), update(A, 2), login("s1"), { kind: "revoke", user: A, sessions: ["s1"] });
    const stores = facts(factId.sessionStarted("s1"), factId.sessionEnded("s1"));

    it("finds nothing where all is as it was asked for", () => {
      expect(broken(revoked, { final: final({ sessions: new Map([["s1", 401]]), stores: stores! }) })).toEqual([]);
    });
    it("sees a revoked token that works", () => {
      expect(broken(revoked, { final: final({ sessions: new Map([["s1", 200]]), stores: stores! }) })).toEqual([
        "sessions",
      ]);
      const later = [...revoked, ...history(current("s1")).map((op) => ({ ...op, at: T0 + 10_000 }))];
      expect(broken(later, { final: final({ sessions: new Map([["s1", 401]]), stores: stores! }) })).toEqual([
        "revoked",
      ]);
    });
    it("sees a token that works again", () => {
      const ops = history(
        create(A),
        update(A, 2),
        login("s1"),
        [{ kind: "revoke", user: A, sessions: ["s1"] }, unknown],
        [current("s1"), { status: 401, outcome: "refused" }],
        current("s1"),
      );
      expect(broken(ops, { final: final({ stores: stores! }) })).toEqual(["revoked"]);
    });
    it("sees a session that outlives a changed password, and one that was ended by nobody", () => {
      const ops = history(create(A), login("kept"), login("other"), {
        kind: "update",
        user: A,
        revision: 2,
        password: true,
        keeps: "kept",
      });
      const both = facts(...["kept", "other"].map(factId.sessionStarted), factId.sessionEnded("other"));
      const as = (kept: number, other: number): Final =>
        final({
          sessions: new Map([
            ["kept", kept],
            ["other", other],
          ]),
          stores: both!,
        });
      expect(broken(ops, { final: as(200, 401) })).toEqual([]);
      expect(broken(ops, { final: as(200, 200) })).toEqual(["sessions"]);
      expect(broken(ops, { final: as(401, 401) })).toEqual(["sessions"]);
    });
    it("sees the lost fact of a session", () => {
      expect(
        broken(revoked, {
          final: final({ sessions: new Map([["s1", 401]]), stores: facts(factId.sessionStarted("s1"))! }),
        }),
      ).toEqual(["facts"]);
    });
  });

  describe("of tracked events", () => {
    const track: Did = { kind: "track", name: "n", ids: ["1", "2"], caller: "anonymous" };
    const keys = ["1", "2"].map((id) => keyOf(factIdOf({ caller: "anonymous", id, name: "n" })));
    const counted = (total: number, of: string[]): Final =>
      final({
        counts: { n: total },
        stores: { ...final().stores!, clickhouse: { ...final().stores!.clickhouse, keys: of } },
      });
    const ops = history(create(A), update(A, 2), track, track);

    it("counts a resend once, sees a lost and a double one", () => {
      expect(broken(ops, { final: counted(2, keys) })).toEqual([]);
      expect(broken(ops, { final: counted(1, keys.slice(1)) })).toEqual(["facts"]);
      expect(broken(ops, { final: counted(3, keys) })).toEqual(["facts"]);
      expect(broken(ops, { final: counted(2, [...keys, keys[0]!]) })).toEqual(["facts"]);
    });
    it("excuses only what was acknowledged within the exempt window", () => {
      const lost = counted(0, []);
      expect(broken(ops, { final: lost, exempt: [{ from: T0, to: T0 + 10_000 }] })).toEqual([]);
      expect(broken(ops, { final: lost, exempt: [{ from: T0, to: T0 + 1_000 }] })).toEqual(["facts"]);
    });
  });

  describe("of availability", () => {
    const fault: FaultWindow = { experiment: "e", away: ["postgres"], from: T0, to: T0 + 100_000, until: T0 + 100_000 };
    const requests = (endpoint: Endpoint, n: number, more: Partial<Op> = {}): Op[] =>
      Array.from({ length: n }, (_, i) => ({
        ...history({ kind: "probe" })[0]!,
        endpoint,
        at: T0 + 2_000 + i,
        ...more,
      }));

    it("excuses who needs the store, and nobody else", () => {
      const refused = requests("GET /v1/users/:id", 10, unknown);
      expect(broken([...good, ...refused], { faults: [fault] })).toEqual([]);
      const search = [...requests("GET /v1/search", 900), ...requests("GET /v1/search", 2, unknown)];
      expect(broken([...good, ...search], { faults: [fault] })).toEqual(["isolation"]);
      expect(
        broken([...good, ...requests("GET /v1/users/:id", 1, { ...unknown, ms: 2_500 })], { faults: [fault] }),
      ).toEqual(["prompt"]);
    });
    it("bears one failure of a few hundred requests, and 0.1 % of all experiments' requests", () => {
      const windows = Array.from({ length: 5 }, (_, i) => {
        const from = T0 + i * 1_000_000;
        return { ...fault, experiment: `e${i}`, from, to: from + 100_000, until: from + 100_000 };
      });
      const share = (n: number, failures: number[]) =>
        windows.flatMap(({ from }, i) => [
          ...requests("GET /v1/search", n, { at: from + 5_000 }),
          ...requests("GET /v1/search", failures[i]!, { ...unknown, at: from + 5_000 }),
        ]);
      const bad = (ops: Op[]) => broken([...good, ...ops], { faults: windows });
      expect(bad(share(300, [1, 0, 0, 0, 0]))).toEqual([]);
      expect(bad(share(300, [1, 0, 1, 0, 0]))).toEqual(["isolation"]);
      expect(bad(share(900, [1, 0, 1, 1, 1]))).toEqual([]);
      expect(bad(share(900, [2, 0, 0, 0, 0]))).toEqual(["isolation"]);
    });
    it("measures the matrix and compares it", () => {
      const ops = [
        ...requests("GET /v1/users/:id", 5, unknown),
        ...requests("GET /v1/people/:id", 5, { degraded: true }),
        // Of somebody who is not there nothing is missing.
        ...requests("GET /v1/people/:id", 3, { status: 404 }),
      ];
      const matrix = measureMatrix(ops, [fault], new Set(["e"]));
      expect(matrix).toEqual({
        "GET /v1/users/:id": { postgres: "503" },
        "GET /v1/people/:id": { postgres: "degraded" },
      });
      expect(checkMatrix(matrix).violations).toEqual([]);
      expect(checkMatrix({ "GET /v1/search": { postgres: "503" } }).violations).toHaveLength(1);
    });
  });
});
