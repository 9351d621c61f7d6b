import { z } from "zod";
import { anyText, device, userIdField } from "./fields.ts";

export const logInBody = z.strictObject({
  login: anyText(1, 254),
  password: anyText(1, 1024),
  device: device.optional(),
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
/** Whose sessions: the operator has to say it, for a person it is always the person. */
export const sessionsQueryOfOperator = z.object({ userId: userIdField.optional() });
export const sessionList = z.object({ sessions: z.array(sessionBody) });
