import { emit, type UserEvent, uuidv7 } from "@quartet/contracts";
import { createTestEngine, type TestEngine } from "@quartet/engines";
import { makeStreams } from "@quartet/projection/testing";
import { eventually, type ServiceProcess, startService } from "@quartet/service/testing";
import { connect } from "nats";
import { afterAll, beforeAll, expect, it } from "vitest";
import { connectElasticsearch } from "../../services/search/src/store/client.ts";
import { ensureIndexes, indexNames, noteReplay } from "../../services/search/src/store/indexes.ts";
import { refresh, writeUsers } from "../../services/search/src/store/users.ts";

const PEOPLE = Number(process.env.QUARTET_PEOPLE ?? 500_000);
/** The old space that the charts give the service. */
const HEAP_MB = 160;
const names = indexNames("");
const as = { kind: "service", name: "user" } as const;
const admin = () => connectElasticsearch(elasticsearch.url, 120_000);

let elasticsearch: TestEngine;
let nats: TestEngine;
let search: ServiceProcess;

beforeAll(async () => {
  [nats, elasticsearch] = await Promise.all([createTestEngine("nats"), createTestEngine("elasticsearch")]);
  const { host, username, password } = new URL(nats.url);
  const nc = await connect({ servers: host, user: username, pass: password });
  await makeStreams(nc);
  await nc.close();
});
afterAll(async () => {
  await search?.kill();
  await Promise.all([nats?.dispose(), elasticsearch?.dispose()]);
});

function someone(id: string, i: number, version = 1, bio = ""): UserEvent {
  const at = new Date().toISOString();
  const profile = { handle: `h_${i}`, displayName: `Person ${i}`, bio, country: null, tags: [] };
  const rest = { revision: version, createdAt: at, updatedAt: at, credentialEpoch: 0, keptSessionId: null };
  return emit.userState({ id, ...profile, ...rest }, version, { time: new Date() }).event as UserEvent;
}

it(`audits ${PEOPLE} people within a heap of ${HEAP_MB} MB, and finds what was changed by hand`, async () => {
  const client = admin();
  await ensureIndexes(client, { names, replicas: 0, refreshInterval: "1s", unread: true });
  await noteReplay(client, names.users);
  const ids = Array.from({ length: PEOPLE }, () => uuidv7());
  for (let i = 0; i < PEOPLE; i += 2000) {
    const written = await writeUsers(
      client,
      names,
      ids.slice(i, i + 2000).map((id, j) => someone(id, i + j)),
    );
    expect(new Set(written)).toEqual(new Set(["applied"]));
  }
  await refresh(client, names);
  search = await startService("search", new URL("../../services/search/src/main.ts", import.meta.url), {
    ELASTICSEARCH_URL: elasticsearch.urlFor("search"),
    NATS_URL: nats.urlFor("search"),
    NODE_OPTIONS: `--max-old-space-size=${HEAP_MB}`,
  });
  const heap = async () =>
    Number(/nodejs_heap_size_used_bytes (\d+)/.exec(await (await fetch(`${search.adminUrl}/metrics`)).text())?.[1]);
  await eventually(() => search.ready(), { what: "the service" });
  const audit = async () => {
    // A walk that overran goes on where it was with the next call.
    const answer = await eventually(
      async () => {
        const one = await search.call("GET", "/internal/digests?fresh=true", { as });
        console.log(one.status, `${Math.round(one.ms)} ms, heap ${Math.round((await heap()) / 2 ** 20)} MB`);
        return one.status === 200 && one;
      },
      { withinMs: 600_000 },
    );
    return answer.body.buckets as { count: number; digest: string }[];
  };
  const first = await audit();
  expect(first.reduce((sum, { count }) => sum + count, 0)).toBe(PEOPLE);
  expect(await audit()).toEqual(first);
  // Many at a time: one walk, and no more memory for them.
  await Promise.all(Array.from({ length: 20 }, audit));

  const changed = (now: typeof first) => now.flatMap(({ digest }, i) => (digest === first[i]!.digest ? [] : [i]));
  const bucketOf = (id: string) => Number.parseInt(id.slice(-2), 16);
  const [altered, gone] = ids as [string, string];
  await client.update({ index: names.users, id: altered, doc: { bio: "by hand" }, refresh: true });
  await client.delete({ index: names.users, id: gone, refresh: true });
  expect(new Set(changed(await audit()))).toEqual(new Set([bucketOf(altered), bucketOf(gone)]));
  // Below what a thousand writes make of it all is read again: that of some slices is.
  await writeUsers(
    client,
    names,
    ids.slice(2, 1002).map((id, i) => someone(id, i, 2, "written")),
    { refresh: true },
  );
  expect((await audit()).reduce((sum, { count }) => sum + count, 0)).toBe(PEOPLE - 1);
  expect(await search.ready()).toBe(true);
  await client.close();
});
