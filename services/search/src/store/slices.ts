import { auditBucket } from "@quartet/contracts";

export const BUCKETS = 256;
/** Parts of a bucket: so few people are in one that it can be read anew whenever one of them has changed. */
export const PARTS = 64;

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
export const isUuid = (id: string): boolean => UUID.test(id);

/** The slice of a user's id, 0 to 16,383: its audit bucket, and six bits more of what is random in it. -1 for what is no id. */
export function auditSlice(id: string): number {
  return isUuid(id) ? auditBucket(id) * PARTS + (Number.parseInt(id.slice(-4, -2), 16) % PARTS) : -1;
}
