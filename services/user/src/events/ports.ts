/** What the events side asks of the store, by type only. */
export type { Migration } from "../store/migrate.ts";
export type { AppendEvents } from "../store/rows.ts";
