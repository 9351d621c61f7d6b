import { mkdirSync, writeFileSync } from "node:fs";
import { asyncApi } from "./asyncapi.ts";
import { natsUsersConf } from "./nats.ts";
import { openApi } from "./openapi.ts";

/** `npm run generate`: writes the committed documents. A test fails when they differ from the contracts. */
const out = new URL("../generated/", import.meta.url);
mkdirSync(out, { recursive: true });
writeFileSync(new URL("openapi.json", out), `${JSON.stringify(openApi(), null, 2)}\n`);
writeFileSync(new URL("asyncapi.json", out), `${JSON.stringify(asyncApi(), null, 2)}\n`);
writeFileSync(new URL("../../../charts/nats/files/users.conf", import.meta.url), natsUsersConf());
console.log("wrote packages/contracts/generated/{openapi,asyncapi}.json and charts/nats/files/users.conf");
