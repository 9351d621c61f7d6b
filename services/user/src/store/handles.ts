import { createHash } from "node:crypto";

/** SHA-256 of a key's UTF-16 code units: a key may hold NULs and lone surrogates, which PostgreSQL's text cannot. */
export function importKeyHash(key: string): Buffer {
  return createHash("sha256").update(Buffer.from(key, "utf16le")).digest();
}

/**
 * Handles to try for an imported person, the wanted one first; always the same ones for the same key. The key itself may be a mail address, which
 * never leaves this service: only the display name, which everybody sees, becomes part of a handle.
 * @param explicit the handle that was asked for, if one was
 */
export function handleCandidates(keyHash: Buffer, displayName: string, explicit?: string): string[] {
  const suffix = createHash("sha256").update("handle\0").update(keyHash).digest("hex");
  const base = explicit ?? foldToHandle(displayName);
  const suffixed = [4, 6, 10, 20].map((n) => `${(base || "user").slice(0, 31 - n)}_${suffix.slice(0, n)}`);
  return base.length >= 3 ? [base, ...suffixed] : suffixed;
}

/** Letters and digits of a name without accents, the rest as underscores; empty if its script has none of them. */
function foldToHandle(name: string): string {
  return name
    .normalize("NFKD")
    .replace(/\p{M}+/gu, "")
    .toLowerCase()
    .replaceAll("ß", "ss")
    .replaceAll("ø", "o")
    .replaceAll("ł", "l")
    .replaceAll("æ", "ae")
    .replaceAll("œ", "oe")
    .replaceAll("đ", "d")
    .replace(/[^a-z0-9]+/g, "_")
    .replace(/^_|_$/g, "")
    .slice(0, 32)
    .replace(/_$/, "");
}
