import { inboxPrefix } from "@quartet/contracts";
import { natsOptions as fromUrl } from "@quartet/projection";
import type { ConnectionOptions } from "nats";

/** Connection settings from `NATS_URL`; the user name in it is the service's, and so is the inbox. */
export function natsOptions(url: string, name: string): ConnectionOptions {
  return { ...fromUrl(url), inboxPrefix: inboxPrefix("session"), name };
}
