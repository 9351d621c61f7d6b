import { key } from "./operate.js";

/**
 * The stream of what the system does: one connection, read with fetch and not with EventSource, which could carry no token. It comes back by itself,
 * with pauses that grow to five seconds. Listeners get `tick`, `flow`, `history`, and `state` (`on`, `off`, `locked`, `lost`).
 */
export const live = new EventTarget();
const emit = (type, detail) => live.dispatchEvent(new CustomEvent(type, { detail }));

const silenceMs = 20_000;
let attempt = 0;
let connection;

/** Connects, again if it already is (with another token, say). */
export async function connect() {
  connection?.abort();
  const mine = new AbortController();
  connection = mine;
  while (!mine.signal.aborted) {
    const state = await read(mine.signal);
    if (mine.signal.aborted) return;
    emit("state", state);
    if (state === "off" || state === "locked") return;
    await new Promise((done) => setTimeout(done, Math.min(5000, 300 * 2 ** attempt++)));
  }
}

async function read(over) {
  const quiet = new AbortController();
  let silence;
  const heard = () => {
    clearTimeout(silence);
    silence = setTimeout(() => quiet.abort(), silenceMs);
  };
  try {
    heard();
    const res = await fetch("/v1/console/stream", {
      headers: { Accept: "text/event-stream", ...(key() ? { "Quartet-Console": key() } : {}) },
      signal: AbortSignal.any([over, quiet.signal]),
    });
    if (res.status === 404) return "off";
    if (res.status === 401) return "locked";
    if (!res.ok) return "lost";
    emit("state", "on");
    attempt = 0;
    const reader = res.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return "lost";
      heard();
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) handle(block);
    }
  } catch {
    return "lost";
  } finally {
    clearTimeout(silence);
  }
}

function handle(block) {
  const name = /^event: (.*)$/m.exec(block)?.[1];
  const data = /^data: (.*)$/m.exec(block)?.[1];
  if (name && data) emit(name, JSON.parse(data));
}
