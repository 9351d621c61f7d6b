import { afterAll, beforeAll, describe } from "vitest";
import { faults } from "./suites/faults.ts";
import { freshness } from "./suites/freshness.ts";
import { internal } from "./suites/internal.ts";
import { paging } from "./suites/paging.ts";
import { projection } from "./suites/projection.ts";
import { rebuild } from "./suites/rebuild.ts";
import { relevance } from "./suites/relevance.ts";
import { scripts } from "./suites/scripts.ts";
import { createWorld, type Shared } from "./world.ts";

const shared = {} as Shared;

beforeAll(async () => {
  shared.world = await createWorld();
  shared.service = await shared.world.start();
});
afterAll(() => shared.world?.dispose());

describe("relevance", () => relevance(shared));
describe("scripts", () => scripts(shared));
describe("freshness", () => freshness(shared));
describe("paging", () => paging(shared));
describe("internal calls", () => internal(shared));
describe("projection", () => projection(shared));
describe("rebuild", () => rebuild(shared));
// An engine starts again in some of them.
describe("faults", { timeout: 300_000 }, () => faults(shared));
