import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Client } from "./client.ts";

/** The system under test: started by test/lib/setup.ts, or any other one named by QUARTET_URL and QUARTET_OPERATOR_TOKEN. */
export const client = new Client(
  process.env.QUARTET_URL ?? "http://127.0.0.1:8080",
  process.env.QUARTET_OPERATOR_TOKEN ?? "",
);

/** Home folder of the local system under test; undefined when it runs elsewhere. */
export const home = process.env.QUARTET_TEST_HOME;

/** What the launcher wrote about its processes. */
export function runFile(): any {
  if (!home) throw new Error("only a local system has a run file");
  return JSON.parse(readFileSync(join(home, "run.json"), "utf8"));
}
