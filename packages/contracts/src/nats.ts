import { rebuildConsumer, subjects } from "./streams.ts";

/**
 * What each service may say and hear on NATS. The local engines and the `nats` chart are both written from this one table, and
 * a test tries to cross it. The right to purge belongs to the owner of the streams, the user service: for erasures, and for room on FACTS.
 */
export interface NatsUser {
  name: string;
  permissions: { publish: { allow: string[] }; subscribe: { allow: string[] } };
}

const API = "$JS.API";

function inbox(name: string): string {
  return `_INBOX_${name}.>`;
}

/** Rights of a projector on its own durable consumer of one stream. */
function consume(stream: string, durable: string): string[] {
  return [
    `${API}.STREAM.INFO.${stream}`,
    `${API}.CONSUMER.CREATE.${stream}.${durable}`,
    `${API}.CONSUMER.CREATE.${stream}.${durable}.>`,
    `${API}.CONSUMER.DURABLE.CREATE.${stream}.${durable}`,
    `${API}.CONSUMER.INFO.${stream}.${durable}`,
    `${API}.CONSUMER.DELETE.${stream}.${durable}`,
    `${API}.CONSUMER.MSG.NEXT.${stream}.${durable}`,
    `${API}.STREAM.MSG.GET.${stream}`,
    `${API}.DIRECT.GET.${stream}`,
    `${API}.DIRECT.GET.${stream}.>`,
    `$JS.ACK.${stream}.${durable}.>`,
    `$JS.FC.${stream}.${durable}.>`,
    `dead.${durable}.*`,
    `${API}.STREAM.INFO.DEAD`,
  ];
}

/** Rights of a publisher that checks what a stream holds. */
function inspect(stream: string): string[] {
  return [
    `${API}.STREAM.INFO.${stream}`,
    `${API}.STREAM.MSG.GET.${stream}`,
    `${API}.DIRECT.GET.${stream}`,
    `${API}.DIRECT.GET.${stream}.>`,
  ];
}

/** The NATS users, by service name. Passwords are the deployment's. */
export function natsUsers(): NatsUser[] {
  const user = (name: string, publish: string[]): NatsUser => ({
    name,
    permissions: {
      publish: { allow: [...new Set([`${API}.INFO`, subjects.activity(name), ...publish])] },
      subscribe: { allow: [inbox(name), subjects.activity(name)] },
    },
  });
  const streams = ["USERS", "FACTS", "DEAD"];
  return [
    user("user", [
      "users.*",
      "facts.user.*.*",
      "heartbeat.users.user",
      "heartbeat.facts.user",
      ...streams.flatMap((s) => [
        ...inspect(s),
        `${API}.STREAM.CREATE.${s}`,
        `${API}.STREAM.UPDATE.${s}`,
        `${API}.STREAM.PURGE.${s}`,
        `${API}.STREAM.MSG.DELETE.${s}`,
      ]),
      // A dead letter that is retried goes back to where it came from.
      "facts.*.*.*",
    ]),
    user("session", [
      "facts.session.*.*",
      "heartbeat.facts.session",
      ...inspect("FACTS"),
      ...consume("USERS", "session"),
      ...consume("USERS", rebuildConsumer("session")),
    ]),
    user("analytics", [
      "facts.track.*.*",
      ...inspect("FACTS"),
      ...consume("FACTS", "analytics"),
      ...consume("FACTS", rebuildConsumer("analytics")),
    ]),
    user("search", [...consume("USERS", "search"), ...consume("USERS", rebuildConsumer("search"))]),
  ];
}

/** Inbox prefix of a service, so that no service can listen to another's answers. */
export function inboxPrefix(service: string): string {
  return `_INBOX_${service}`;
}

/** The `authorization` part of a nats-server configuration; passwords come from the environment as `NATS_PASSWORD_<USER>`. */
export function natsUsersConf(): string {
  const list = (subjects: string[]) => subjects.map((s) => JSON.stringify(s)).join(", ");
  const users = natsUsers().map(
    ({ name, permissions }) =>
      `    { user: ${name}, password: $NATS_PASSWORD_${name.toUpperCase()}, permissions: {\n` +
      `      publish: { allow: [${list(permissions.publish.allow)}] }\n` +
      `      subscribe: { allow: [${list(permissions.subscribe.allow)}] }\n    } }\n`,
  );
  return `authorization {\n  users: [\n    { user: admin, password: $NATS_PASSWORD_ADMIN }\n${users.join("")}  ]\n}\n`;
}
