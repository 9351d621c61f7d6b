import { randomBytes } from "node:crypto";
import { linkSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Identities, makeIdentities } from "@quartet/contracts";

/** The passwords of one home, by engine and account. `admin` is for operators and tests; services never see it. */
export interface Credentials {
  postgres: { postgres: string; user_service: string };
  redis: { admin: string; session_service: string };
  clickhouse: { admin: string; analytics_service: string };
  elasticsearch: { admin: string; search_service: string };
  nats: { admin: string; user: string; session: string; analytics: string; search: string };
  /** Each service's own Ed25519 keys, by which it signs who is calling (`IDENTITY_KEYS`); the first one signs. */
  identity: Identities;
}

function generate(): Credentials {
  const secret = () => randomBytes(24).toString("base64url");
  return {
    postgres: { postgres: secret(), user_service: secret() },
    redis: { admin: secret(), session_service: secret() },
    clickhouse: { admin: secret(), analytics_service: secret() },
    elasticsearch: { admin: secret(), search_service: secret() },
    nats: { admin: secret(), user: secret(), session: secret(), analytics: secret(), search: secret() },
    identity: makeIdentities(),
  };
}

/** Reads `<home>/credentials.json`, or makes it (mode 600) with random passwords. Two processes at once agree on one file. */
export function loadCredentials(home: string): Credentials {
  const file = join(home, "credentials.json");
  const place = (text: string, move: (from: string, to: string) => void): void => {
    const draft = `${file}.${process.pid}.${randomBytes(4).toString("hex")}`;
    writeFileSync(draft, text, { mode: 0o600 });
    try {
      move(draft, file);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    } finally {
      rmSync(draft, { force: true });
    }
  };
  for (let attempt = 0; attempt < 3; attempt++) {
    try {
      const found = JSON.parse(readFileSync(file, "utf8")) as Credentials;
      if (found.identity) return found;
      // A home from before each service had keys of its own: they are added once.
      place(`${JSON.stringify({ ...found, identity: makeIdentities() }, null, 2)}\n`, renameSync);
      continue;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") {
        throw new Error(`${file} cannot be read (${(error as Error).message}); start with --fresh to make a new one`);
      }
    }
    mkdirSync(home, { recursive: true, mode: 0o700 });
    place(`${JSON.stringify(generate(), null, 2)}\n`, linkSync);
  }
  throw new Error(`${file} cannot be made`);
}
