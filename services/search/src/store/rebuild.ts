import type { Client } from "@elastic/elasticsearch";
import type { Source, UserEvent } from "@quartet/contracts";
import {
  allowWrites,
  blockWrites,
  dropRetired,
  type IndexOptions,
  noteReplay,
  type RebuildMarks,
  rebuildMarks,
  startRebuild,
  swapIndexes,
} from "./indexes.ts";
import { readWatermark, refresh, type Written, writeUsers, writeWatermark } from "./users.ts";

/** The index that is being filled beside the one in use, as the workers see it. */
export interface SearchRebuild {
  start(): Promise<boolean>;
  marks(): Promise<RebuildMarks>;
  begun(id: string): Promise<void>;
  write(events: UserEvent[]): Promise<Written[]>;
  refresh(): Promise<void>;
  writeWatermark(source: Source, at: Date): Promise<void>;
  swap(id: string): Promise<void>;
  cleanUp(): Promise<void>;
}

export function createSearchRebuild(client: Client, options: IndexOptions): SearchRebuild {
  const { names } = options;
  const next = { ...names, users: names.next };
  let unblocked = false;
  return {
    start: () => startRebuild(client, options),
    marks: () => rebuildMarks(client, names),
    async begun(id) {
      const marks = await rebuildMarks(client, names);
      if (marks.next?.id === id) await noteReplay(client, marks.next.index);
    },
    write: (events) => writeUsers(client, next, events),
    refresh: () => refresh(client, next),
    writeWatermark: (source, at) => writeWatermark(client, next, source, at),
    async swap(id) {
      // It holds whatever the other one does, so what is said of that can be said of it: as-of does not go back.
      const said = await readWatermark(client, names, "user");
      if (said) await writeWatermark(client, next, "user", new Date(said));
      // What can be found in the old index has to be found in the new one from its first moment: so nothing is written to the old one any more when the
      // new one is refreshed. Writers try again until the names have changed, some milliseconds later.
      await blockWrites(client, names);
      try {
        await refresh(client, next);
        await swapIndexes(client, names, id);
      } catch (error) {
        await allowWrites(client, names).catch(() => {});
        throw error;
      }
    },
    async cleanUp() {
      // Of a process that was killed in the middle of a swap that cannot be gone on with.
      if (!unblocked) await allowWrites(client, names);
      unblocked = true;
      await dropRetired(client, names);
    },
  };
}
