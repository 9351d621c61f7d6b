/** What every process of Quartet has: HTTP, problems, identity, dependencies, health, metrics, tracing, config, shutdown. */
export * from "./admin.ts";
export { type ApiOptions, createApi, finishApi, requestIdOf, sendProblem } from "./api.ts";
export { fieldErrors, jsonBody, parseBody, parseParams, parseQuery, rawBody } from "./body.ts";
export * from "./config.ts";
export * from "./dependency.ts";
export * from "./freshness.ts";
export * from "./identity.ts";
export * from "./listen.ts";
export * from "./logger.ts";
export { latencyBuckets, type Metrics, metrics } from "./metrics.ts";
export * from "./peer.ts";
export * from "./problem.ts";
export * from "./process.ts";
export { projectionMetrics } from "./projection-metrics.ts";
export * from "./tracing.ts";
export * from "./worker.ts";
export { DROP_EVERY, readUnsafe, UNSAFE, UnknownUnsafeSwitch, type UnsafeSwitch, unsafe } from "./unsafe.ts";
