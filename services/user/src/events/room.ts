import { STREAMS } from "@quartet/contracts";
import type { Broker } from "@quartet/projection";
import type { Logger, Metrics, Peer } from "@quartet/service";

const { name } = STREAMS.FACTS;

/**
 * Parts of FACTS's limit: from the first on room is made, down to the second. Below the alert (80 %), which so tells of what making room does not help
 * against, and far below where tracked events are refused (90 %). Not much at a time: what FACTS still has, Analytics can be mended and filled from.
 */
const BEGIN = 0.75;
const END = 0.7;
/** So often in one go is looked at what a purge has brought. */
const MOST_STEPS = 50;

/**
 * When FACTS is short of room, purges the oldest of it, as far as Analytics has applied and sealed it: its ledger then vouches for the rows, and a rebuild
 * copies them. Rejects if there is none of that, or if somebody does not answer; call it again and again.
 */
export async function makeRoom({
  broker,
  analytics,
  logger,
  metrics,
}: {
  broker: Broker;
  analytics: Peer;
  logger: Logger;
  metrics: Metrics;
}): Promise<void> {
  const jsm = await broker.require().jetstreamManager({ checkAPI: false, timeout: 3000 });
  const look = async () => {
    const { config, created, state } = await jsm.streams.info(name);
    return { ...state, created: String(created), used: config.max_bytes > 0 ? state.bytes / config.max_bytes : 0 };
  };
  const purgedEarly = metrics.counter("quartet_stream_purged_total");
  purgedEarly.inc({ stream: name }, 0);
  const before = await look();
  if (before.used < BEGIN) return;
  const sealed = await askSealed(analytics);
  // Sequences of another incarnation say nothing of this one.
  const upto = Date.parse(sealed.stream) === Date.parse(before.created) ? sealed.upto : 0;
  let messages = 0;
  let now = before;
  for (let step = 0; step < MOST_STEPS && now.used > END && now.first_seq <= upto; step++) {
    // Messages differ in size, and of some sequences nothing is left: the next look says what is still too much.
    const part = Math.ceil((1 - END / now.used) * (now.last_seq - now.first_seq + 1));
    const { purged } = await jsm.streams.purge(name, { seq: Math.min(now.first_seq + part, upto + 1) });
    purgedEarly.inc({ stream: name }, purged);
    messages += purged;
    now = await look();
  }
  const percent = (used: number) => Math.round(used * 100);
  if (messages > 0) {
    logger.info(
      {
        stream: name,
        messages,
        upto: now.first_seq - 1,
        percentBefore: percent(before.used),
        percent: percent(now.used),
      },
      "made room: purged what Analytics has applied and sealed",
    );
  }
  if (now.used >= BEGIN) {
    throw new Error(`${name} is ${percent(now.used)} % full, and Analytics has applied and sealed only up to ${upto}`);
  }
}

async function askSealed(analytics: Peer): Promise<{ stream: string; upto: number }> {
  const { status, body } = await analytics.request("POST", "/internal/sealed", { idempotent: true, timeoutMs: 5000 });
  if (status !== 200) throw new Error(`analytics answered ${status} to what it has sealed`);
  return body as { stream: string; upto: number };
}
