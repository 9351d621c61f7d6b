import type { Request, Response } from "express";

/** Nothing may be loaded, framed or run from an API answer. */
const apiPolicy = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/** The pages load only what this gateway serves; no inline script or style, no other host. */
export const pagePolicy =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'";

/** The headers every answer carries, errors included. CORS is off: no origin but our own may read an answer. */
export function securityHeaders(_req: Request, res: Response): void {
  res.setHeader("Content-Security-Policy", apiPolicy);
  res.setHeader("X-Content-Type-Options", "nosniff");
  res.setHeader("X-Frame-Options", "DENY");
  res.setHeader("Referrer-Policy", "no-referrer");
  res.setHeader("Cross-Origin-Opener-Policy", "same-origin");
  res.setHeader("Cross-Origin-Resource-Policy", "same-origin");
}
