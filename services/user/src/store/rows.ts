import { type EventData, emit, makeVersion, type Outgoing } from "@quartet/contracts";
import type { Queryable } from "./database.ts";

/** Writes events into the outbox within the caller's transaction. Given from outside: the store knows no broker. */
export type AppendEvents = (client: Queryable, events: Outgoing[]) => Promise<void>;

/** A user as PostgreSQL holds it; `epoch` is the restore epoch at the moment of reading. */
export interface UserRow {
  id: string;
  email: string | null;
  handle: string;
  display_name: string;
  bio: string;
  country: string | null;
  tags: string[];
  revision: number;
  counter: number;
  credential_epoch: number;
  kept_session_id: string | null;
  created_at: Date;
  updated_at: Date;
  epoch: number;
}

/** The columns of a UserRow. */
export const USER_COLUMNS = `id, email, handle, display_name, bio, country, tags, revision, counter, credential_epoch,
  kept_session_id, created_at, updated_at, (SELECT epoch FROM restore_epoch) AS epoch`;

export function versionOf(row: { epoch: number; counter: number }): number {
  return makeVersion(row.epoch, row.counter);
}

/** The public part of a user: what the state event carries. Email and password hash stay here. */
export function stateOf(row: UserRow): EventData<"quartet.user.state.v1"> {
  return {
    id: row.id,
    handle: row.handle,
    displayName: row.display_name,
    bio: row.bio,
    country: row.country,
    tags: row.tags,
    revision: row.revision,
    createdAt: row.created_at.toISOString(),
    updatedAt: row.updated_at.toISOString(),
    credentialEpoch: row.credential_epoch,
    keptSessionId: row.kept_session_id,
  };
}

/** The state event of a row as it is. */
export function stateEvent(row: UserRow, traceparent?: string): Outgoing {
  return emit.userState(stateOf(row), versionOf(row), { time: row.updated_at, traceparent });
}

/** What a change of a row says: the new state, and the fact that it changed. Both carry the same version. */
export function changeEvents(
  row: UserRow,
  fact: "created" | "updated",
  fields: string[],
  traceparent?: string,
): Outgoing[] {
  return [
    stateEvent(row, traceparent),
    emit.userFact(fact, row.id, versionOf(row), { time: row.updated_at, traceparent, fields, revision: row.revision }),
  ];
}
