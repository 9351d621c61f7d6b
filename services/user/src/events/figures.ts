import { STREAMS } from "@quartet/contracts";
import type { Broker } from "@quartet/projection";
import { type Metrics, observeStore } from "@quartet/service";
import type { StreamInfo } from "nats";

const TIMEOUT_MS = 800;

/** The figures of the three streams, asked of JetStream at every scrape by the service that owns them. */
export function observeStreams(metrics: Metrics, broker: Broker): void {
  let infos: StreamInfo[] = [];
  const looked = observeStore(metrics, "nats", async () => {
    const jsm = await broker.require().jetstreamManager({ checkAPI: false, timeout: TIMEOUT_MS });
    infos = await Promise.all(Object.keys(STREAMS).map((name) => jsm.streams.info(name)));
    return { size: infos.reduce((sum, info) => sum + info.state.bytes, 0) };
  });
  const figure = (
    name: "messages" | "bytes" | "limit_bytes" | "last_sequence" | "consumers",
    read: (i: StreamInfo) => number,
  ) =>
    metrics.gauge(`quartet_stream_${name}`, async (gauge) => {
      await looked();
      for (const info of infos) gauge.set({ stream: info.config.name }, read(info));
    });
  figure("messages", (i) => i.state.messages);
  figure("bytes", (i) => i.state.bytes);
  figure("limit_bytes", (i) => i.config.max_bytes);
  figure("last_sequence", (i) => i.state.last_seq);
  figure("consumers", (i) => i.state.consumer_count);
}
