import type { Relay, RelayStatus } from "../types.ts";
export type RedisRelayStatus = RelayStatus;
export function createRedisRelay(_options: object): Relay<RedisRelayStatus> {
  throw new Error("soon");
}
