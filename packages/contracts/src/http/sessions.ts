import { z } from "zod";
import { text } from "./fields.ts";

export const logInBody = z.strictObject({
  login: z.string().min(1, "must not be empty").max(254, "must have at most 254 characters"),
  password: z.string().min(1, "must not be empty").max(1024, "must have at most 1024 characters"),
  device: text(1, 100).optional(),
});
export type LogInBody = z.infer<typeof logInBody>;

export const sessionBody = z.object({
  id: z.string(),
  userId: z.uuid(),
  device: z.string().nullable(),
  createdAt: z.iso.datetime(),
  lastSeenAt: z.iso.datetime(),
  expiresAt: z.iso.datetime(),
});
export type SessionBody = z.infer<typeof sessionBody>;
export const loggedIn = z.object({ token: z.string(), session: sessionBody });
export const currentSession = z.object({
  session: sessionBody,
  user: z.object({ id: z.uuid(), handle: z.string(), displayName: z.string() }),
});
export const sessionList = z.object({ sessions: z.array(sessionBody) });
