import { connect } from "node:net";
import { afterAll, beforeAll, beforeEach, expect } from "vitest";
import { ann, bob, json, startGateway, Upstream } from "./harness.ts";

// biome-ignore lint/suspicious/noExplicitAny: answers are looked into by the assertions
type Answer = { status: number; headers: Headers; body: any; text: string };
interface CallOptions {
  token?: string;
  headers?: Record<string, string>;
  body?: unknown;
}

/** A gateway process for the tests of one file, with an upstream in the place of each service; Session knows `anns-token` and `bobs-token`. */
export function useGateway(env: Record<string, string> = {}) {
  const up = {
    user: new Upstream("user"),
    session: new Upstream("session"),
    analytics: new Upstream("analytics"),
    search: new Upstream("search"),
  };
  const all = Object.values(up);
  let gateway: Awaited<ReturnType<typeof startGateway>>;
  beforeAll(async () => {
    await Promise.all(all.map((u) => u.start()));
    gateway = await startGateway(
      {
        user: up.user.port,
        session: up.session.port,
        analytics: up.analytics.port,
        search: up.search.port,
      },
      env,
    );
  });
  afterAll(async () => {
    expect(await gateway.stop()).toBe(0);
    await Promise.all(all.map((u) => u.stop()));
  });
  beforeEach(() => {
    for (const u of all) u.reset();
    up.session.on("POST /internal/introspect", (seen, res) => {
      const { token } = JSON.parse(seen.body);
      const who = { "anns-token": ann, "bobs-token": bob }[token as string];
      return who ? json(res, 200, { sessionId: `s-${token}`, userId: who }) : json(res, 401, {});
    });
  });

  async function call(method: string, path: string, options: CallOptions = {}): Promise<Answer> {
    const res = await fetch(gateway.url + path, {
      method,
      headers: {
        ...(options.token ? { authorization: `Bearer ${options.token}` } : {}),
        ...(options.body === undefined ? {} : { "content-type": "application/json" }),
        ...options.headers,
      },
      ...(options.body === undefined
        ? {}
        : { body: typeof options.body === "string" ? options.body : JSON.stringify(options.body) }),
    });
    const text = await res.text();
    return {
      status: res.status,
      headers: res.headers,
      text,
      body: /json/.test(res.headers.get("content-type") ?? "") ? JSON.parse(text) : undefined,
    };
  }

  /** One request written by hand: fetch would normalise the path. */
  async function raw(line: string): Promise<{ status: number }> {
    const socket = connect(Number(new URL(gateway.url).port), "127.0.0.1");
    socket.write(`${line}\r\nHost: x\r\nConnection: close\r\n\r\n`);
    let text = "";
    for await (const chunk of socket) text += chunk;
    return { status: Number(/^HTTP\/1.1 (\d+)/.exec(text)?.[1]) };
  }

  return { up, all, call, raw, log: () => gateway.log(), url: () => gateway.url, admin: () => gateway.admin };
}
