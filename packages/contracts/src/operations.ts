import { z } from "zod";
import * as admin from "./http/admin.ts";
import * as analytics from "./http/analytics.ts";
import { documentAs } from "./http/fields.ts";
import * as search from "./http/search.ts";
import * as sessions from "./http/sessions.ts";
import * as users from "./http/users.ts";

type Method = "get" | "post" | "patch" | "delete";
/** `person`: the operator, who is nobody, cannot take a person's place. */
type Auth = "none" | "optional" | "user" | "person" | "operator";

/** What must hold between fields, and what no schema can say of one. */
export interface Rule {
  /** The parameters and fields it is about. Whoever breaks it is refused, and a 400 names them. */
  fields: string[];
  rule: string;
}

/** One route of the public HTTP API. */
export interface Operation {
  method: Method;
  path: string;
  tag: string;
  summary: string;
  auth: Auth;
  body?: z.ZodType;
  /** The parameters of the path by name; an `id` is a UUID if nothing is said. */
  params?: Record<string, z.ZodType>;
  query?: z.ZodObject;
  headers?: string[];
  status: number;
  response?: z.ZodType;
  responseHeaders?: string[];
  /** Problem statuses beyond those that every operation has, 401 where a token is looked at. */
  problems?: number[];
  rules?: Rule[];
}

const seq = documentAs(z.string().regex(/^[1-9][0-9]{0,14}$/, "must be a sequence number"), {
  type: "integer",
  minimum: 1,
  maximum: 999_999_999_999_999,
});
const erasureId = z.string().regex(/^[A-Za-z0-9_-]{43}$/);

const range: Rule = {
  fields: ["from", "to"],
  rule: "`from` is before `to`. Without `to` it is now, without `from` 30 days before `to`, and neither is before 1970.",
};
const points = (interval: string): Rule => ({
  fields: [interval, "from", "to"],
  rule: `From \`from\` to \`to\` there are at most ${analytics.MAX_POINTS} points at this \`${interval}\`.`,
});
const subject: Rule = {
  fields: ["userId"],
  rule: "With the operator's token `userId` is needed, 403 without it; with a person's own it does not matter whose id it is.",
};

const derived = ["Quartet-As-Of", "Preference-Applied", "Quartet-Freshness"];
const waits = ["Consistency-Token", "Prefer"];

/** Every public operation: the gateway's routes, the browsable page and the document come from this one table. */
export const operations: Operation[] = [
  {
    method: "post",
    path: "/v1/users",
    tag: "Users",
    summary: "Sign up",
    auth: "none",
    body: users.signUpBody,
    headers: ["Idempotency-Key"],
    status: 201,
    response: users.userBody,
    responseHeaders: ["Location", "ETag", "Consistency-Token"],
    problems: [409, 422],
    rules: [
      {
        fields: ["Idempotency-Key"],
        rule: "An `Idempotency-Key` belongs to one body: with another one the answer is 422.",
      },
    ],
  },
  {
    method: "get",
    path: "/v1/users/{id}",
    tag: "Users",
    summary: "A user; with the email for the user's own token",
    auth: "optional",
    headers: ["If-None-Match"],
    status: 200,
    response: users.userBody,
    responseHeaders: ["ETag"],
    problems: [304, 404],
  },
  {
    method: "patch",
    path: "/v1/users/{id}",
    tag: "Users",
    summary: "Change a user; a changed password ends the other sessions",
    auth: "user",
    body: users.patchUserBody,
    headers: ["If-Match"],
    status: 200,
    response: users.userBody,
    responseHeaders: ["ETag", "Consistency-Token"],
    problems: [403, 404, 409, 412],
  },
  {
    method: "delete",
    path: "/v1/users/{id}",
    tag: "Users",
    summary: "Erase a person from every store",
    auth: "user",
    status: 202,
    response: users.erasureAccepted,
    responseHeaders: ["Location", "Consistency-Token"],
    problems: [403, 404],
  },
  {
    method: "get",
    path: "/v1/erasures/{id}",
    params: { id: erasureId },
    tag: "Users",
    summary: "The receipts of an erasure",
    auth: "none",
    status: 200,
    response: users.erasureBody,
    problems: [404],
  },
  {
    method: "post",
    path: "/v1/sessions",
    tag: "Sessions",
    summary: "Log in",
    auth: "none",
    body: sessions.logInBody,
    status: 201,
    response: sessions.loggedIn,
    responseHeaders: ["Consistency-Token"],
    problems: [401, 429],
  },
  {
    method: "get",
    path: "/v1/sessions",
    tag: "Sessions",
    summary: "My sessions; with the operator's token those of `userId`",
    auth: "user",
    query: sessions.sessionsQueryOfOperator,
    headers: waits,
    status: 200,
    response: sessions.sessionList,
    responseHeaders: derived,
    problems: [403],
    rules: [subject],
  },
  {
    method: "delete",
    path: "/v1/sessions",
    tag: "Sessions",
    summary: "End all my sessions; with the operator's token those of `userId`",
    auth: "user",
    query: sessions.sessionsQueryOfOperator,
    status: 204,
    responseHeaders: ["Consistency-Token"],
    problems: [403],
    rules: [subject],
  },
  {
    method: "get",
    path: "/v1/sessions/current",
    tag: "Sessions",
    auth: "person",
    status: 200,
    summary: "The session of this token and its user, from the local copy",
    headers: waits,
    response: sessions.currentSession,
    responseHeaders: derived,
    problems: [403],
  },
  {
    method: "delete",
    path: "/v1/sessions/current",
    tag: "Sessions",
    summary: "Log out",
    auth: "person",
    status: 204,
    responseHeaders: ["Consistency-Token"],
    problems: [403],
  },
  {
    method: "delete",
    path: "/v1/sessions/{id}",
    tag: "Sessions",
    summary: "End one of my sessions",
    auth: "user",
    status: 204,
    responseHeaders: ["Consistency-Token"],
    problems: [404],
  },
  {
    method: "get",
    path: "/v1/search",
    tag: "Search",
    summary: "Find people",
    auth: "none",
    query: search.searchQuery,
    headers: waits,
    status: 200,
    response: search.searchBody,
    responseHeaders: derived,
    rules: [
      {
        fields: ["cursor", "q"],
        rule: "`cursor` is as `nextCursor` of an answer had it, not yet expired, and `q`, `country` and `tag` are as they were there.",
      },
    ],
  },
  {
    method: "get",
    path: "/v1/search/suggest",
    tag: "Search",
    summary: "Type-ahead",
    auth: "none",
    query: search.suggestQuery,
    headers: waits,
    status: 200,
    response: search.suggestBody,
    responseHeaders: derived,
  },
  {
    method: "post",
    path: "/v1/track",
    tag: "Analytics",
    summary: "Record what happened; an id counts once",
    auth: "optional",
    body: analytics.trackBody,
    status: 202,
    response: analytics.tracked,
    responseHeaders: ["Consistency-Token"],
    problems: [403],
  },
  ...(
    [
      ["signups", "Sign-ups over time", analytics.signupsQuery, analytics.seriesBody, "interval"],
      ["events", "Events of a name over time", analytics.eventsQuery, analytics.seriesBody, "interval"],
      [
        "active-users",
        "Distinct users with a session or a tracked event",
        analytics.activeUsersQuery,
        analytics.activeUsersBody,
        "interval",
      ],
      [
        "sessions",
        "Sessions started and ended, and how long they were",
        analytics.sessionsQuery,
        analytics.sessionsStatsBody,
      ],
      ["retention", "Cohorts by first activity", analytics.retentionQuery, analytics.retentionBody, "cohort"],
      ["funnel", "How far people came, in order, within a window", analytics.funnelQuery, analytics.funnelBody],
      ["top", "The most frequent values of a property", analytics.topQuery, analytics.topBody],
    ] as const
  ).map(
    ([name, summary, query, response, interval]): Operation => ({
      method: "get",
      path: `/v1/analytics/${name}`,
      tag: "Analytics",
      summary,
      // What is made of values that somebody sent is for the operator; the others are numbers.
      auth: name === "top" ? "operator" : "none",
      query,
      headers: waits,
      status: 200,
      response,
      responseHeaders: derived,
      ...(name === "top" ? { problems: [403] } : {}),
      rules: interval ? [range, points(interval)] : [range],
    }),
  ),
  {
    method: "get",
    path: "/v1/people/{id}",
    tag: "Across services",
    auth: "optional",
    status: 200,
    summary: "One person, composed of what each service knows",
    headers: waits,
    response: admin.personBody,
    responseHeaders: derived,
    problems: [404],
  },
  {
    method: "get",
    path: "/v1/admin/status",
    tag: "Operator",
    summary: "Stores, streams, projectors, relays, audit",
    auth: "operator",
    status: 200,
    response: admin.statusBody,
    problems: [403],
  },
  {
    method: "post",
    path: "/v1/admin/import",
    tag: "Operator",
    summary: "Bulk import; idempotent",
    auth: "operator",
    body: admin.importBody,
    status: 200,
    response: admin.importedBody,
    responseHeaders: ["Consistency-Token"],
    problems: [403],
    rules: [
      {
        fields: ["events.*.userKey", "users"],
        rule: "`userKey` is the `key` of one of `users`, or of a person of an earlier import.",
      },
    ],
  },
  {
    method: "get",
    path: "/v1/admin/dead",
    tag: "Operator",
    summary: "Dead letters",
    auth: "operator",
    query: admin.deadLettersQuery,
    status: 200,
    response: admin.deadLetterList,
    problems: [403],
  },
  {
    method: "get",
    path: "/v1/admin/dead/{seq}",
    params: { seq },
    tag: "Operator",
    summary: "A dead letter",
    auth: "operator",
    status: 200,
    response: admin.deadLetter,
    problems: [403, 404],
  },
  {
    method: "post",
    path: "/v1/admin/dead/{seq}/retry",
    params: { seq },
    tag: "Operator",
    summary: "Try a dead letter again",
    auth: "operator",
    status: 202,
    problems: [403, 404],
  },
  {
    method: "delete",
    path: "/v1/admin/dead/{seq}",
    params: { seq },
    tag: "Operator",
    summary: "Drop a dead letter",
    auth: "operator",
    status: 204,
    problems: [403, 404],
  },
  {
    method: "get",
    path: "/v1/admin/rebuilds",
    tag: "Operator",
    summary: "How far the rebuild of each derived store is, or the last one",
    auth: "operator",
    status: 200,
    response: admin.rebuildList,
    problems: [403],
  },
  {
    method: "post",
    path: "/v1/admin/rebuilds",
    tag: "Operator",
    summary: "Fill a derived store anew from the log while it serves; one at a time",
    auth: "operator",
    body: admin.rebuildBody,
    status: 202,
    response: admin.rebuildState,
    responseHeaders: ["Location"],
    problems: [403, 409],
  },
  {
    method: "get",
    path: "/v1/admin/rebuilds/{store}",
    params: { store: admin.rebuildable },
    tag: "Operator",
    summary: "How far the rebuild of a derived store is",
    auth: "operator",
    status: 200,
    response: admin.rebuildState,
    problems: [403, 404],
  },
  {
    method: "get",
    path: "/v1/admin/audits",
    tag: "Operator",
    summary: "What the last audit of each derived store found",
    auth: "operator",
    status: 200,
    response: admin.auditList,
    problems: [403],
  },
  {
    method: "post",
    path: "/v1/admin/audits",
    tag: "Operator",
    summary: "Compare all derived stores now",
    auth: "operator",
    status: 202,
    response: admin.auditRequested,
    problems: [403],
  },
];
