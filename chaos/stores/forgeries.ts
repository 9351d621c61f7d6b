import { uuidv7 } from "@quartet/contracts";
import type { Transport } from "./stores.ts";

/** One thing changed by hand behind a service's back, and whether it is as it was. */
export interface Forgery {
  store: "elasticsearch" | "redis" | "clickhouse";
  what: "deleted" | "altered" | "invented";
  forge(): Promise<void>;
  mended(): Promise<boolean>;
}

const FORGED = "forged by hand";

/** What each of the people has done once, as an event of this name, before it is tampered with. */
export interface Victims {
  /** Nine of them. */
  people: string[];
  event: string;
}

/** In each derived store one thing deleted, one altered, one invented, each of somebody else. */
export function forgeries(ask: Transport, { people, event }: Victims): Forgery[] {
  const [d1, a1, i1, d2, a2, , d3, a3, i3] = people as [
    string,
    string,
    string,
    string,
    string,
    string,
    string,
    string,
    string,
  ];
  return [...ofSearch(ask, d1, a1, i1), ...ofSession(ask, d2, a2), ...ofAnalytics(ask, event, d3, a3, i3)];
}

function ofSearch(ask: Transport, deleted: string, altered: string, like: string): Forgery[] {
  const stranger = uuidv7();
  const document = async (id: string): Promise<Record<string, unknown> | undefined> => {
    const { docs } = (await ask.elasticsearch("/users/_mget", { ids: [id] })) as {
      docs: { found: boolean; _source?: Record<string, unknown> }[];
    };
    return docs[0]?.found ? docs[0]._source : undefined;
  };
  const write = async (id: string, source: object): Promise<void> => {
    await ask.elasticsearch(`/users/_doc/${id}?refresh=true`, source, "PUT");
  };
  return [
    {
      store: "elasticsearch",
      what: "deleted",
      forge: async () => void (await ask.elasticsearch(`/users/_doc/${deleted}?refresh=true`, undefined, "DELETE")),
      mended: async () => (await document(deleted))?.deleted === false,
    },
    {
      store: "elasticsearch",
      what: "altered",
      forge: async () => write(altered, { ...(await document(altered)), bio: FORGED }),
      mended: async () => (await document(altered))?.bio !== FORGED,
    },
    {
      store: "elasticsearch",
      what: "invented",
      forge: async () => write(stranger, { ...(await document(like)), id: stranger, bio: FORGED }),
      mended: async () => ((await document(stranger))?.deleted ?? true) === true,
    },
  ];
}

function ofSession(ask: Transport, deleted: string, altered: string): Forgery[] {
  const stranger = uuidv7();
  const call = (...words: string[]): Promise<string> =>
    ask.redis(`return tostring(redis.call(${words.map((w) => `'${w}'`).join(",")}))`);
  const handle = (id: string): Promise<string> => call("HGET", `profile:${id}`, "handle");
  return [
    {
      store: "redis",
      what: "deleted",
      forge: async () => void (await call("DEL", `profile:${deleted}`)),
      mended: async () => (await handle(deleted)) !== "false",
    },
    {
      store: "redis",
      what: "altered",
      forge: async () => void (await call("HSET", `profile:${altered}`, "handle", FORGED)),
      mended: async () => (await handle(altered)) !== FORGED,
    },
    {
      store: "redis",
      what: "invented",
      forge: async () => {
        const fields = ["version", "1", "revision", "1", "handle", FORGED, "displayName", FORGED, "epoch", "0"];
        await call("HSET", `profile:${stranger}`, ...fields);
      },
      mended: async () => (await handle(stranger)) === "false",
    },
  ];
}

function ofAnalytics(ask: Transport, event: string, deleted: string, altered: string, invented: string): Forgery[] {
  const of = (id: string): string => `name IN ('${event}', '${FORGED}') AND user_id = '${id}'`;
  const facts = (id: string): Promise<Record<string, unknown>[]> =>
    ask.clickhouse(`SELECT name FROM analytics.facts FINAL WHERE ${of(id)}`);
  const mended = (id: string) => async (): Promise<boolean> => {
    const rows = await facts(id);
    return rows.length === 1 && rows[0]!.name === event;
  };
  const forgery = (what: Forgery["what"], id: string, statement: string): Forgery => ({
    store: "clickhouse",
    what,
    forge: () => ask.clickhouseCommand(statement),
    mended: mended(id),
  });
  return [
    forgery("deleted", deleted, `ALTER TABLE analytics.facts DELETE WHERE ${of(deleted)}`),
    forgery("altered", altered, `ALTER TABLE analytics.facts UPDATE name = '${FORGED}' WHERE ${of(altered)}`),
    forgery(
      "invented",
      invented,
      `INSERT INTO analytics.facts SELECT * REPLACE (id + 1 AS id, '${FORGED}' AS name) FROM analytics.facts WHERE ${of(invented)}`,
    ),
  ];
}
