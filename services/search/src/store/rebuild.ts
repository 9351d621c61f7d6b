import type { Client } from "@elastic/elasticsearch";
import type { Source, UserEvent } from "@quartet/contracts";
import {
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
      await refresh(client, next);
      await swapIndexes(client, names, id);
      await refresh(client, names);
    },
    cleanUp: () => dropRetired(client, names),
  };
}
