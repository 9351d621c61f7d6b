import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { asyncApi } from "../src/asyncapi.ts";
import { natsUsersConf } from "../src/nats.ts";
import { openApi, operations } from "../src/openapi.ts";

function committed(name: string): unknown {
  return JSON.parse(readFileSync(new URL(`../generated/${name}`, import.meta.url), "utf8"));
}

describe("generated documents", () => {
  it("openapi.json is what the contracts say (else: npm run generate)", () => {
    expect(committed("openapi.json")).toEqual(JSON.parse(JSON.stringify(openApi())));
  });
  it("asyncapi.json is what the contracts say (else: npm run generate)", () => {
    expect(committed("asyncapi.json")).toEqual(JSON.parse(JSON.stringify(asyncApi())));
  });
  it("the NATS chart's users.conf is what the contracts say (else: npm run generate)", () => {
    expect(readFileSync(new URL("../../../charts/nats/files/users.conf", import.meta.url), "utf8")).toBe(
      natsUsersConf(),
    );
  });
  it("has one operation id each", () => {
    const ids = Object.values(openApi().paths as Record<string, Record<string, { operationId: string }>>)
      .flatMap((methods) => Object.values(methods))
      .map((o) => o.operationId);
    expect(new Set(ids).size).toBe(operations.length);
  });
});
