import { createHash } from "node:crypto";

/** The part of a user that the derived stores hold, in the order it is digested. */
export interface DigestedProfile {
  id: string;
  handle: string;
  displayName: string;
  bio: string;
  country: string | null;
  tags: string[];
  revision: number;
}

function hash(parts: unknown): string {
  return createHash("sha256").update(JSON.stringify(parts)).digest("hex").slice(0, 32);
}

/** Digest of what Search holds of a user. */
export function profileDigest(p: DigestedProfile): string {
  return hash([p.id, p.handle, p.displayName, p.bio, p.country, p.tags, p.revision]);
}

/** Digest of what Session holds of a user. */
export function sessionProfileDigest(p: {
  id: string;
  handle: string;
  displayName: string;
  revision: number;
  credentialEpoch: number;
}): string {
  return hash([p.id, p.handle, p.displayName, p.revision, p.credentialEpoch]);
}

/** The audit bucket of a user, 0 to 255: the last byte of the id, which is random in a UUIDv7. */
export function auditBucket(userId: string): number {
  return Number.parseInt(userId.slice(-2), 16);
}

/** Folds what is held of users, with the version it is held at, into one bucket digest: XOR of hashes, so order does not matter and one change is enough. */
export class BucketDigest {
  #sum = Buffer.alloc(16);
  count = 0;
  add(id: string, digest: string, version: number): void {
    const h = createHash("sha256").update(`${id}:${digest}:${version}`).digest();
    for (let i = 0; i < 16; i++) this.#sum[i] = this.#sum[i]! ^ h[i]!;
    this.count++;
  }
  value(): { count: number; digest: string } {
    return { count: this.count, digest: this.#sum.toString("hex") };
  }
}
