import { readdirSync, readFileSync } from "node:fs";

/** For tests: messages as they were published when their version was the newest one. A file is never edited once its version is released. */
export interface Fixture {
  family: string;
  version: string;
  subject: string;
  /** As it was written; what today's code makes of it is for the tests. */
  event: Record<string, unknown> & { type: string };
}

const folder = new URL("../fixtures/", import.meta.url);

/** Every message kept under `fixtures/<family>/<version>.json`. */
export function fixtures(): Fixture[] {
  return readdirSync(folder).flatMap((family) =>
    readdirSync(new URL(`${family}/`, folder)).flatMap((file) => {
      const messages = JSON.parse(readFileSync(new URL(`${family}/${file}`, folder), "utf8")) as Fixture[];
      return messages.map(({ subject, event }) => ({
        family,
        version: file.slice(0, -".json".length),
        subject,
        event,
      }));
    }),
  );
}
