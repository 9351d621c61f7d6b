import {
  BodyBudget,
  canonicalAddress,
  createApi,
  finishApi,
  type Keyring,
  type Logger,
  metrics,
} from "@quartet/service";
import type { Express, Request } from "express";
import type { GatewayConfig } from "./config.ts";
import { consoleGuard, withConsole } from "./console/guard.ts";
import { addConsole } from "./console/routes.ts";
import { addAudits } from "./http/audit.ts";
import { authenticator, oncePerRequest, operatorCheck } from "./http/authenticate.ts";
import { addDeadLetters } from "./http/dead.ts";
import { addImport } from "./http/import.ts";
import { createLimits } from "./http/limits.ts";
import { addPages } from "./http/pages.ts";
import { createPeers, type GatewayContext } from "./http/peers.ts";
import { addPeople } from "./http/people.ts";
import { addProxy, admission, bodyLimit } from "./http/proxy.ts";
import { addRebuilds } from "./http/rebuild.ts";
import { securityHeaders } from "./http/security.ts";
import { addStatus } from "./http/status.ts";
import { createTokens } from "./http/tokens.ts";
import { createTurns } from "./http/turns.ts";
import { createWaits } from "./http/waits.ts";

/** The gateway as an express app, with the connections it holds. */
export async function createGateway(
  config: GatewayConfig,
  keyring: Keyring,
  logger: Logger,
): Promise<{ app: Express; endStreams: () => void; close: () => Promise<void> }> {
  const guard = consoleGuard(config);
  const byToken = operatorCheck(config.QUARTET_OPERATOR_TOKEN);
  const isOperator = (req: Request) => byToken(req) || (guard?.holds(req) ?? false);
  const clientOf = (req: Request) => (isOperator(req) ? undefined : canonicalAddress(req.ip));
  const answers = new BodyBudget(config.MAX_BUFFERED_ANSWER_BYTES);
  metrics.gauge("quartet_request_answers_bytes", (gauge) => gauge.set(answers.bytes));
  const peers = createPeers(config, keyring, { answers, clientOf });
  const authenticate = oncePerRequest(withConsole(authenticator(peers.introspection, byToken), guard));
  const context: GatewayContext = {
    peers,
    authenticate,
    isOperator,
    tokens: createTokens(keyring),
    waits: createWaits({ all: config.MAX_WAITING, each: config.MAX_WAITING_PER_CLIENT }),
    turns: createTurns(config.MAX_CONCURRENT_PER_CLIENT),
  };
  const app = createApi({
    name: "gateway",
    logger,
    bodyLimitBytes: bodyLimit,
    prepare: securityHeaders,
    admit: admission(authenticate, createLimits(config, isOperator)),
    bufferedBytes: config.MAX_BUFFERED_BYTES,
    clientOf,
  });
  app.set("trust proxy", config.TRUST_PROXY ?? false);
  await addPages(app);
  addProxy(app, context);
  addPeople(app, context);
  addStatus(app, context);
  addImport(app, context);
  addDeadLetters(app, context);
  addRebuilds(app, context);
  addAudits(app, context);
  const endStreams = addConsole(app, { config, peers, guard });
  const close = async (): Promise<void> => {
    await Promise.all(Object.values(peers).map((peer) => peer.close()));
  };
  return { app: finishApi(app, logger), endStreams, close };
}
