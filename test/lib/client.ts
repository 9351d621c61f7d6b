import { setTimeout as sleep } from "node:timers/promises";

/** A black-box client of the public API: nothing here knows what is behind the gateway. */
export interface Reply<T = any> {
  status: number;
  headers: Headers;
  body: T;
  token: string | null;
  ms: number;
}

export interface Options {
  token?: string | undefined;
  body?: unknown;
  /** Sent as it is, with the given Content-Type header. */
  raw?: string | Uint8Array;
  headers?: Record<string, string>;
  /** Wait for the write this consistency token came from. */
  after?: string | null | undefined;
  timeoutMs?: number;
}

export class Client {
  readonly url: string;
  readonly operatorToken: string;
  constructor(url: string, operatorToken: string) {
    this.url = url.replace(/\/$/, "");
    this.operatorToken = operatorToken;
  }

  async call<T = any>(method: string, path: string, o: Options = {}): Promise<Reply<T>> {
    const headers: Record<string, string> = { ...o.headers };
    if (o.token) headers.Authorization = `Bearer ${o.token}`;
    // Tests sign up and log in by the hundred from one address; with the operator's token that is not counted, and otherwise means nothing there.
    else if (method === "POST" && /^\/v1\/(users|sessions)$/.test(path)) {
      headers.Authorization ??= `Bearer ${this.operatorToken}`;
    }
    if (o.after) {
      headers["Consistency-Token"] = o.after;
      headers.Prefer ??= "wait=10";
    }
    let body: string | Uint8Array | undefined;
    if (o.raw !== undefined) body = o.raw;
    else if (o.body !== undefined) {
      headers["Content-Type"] ??= "application/json";
      body = JSON.stringify(o.body);
    }
    const started = performance.now();
    const response = await fetch(this.url + path, {
      method,
      headers,
      ...(body === undefined ? {} : { body: body as NonNullable<RequestInit["body"]> }),
      redirect: "manual",
      signal: AbortSignal.timeout(o.timeoutMs ?? 30_000),
    });
    const text = await response.text();
    const type = response.headers.get("content-type") ?? "";
    return {
      status: response.status,
      headers: response.headers,
      body: (type.includes("json") && text ? JSON.parse(text) : text) as T,
      token: response.headers.get("consistency-token"),
      ms: performance.now() - started,
    };
  }

  get = <T = any>(path: string, o?: Options) => this.call<T>("GET", path, o);
  post = <T = any>(path: string, body?: unknown, o?: Options) => this.call<T>("POST", path, { ...o, body });
  patch = <T = any>(path: string, body?: unknown, o?: Options) => this.call<T>("PATCH", path, { ...o, body });
  delete = <T = any>(path: string, o?: Options) => this.call<T>("DELETE", path, o);
}

let counter = 0;
const run = Date.now().toString(36).slice(-6);

/** A text no other test uses. */
export function unique(prefix: string): string {
  return `${prefix}_${run}_${(counter++).toString(36)}`;
}

export const PASSWORD = "correct horse battery staple";

export interface Person {
  id: string;
  email: string;
  handle: string;
  password: string;
  displayName: string;
  /** Consistency token of the sign-up. */
  created: string;
}

/** Signs a new person up. */
export async function signUp(
  client: Client,
  fields: Record<string, unknown> = {},
  headers: Record<string, string> = {},
): Promise<Person> {
  const handle = unique("u").toLowerCase().slice(0, 32);
  const body = {
    email: `${handle}@example.org`,
    password: PASSWORD,
    handle,
    displayName: `Person ${handle}`,
    ...fields,
  };
  const reply = await client.post("/v1/users", body, { headers });
  if (reply.status !== 201) throw new Error(`sign-up answered ${reply.status}: ${JSON.stringify(reply.body)}`);
  return { ...(body as unknown as Person), id: reply.body.id, created: reply.token as string };
}

/** Logs a person in; returns the bearer token, the session and its consistency token. */
export async function logIn(
  client: Client,
  person: Pick<Person, "handle" | "password">,
  device?: string,
  headers: Record<string, string> = {},
) {
  const body = { login: person.handle, password: person.password, ...(device ? { device } : {}) };
  const reply = await client.post("/v1/sessions", body, { headers });
  if (reply.status !== 201) throw new Error(`login answered ${reply.status}: ${JSON.stringify(reply.body)}`);
  return { token: reply.body.token as string, session: reply.body.session as { id: string }, consistency: reply.token };
}

/** Polls until `probe` gives something truthy; fails with the last value after `withinMs`. */
export async function eventually<T>(
  what: string,
  probe: () => Promise<T | false | undefined | null>,
  withinMs = 30_000,
): Promise<T> {
  const deadline = Date.now() + withinMs;
  let last: unknown;
  while (Date.now() < deadline) {
    try {
      const value = await probe();
      if (value) return value;
      last = value;
    } catch (error) {
      last = error;
    }
    await sleep(50);
  }
  throw new Error(
    `not in ${withinMs} ms: ${what} (last: ${last instanceof Error ? last.message : JSON.stringify(last)})`,
  );
}
