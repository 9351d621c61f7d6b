import { z } from "zod";
import { identityConfig, loadConfig, port } from "./config.ts";
import { identityHeader } from "./identity.ts";
import { loadKeyring } from "./keyring.ts";

/**
 * One internal call to the process beside, or to TARGET, in the name of the service whose keys the environment holds: for an operator inside a pod, where
 * nobody else is let in. `node packages/service/src/ask.ts POST /internal/restored` prints the answer; the exit status is 0 if it is a success.
 */
const config = loadConfig(
  z.object({ ...identityConfig, PORT: port.default(8080), TARGET: z.url({ protocol: /^https?$/ }).optional() }),
);
const [signer] = config.IDENTITY_KEYS.keys;
const entries = Object.entries(config.IDENTITY_PUBLIC_KEYS);
const [service = ""] = entries.find(([, { keys }]) => keys.some(({ kid }) => kid === signer?.kid)) ?? [];
const keyring = loadKeyring(service, config);
const [, , method = "GET", path = "/internal/status"] = process.argv;
const response = await fetch((config.TARGET ?? `http://127.0.0.1:${config.PORT}`) + path, {
  method,
  headers: { [identityHeader]: keyring.sign({ kind: "service", name: service }, service) },
  signal: AbortSignal.timeout(10_000),
});
console.log(await response.text());
process.exitCode = response.ok ? 0 : 1;
