export { copyDatabase } from "./copy-database.ts";
export { createEngine } from "./create.ts";
export { loadCredentials } from "./credentials.ts";
export type { Engine } from "./engine.ts";
export { EngineStartError, EngineUnavailableError } from "./errors.ts";
export { cacheFolder, type FetchProgress, fetchEngines } from "./fetch.ts";
export { ManagedProcess, type ProcessExit } from "./managed.ts";
export { NatsEngine } from "./nats.ts";
export { ENGINE_NAMES, ENGINE_URL_VARIABLES, type EngineName } from "./platform.ts";
export { choosePort, isPortFree } from "./ports.ts";
export {
  freezeTree,
  identify,
  isAlive,
  isStopped,
  killTree,
  type ProcessIdentity,
  readPidFile,
  reapOrphans,
  signalProcess,
  thawTree,
  waitForDeath,
  writePidFile,
} from "./processes.ts";
export { createTestEngine, type TestEngine } from "./testing.ts";
