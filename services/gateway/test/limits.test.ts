import { request } from "node:http";
import { connect } from "node:net";
import { describe, expect, it } from "vitest";
import { groupOf } from "../src/http/limits.ts";
import { ann, json, operatorToken } from "./harness.ts";
import { useGateway } from "./setup.ts";

const { up, url, admin } = useGateway({
  RATE_LIMIT_SEARCH: "5/60",
  RATE_LIMIT_SIGN_UP: "2/60",
  RATE_LIMIT_OTHER: "4/60",
  MAX_BUFFERED_BYTES: String(4 * 1024 * 1024),
  MAX_BUFFERED_ANSWER_BYTES: String(4 * 1024 * 1024),
  TRUST_PROXY: "127.0.0.2",
});

interface Got {
  status: number;
  headers: Record<string, string | string[] | undefined>;
  body: string;
}

/** A request that comes from the given address of this machine. */
function from(localAddress: string, method: string, path: string, headers: Record<string, string> = {}, body?: Buffer) {
  return new Promise<Got>((resolve, reject) => {
    const sent = request(url() + path, { method, headers, localAddress, agent: false }, (res) => {
      let text = "";
      res.on("data", (chunk) => {
        text += chunk;
      });
      res.on("end", () => resolve({ status: res.statusCode ?? 0, headers: res.headers, body: text }));
    });
    sent.on("error", reject);
    sent.end(body);
  });
}
const metricsOf = async () => (await fetch(`${admin()}/metrics`)).text();
const operator = { authorization: `Bearer ${operatorToken}` };
const statuses = async (n: number, ask: () => Promise<Got>) => {
  const found: number[] = [];
  for (let i = 0; i < n; i++) found.push((await ask()).status);
  return found;
};

describe("limits", () => {
  it("a client that asks too often is told so, and when to come again; another is not", async () => {
    up.search.on("GET /v1/search*", (_seen, res) => json(res, 200, { hits: [] }));
    const first = await from("127.0.0.11", "GET", "/v1/search?q=a");
    expect(first.headers["ratelimit-policy"]).toMatch(/^"search-by-client"; q=5; w=60/);
    expect(first.headers.ratelimit).toMatch(/^"search-by-client"; r=4; t=60/);
    expect(await statuses(5, () => from("127.0.0.11", "GET", "/v1/search/suggest?q=a"))).toEqual([
      200, 200, 200, 200, 429,
    ]);
    const limited = await from("127.0.0.11", "GET", "/v1/search?q=a");
    expect(JSON.parse(limited.body)).toMatchObject({ status: 429, type: "urn:quartet:problem:too-many-requests" });
    expect(Number(limited.headers["retry-after"])).toBeGreaterThan(0);
    expect(Number(limited.headers["retry-after"])).toBeLessThanOrEqual(60);
    expect((await from("127.0.0.12", "GET", "/v1/search?q=a")).status).toBe(200);
    // What is counted apart is not used up.
    up.analytics.on("GET /v1/analytics/signups*", (_seen, res) => json(res, 200, {}));
    expect((await from("127.0.0.11", "GET", "/v1/analytics/signups")).status).toBe(200);
  });

  it("the operator is exempt, and a token that is not the operator's makes nobody so", async () => {
    up.user.on("POST /v1/users", (_seen, res) => json(res, 201, {}));
    const signUp =
      (headers = {}) =>
      () =>
        from("127.0.0.13", "POST", "/v1/users", headers, Buffer.from("{}"));
    expect(await statuses(4, signUp(operator))).toEqual([201, 201, 201, 201]);
    expect(await statuses(3, signUp({ authorization: "Bearer another" }))).toEqual([201, 201, 429]);
    expect(up.user.seen).toHaveLength(6);
  });

  it("a person is counted from wherever they come", async () => {
    up.user.on(`GET /v1/users/${ann}`, (_seen, res) => json(res, 200, {}));
    const token = { authorization: "Bearer anns-token" };
    const answers: Got[] = [];
    for (let i = 0; i < 5; i++) answers.push(await from(`127.0.0.2${i}`, "GET", `/v1/users/${ann}`, token));
    expect(answers.map((a) => a.status)).toEqual([200, 200, 200, 200, 429]);
    expect(String(answers[0]!.headers["ratelimit-policy"])).toContain('"other-by-principal"; q=4; w=60');
  });

  it("believes X-Forwarded-For of the proxies it was told of, and an IPv6 client is its /64", async () => {
    up.search.on("GET /v1/search*", (_seen, res) => json(res, 200, { hits: [] }));
    const by = (proxy: string, client: string) => () =>
      from(proxy, "GET", "/v1/search?q=a", { "x-forwarded-for": client });
    expect(await statuses(5, by("127.0.0.2", "2001:db8:1:2::7"))).toEqual([200, 200, 200, 200, 200]);
    expect((await by("127.0.0.2", "2001:db8:1:2:ffff::8")()).status).toBe(429);
    expect((await by("127.0.0.2", "2001:db8:1:3::7")()).status).toBe(200);
    // Somebody else's word for where they come from is worth nothing.
    const other = [1, 2, 3, 4, 5, 6].map((i) => by("127.0.0.14", `203.0.113.${i}`));
    const seen: number[] = [];
    for (const ask of other) seen.push((await ask()).status);
    expect(seen).toEqual([200, 200, 200, 200, 200, 429]);
    expect(up.search.seen.at(-1)!.headers["quartet-client"]).toBe("127.0.0.14");
  });

  it("every path of the API belongs to a group", () => {
    expect(groupOf("GET", "/healthz")).toBeUndefined();
    expect(groupOf("GET", "/v1/anything")).toBe("other");
    expect(groupOf("GET", "/v1/search/suggest")).toBe("search");
    expect(groupOf("GET", "/v1/searching")).toBe("other");
  });
});

describe("bodies", () => {
  it("is taken in only from whom it may come: 401 and 403 while it is still being sent", async () => {
    const gateway = new URL(url());
    for (const [token, status] of [
      [undefined, 401],
      ["nobodys-token", 401],
      ["anns-token", 403],
    ] as const) {
      const socket = connect({ port: Number(gateway.port), host: "127.0.0.1", localAddress: "127.0.0.15" });
      const answer = new Promise<string>((resolve) => socket.once("data", (chunk) => resolve(String(chunk))));
      const auth = token ? `Authorization: Bearer ${token}\r\n` : "";
      // Of eight megabytes only a few bytes ever come.
      socket.write(
        `POST /v1/admin/import HTTP/1.1\r\nHost: x\r\n${auth}Content-Type: application/json\r\nContent-Length: 8000000\r\n\r\n{"users"`,
      );
      expect((await answer).slice(0, 12)).toBe(`HTTP/1.1 ${status}`);
      socket.destroy();
    }
  });

  it("what all of them hold together is bounded: 503 beyond, and all well when they are gone", async () => {
    const gateway = new URL(url());
    const hold = (address: string) => {
      const socket = connect({ port: Number(gateway.port), host: "127.0.0.1", localAddress: address });
      socket.on("error", () => {});
      socket.write(
        `POST /v1/track HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n`,
      );
      socket.write(Buffer.alloc(900_000, 0x20));
      return socket;
    };
    up.analytics.on("POST /v1/track", (_seen, res) => json(res, 202, { accepted: 1 }));
    const track = (address: string) =>
      from(address, "POST", "/v1/track", { "content-type": "application/json" }, Buffer.alloc(800_000, 0x20));
    // One client may have a quarter of the four megabytes, and another is not asked to wait for it.
    const one = hold("127.0.0.16");
    const held = async () => Number(/bodies_bytes\{service="gateway"\} (\d+)/.exec(await metricsOf())?.[1]);
    await expect.poll(held).toBeGreaterThanOrEqual(900_000);
    const refused = await track("127.0.0.16");
    expect([refused.status, refused.headers["retry-after"]]).toEqual([503, "1"]);
    expect((await track("127.0.0.17")).status).toBe(202);
    const many = [1, 2, 3, 4].map((i) => hold(`127.0.0.3${i}`));
    await expect.poll(held).toBeGreaterThanOrEqual(3_600_000);
    expect((await track("127.0.0.18")).status).toBe(503);
    for (const socket of [one, ...many]) socket.destroy();
    await expect.poll(held).toBe(0);
    expect((await track("127.0.0.18")).status).toBe(202);
  });
});

describe("answers", () => {
  it("that are on their way out are bounded too, by client and in all; no breaker opens for it", async () => {
    const ends: (() => void)[] = [];
    up.search.on("GET /v1/search", (_seen, res) => {
      res.writeHead(200, { "content-type": "application/json" }).write(" ".repeat(900_000));
      ends.push(() => res.end("{}"));
    });
    up.search.on("GET /v1/search/suggest", (_seen, res) =>
      json(res, 200, { suggestions: " ".repeat(700_000) }, { "consistency-token": "e30" }),
    );
    const suggest = async (address: string) => {
      const { status, headers } = await from(address, "GET", "/v1/search/suggest?q=a");
      return { status, token: String(headers["consistency-token"]), after: headers["retry-after"] };
    };
    // One that waits has the time to.
    const { token } = await suggest("127.0.0.49");
    const hold = (address: string) =>
      from(address, "GET", "/v1/search?q=a", { prefer: "wait=10", "consistency-token": token });
    const held = async () => Number(/answers_bytes (\d+)/.exec(await metricsOf())?.[1]);

    const answers = [hold("127.0.0.41")];
    await expect.poll(held).toBeGreaterThanOrEqual(900_000);
    expect(await suggest("127.0.0.41")).toMatchObject({ status: 503, after: "1" });
    expect(await suggest("127.0.0.42")).toMatchObject({ status: 200 });
    for (const address of ["127.0.0.43", "127.0.0.44", "127.0.0.45"]) answers.push(hold(address));
    await expect.poll(held).toBeGreaterThanOrEqual(3_600_000);
    const refused = await Promise.all([46, 47, 48, 50, 51].map((n) => suggest(`127.0.0.${n}`)));
    expect(refused.map(({ status }) => status)).toEqual([503, 503, 503, 503, 503]);
    for (const end of ends) end();
    expect((await Promise.all(answers)).map(({ status }) => status)).toEqual([200, 200, 200, 200]);
    await expect.poll(held).toBe(0);
    expect(await suggest("127.0.0.41")).toMatchObject({ status: 200 });
  });
});
