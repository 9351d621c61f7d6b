import { randomUUID } from "node:crypto";
import { emit, makeVersion, type Outgoing, uuidv7 } from "@quartet/contracts";

/** Plausible events. Deterministic but for the ids, which must be new in every round. */
const COUNTRIES = ["DE", "FR", "BR", "IN", "JP", "KE", "NO", "US"];
const WORDS = "river stone light garden paper market winter signal copper forest letter harbour orange mirror".split(
  " ",
);
const NAMES = ["commit", "page.viewed", "item.bought", "song.played"];

const word = (i: number) => WORDS[i % WORDS.length]!;

/** The newest state of a person. */
export function userState(i: number, id = uuidv7()): Outgoing {
  const now = new Date();
  const at = now.toISOString();
  const name = `${word(i)} ${word(i * 7 + 3)}`;
  return emit.userState(
    {
      id,
      handle: `${word(i)}_${i.toString(36)}`,
      displayName: name,
      bio: `Likes ${word(i * 3)}, ${word(i * 5 + 1)} and the ${word(i * 11 + 2)} by the ${word(i * 13 + 5)}; number ${i}`,
      country: COUNTRIES[i % COUNTRIES.length]!,
      tags: [word(i + 4), word(i * 3 + 1)],
      revision: 1,
      createdAt: at,
      updatedAt: at,
      credentialEpoch: 0,
      keptSessionId: null,
    },
    makeVersion(1, i + 1),
    { time: now },
  );
}

/** What one PATCH writes: the new state and its fact. */
export function update(i: number): [Outgoing, Outgoing] {
  const id = uuidv7();
  const state = userState(i, id);
  return [
    state,
    emit.userFact("updated", id, makeVersion(1, i + 1), { time: new Date(), fields: ["bio"], revision: 2 }),
  ];
}

export function sessionStarted(): Outgoing {
  return emit.sessionStarted(uuidv7(), randomUUID(), { time: new Date() });
}

/** What Analytics gets: two tracked events of three are somebody's, every fifth fact is of a session. */
export function fact(i: number, people: readonly string[]): Outgoing {
  const userId = people[(i * 31) % people.length]!;
  const time = new Date(Date.UTC(2026, 0, 1) + i * 1000);
  if (i % 5 === 0) return emit.sessionStarted(userId, randomUUID(), { time });
  return emit.track(
    `t:${randomUUID()}`,
    {
      name: NAMES[i % NAMES.length]!,
      userId: i % 3 === 0 ? null : userId,
      properties: { where: word(i), amount: i % 100, first: i % 2 === 0 },
    },
    { time },
  );
}
