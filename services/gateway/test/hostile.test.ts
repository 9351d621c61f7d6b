import { once } from "node:events";
import { Agent, get, type IncomingMessage } from "node:http";
import { connect } from "node:net";
import { encodeToken } from "@quartet/contracts";
import { describe, expect, it, vi } from "vitest";
import { ann, json } from "./harness.ts";
import { useGateway } from "./setup.ts";

const { up, call, url } = useGateway({
  MAX_WAITING: "6",
  MAX_WAITING_PER_CLIENT: "4",
  MAX_CONCURRENT_PER_CLIENT: "2",
  TRUST_PROXY: "127.0.0.1",
});

/** One read that is open until it is ended. */
function open(path: string, headers: Record<string, string>) {
  const client = get(url() + path, { headers, agent: new Agent() });
  client.on("error", () => {});
  const answer = once(client, "response").then(([res]) => {
    (res as IncomingMessage).resume();
    return res as IncomingMessage;
  });
  answer.catch(() => {});
  return { answer, leave: () => client.destroy() };
}

const from = (client: string) => ({ "x-forwarded-for": client });
const token = encodeToken({ u: [[ann, 7]] });

describe("consistency tokens", () => {
  it("come back as they were given, and are refused once altered or invented", async () => {
    up.user.on(`PATCH /v1/users/${ann}`, (_seen, res) => json(res, 200, {}, { "consistency-token": token }));
    up.search.on("GET /v1/search", (_seen, res) => json(res, 200, {}));
    const given = (await call("PATCH", `/v1/users/${ann}`, { token: "anns-token", body: {} })).headers.get(
      "consistency-token",
    )!;
    const ask = (text: string, path = "/v1/search") => call("GET", path, { headers: { "consistency-token": text } });
    expect((await ask(given)).status).toBe(200);
    expect(up.search.seen[0]!.headers["consistency-token"]).toBe(token);
    // for one release
    expect((await ask(token)).status).toBe(200);
    const [says, mark] = given.split(".") as [string, string];
    const other = encodeToken({ u: [[ann, 8]] });
    for (const text of [
      `${other}.${mark}`,
      `${says}.`,
      `${says}.${mark.slice(0, -1)}`,
      `${says}.${mark}.${mark}`,
      `${says}.${mark}A`,
      encodeToken({ a: { user: "2999-01-01T00:00:00Z" } }),
      encodeToken({ t: { seq: 1, stream: "2999-01-01T00:00:00Z" } }),
      encodeToken({ u: [[ann, 2 ** 51]] }),
      "x",
      ".",
    ]) {
      for (const path of ["/v1/search", `/v1/people/${ann}`]) {
        const res = await ask(text, path);
        expect([text, res.status, res.body.errors?.[0].path]).toEqual([text, 400, "Consistency-Token"]);
      }
    }
  });
});

describe("reads that wait", () => {
  it("are so many by client and in all, one more is answered at once, and end with their clients", async () => {
    let left = 0;
    up.search.on("GET /v1/search", (seen, res) => {
      if (seen.headers.prefer === undefined) return json(res, 200, {}, { "quartet-freshness": "stale" });
      res.once("close", () => left++);
    });
    up.search.on("GET /v1/search/suggest", (_seen, res) => json(res, 200, {}));
    const wait = (client: string) =>
      open("/v1/search", { ...from(client), prefer: "wait=10", "consistency-token": token });
    const waitingAt = () => up.search.seen.filter(({ headers }) => headers.prefer === "wait=10").length;
    const first = Array.from({ length: 4 }, () => wait("203.0.113.9"));
    await vi.waitFor(() => expect(waitingAt()).toBe(4));
    const fifth = await wait("203.0.113.9").answer;
    expect([fifth.statusCode, fifth.headers["quartet-freshness"]]).toEqual([200, "stale"]);
    const others = [wait("203.0.113.1"), wait("203.0.113.2")];
    await vi.waitFor(() => expect(waitingAt()).toBe(6));
    expect((await wait("203.0.113.3").answer).headers["quartet-freshness"]).toBe("stale");
    // Neither a plain read nor who somebody is waits for them.
    expect((await call("GET", "/v1/search/suggest")).status).toBe(200);
    for (const { leave } of [...first, ...others]) leave();
    await vi.waitFor(() => expect(left).toBe(6));
    const again = wait("203.0.113.9");
    await vi.waitFor(() => expect(waitingAt()).toBe(7));
    again.leave();
    // That they left says nothing of the service.
    expect((await call("GET", "/v1/search/suggest")).status).toBe(200);
  });

  it("of one client take turns, and who goes away gives the turn up", async () => {
    const held: (() => void)[] = [];
    up.search.on("GET /v1/search", (_seen, res) => void held.push(() => json(res, 200, {})));
    const mine = [1, 2, 3].map(() => open("/v1/search", from("203.0.113.9")));
    await vi.waitFor(() => expect(held.length).toBe(2));
    const other = open("/v1/search", from("203.0.113.1"));
    await vi.waitFor(() => expect(held.length).toBe(3));
    mine[0]!.leave();
    await vi.waitFor(() => expect(held.length).toBe(4));
    for (const answer of held) answer();
    expect((await other.answer).statusCode).toBe(200);
    expect((await mine[2]!.answer).statusCode).toBe(200);
  });
});

describe("heads", () => {
  it("headers are at most 16 KiB", async () => {
    const socket = connect(Number(new URL(url()).port), "127.0.0.1");
    socket.write(`GET /healthz HTTP/1.1\r\nHost: x\r\nX-Large: ${"x".repeat(17 * 1024)}\r\n\r\n`);
    let text = "";
    for await (const chunk of socket) text += chunk;
    expect(text).toMatch(/^HTTP\/1.1 431 /);
  });
});
