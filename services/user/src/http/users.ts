import { createHmac } from "node:crypto";
import {
  encodeToken,
  erasureAccepted,
  patchUserBody,
  type SignUpBody,
  signUpBody,
  type UserBody,
  userBody,
  userIdField,
} from "@quartet/contracts";
import {
  type BackupSettings,
  badRequest,
  clientOf,
  conflict,
  currentTraceparent,
  HttpProblem,
  identityOf,
  type Keyring,
  notFound,
  parseBody,
  parseParams,
  preconditionFailed,
  requireSelfOrOperator,
  unprocessable,
} from "@quartet/service";
import type { Express, Request, Response } from "express";
import { z } from "zod";
import type { Database } from "../store/database.ts";
import { findErasure } from "../store/erasures.ts";
import { findAnswer, type IdempotencyClaim, KeyReusedError, type StoredAnswer } from "../store/idempotency.ts";
import { type UserRow, versionOf } from "../store/rows.ts";
import { TakenError, type Users } from "../store/users.ts";
import type { PasswordHasher } from "./passwords.ts";
import { etagOf, ifMatch, isKnown } from "./preconditions.ts";
import { Tries } from "./tries.ts";

export interface UserRoutesOptions {
  db: Database;
  users: Users;
  passwords: PasswordHasher;
  keyring: Keyring;
  backups: BackupSettings;
}

const idParams = z.object({ id: userIdField });
const notProven = (message: string) =>
  new HttpProblem(403, {
    detail: `currentPassword: ${message}`,
    errors: [{ path: "currentPassword", message }],
  });
const noSuchUser = () => notFound("there is no such user");

/** The public calls on users and erasures. */
export function addUserRoutes(app: Express, options: UserRoutesOptions): void {
  const { db, users, passwords } = options;
  /** Wrong current passwords, by the session that sent them: its owner's other sessions are not held up. */
  const proofs = new Tries();

  app.post("/v1/users", async (req, res) => {
    const body = parseBody(signUpBody, req);
    const claim = claimOf(req, body, options.keyring.secrets("idempotency"));
    try {
      const earlier = claim && (await findAnswer(db, claim));
      if (earlier) return sendStored(res, earlier);
      const { password, ...profile } = body;
      const passwordHash = await passwords.hash(password, { client: clientOf(req), res });
      const traceparent = currentTraceparent();
      const result = await users.create({ ...profile, passwordHash }, { traceparent, claim, answer: createdAnswer });
      sendStored(res, result.kind === "created" ? createdAnswer(result.row) : result.answer);
    } catch (error) {
      throw asProblem(error);
    }
  });

  app.get("/v1/users/:id", async (req, res) => {
    const { id } = parseParams(idParams, req);
    const row = await users.find(id);
    if (!row) throw noSuchUser();
    res.setHeader("ETag", etagOf(row.revision));
    res.setHeader("Vary", "Authorization");
    res.setHeader("Cache-Control", "private, no-cache");
    if (isKnown(req, row.revision)) return void res.status(304).end();
    const identity = identityOf(req);
    const own = identity?.kind === "operator" || (identity?.kind === "user" && identity.userId === id);
    res.json(bodyOf(row, own));
  });

  app.patch("/v1/users/:id", async (req, res) => {
    const { id } = parseParams(idParams, req);
    const identity = requireSelfOrOperator(req, id);
    const { password, currentPassword, ...change } = parseBody(patchUserBody, req);
    const accepts = ifMatch(req);
    try {
      const turn = { client: clientOf(req), res };
      let credentialEpoch: number | undefined;
      if (password !== undefined || change.email !== undefined) {
        // Only a change that would be made is worth the time of a hash.
        const current = await users.findCredentials(id);
        if (!current) throw noSuchUser();
        if (!accepts(current.revision)) throw preconditionFailed();
        if (identity.kind === "user") {
          // A stolen token is not the account. Before anything that tells whether an email is taken.
          if (currentPassword === undefined) throw notProven("is needed to change the password or the email");
          const check = () => passwords.verify(current.password_hash, currentPassword, turn);
          if (!(await proofs.try(identity.sessionId, check))) throw notProven("is not the password of this user");
          credentialEpoch = current.credential_epoch;
        }
      }
      const passwordHash = password === undefined ? {} : { passwordHash: await passwords.hash(password, turn) };
      const keptSessionId = identity.kind === "user" ? identity.sessionId : null;
      const traceparent = currentTraceparent();
      const result = await users.patch(
        id,
        { ...change, ...passwordHash },
        {
          accepts,
          credentialEpoch,
          keptSessionId,
          traceparent,
        },
      );
      if (result.kind === "missing") throw noSuchUser();
      if (result.kind === "outdated") throw notProven("is not the password of this user any more");
      if (result.kind === "stale") throw preconditionFailed();
      res.setHeader("ETag", etagOf(result.row.revision));
      res.setHeader("Vary", "Authorization");
      res.setHeader("Consistency-Token", encodeToken({ u: [[id, versionOf(result.row)]] }));
      res.json(bodyOf(result.row, true));
    } catch (error) {
      throw asProblem(error);
    }
  });

  app.delete("/v1/users/:id", async (req, res) => {
    const { id } = parseParams(idParams, req);
    requireSelfOrOperator(req, id);
    const result = await users.erase(id, currentTraceparent());
    if (result.kind === "missing") throw noSuchUser();
    res.setHeader("Location", `/v1/erasures/${result.erasureId}`);
    res.setHeader("Consistency-Token", encodeToken({ u: [[id, result.version]] }));
    res.status(202).json(erasureAccepted.parse({ erasureId: result.erasureId }));
  });

  app.get("/v1/erasures/:id", async (req, res) => {
    const id = String(req.params.id);
    const erasure = /^[A-Za-z0-9_-]{43}$/.test(id) ? await findErasure(db, id, options.backups) : undefined;
    if (!erasure) throw notFound("there is no such erasure");
    res.setHeader("Cache-Control", "no-store");
    res.json(erasure);
  });
}

/** A user as API.md shows it. */
function bodyOf(row: UserRow, own: boolean): UserBody {
  return userBody.parse({
    id: row.id,
    ...(own && row.email !== null ? { email: row.email } : {}),
    handle: row.handle,
    displayName: row.display_name,
    bio: row.bio,
    country: row.country,
    tags: row.tags,
    revision: row.revision,
    createdAt: row.created_at.toISOString(),
    updatedAt: row.updated_at.toISOString(),
  });
}

function createdAnswer(row: UserRow): StoredAnswer {
  return {
    status: 201,
    headers: {
      Location: `/v1/users/${row.id}`,
      ETag: etagOf(row.revision),
      "Consistency-Token": encodeToken({ u: [[row.id, versionOf(row)]] }),
    },
    body: bodyOf(row, true),
  };
}

function sendStored(res: Response, answer: StoredAnswer): void {
  for (const [name, value] of Object.entries(answer.headers)) res.setHeader(name, value);
  res.status(answer.status).json(answer.body);
}

/** The idempotency key of a request, scoped to its caller: one caller cannot see the answer to another. */
function claimOf(req: Request, body: SignUpBody, secrets: readonly Buffer[]): IdempotencyClaim | undefined {
  const key = req.headers["idempotency-key"];
  if (key === undefined) return undefined;
  if (typeof key !== "string" || !/^[\x21-\x7e]{1,255}$/.test(key)) {
    throw badRequest({ path: "Idempotency-Key", message: "must be 1 to 255 visible ASCII characters" });
  }
  const identity = identityOf(req);
  const caller = identity?.kind === "user" ? identity.userId : (identity?.kind ?? "anonymous");
  const text = JSON.stringify(body);
  const requestHmacs = secrets.map((secret) =>
    createHmac("sha256", secret).update("POST /v1/users\0").update(text).digest(),
  );
  return { scope: `POST /v1/users ${caller}`, key, requestHmacs };
}

function asProblem(error: unknown): unknown {
  if (error instanceof TakenError) {
    return conflict(error.fields.map((path) => ({ path, message: "is taken" })));
  }
  if (error instanceof KeyReusedError) {
    const message = "was used for another request";
    return unprocessable("the idempotency key was used for another request", [{ path: "Idempotency-Key", message }]);
  }
  return error;
}
