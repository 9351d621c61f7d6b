import type { Kubectl } from "../inject/kubectl.ts";
import { CHART_OF } from "../inject/kubernetes.ts";
import { readStores, type Stores, type Transport } from "./stores.ts";

/** The stores of a cluster, by each engine's own client in its own pod. */
export function clusterStores(kubectl: Kubectl): Stores {
  const inside = async (store: keyof typeof CHART_OF, script: string): Promise<string> =>
    kubectl.exec(await kubectl.pod(`quartet/store=${CHART_OF[store]}`), script);
  /** As one word of the shell. */
  const word = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;
  const clickhouseClient = (statement: string): string =>
    `clickhouse-client --user "$CLICKHOUSE_USER" --password "$CLICKHOUSE_PASSWORD" --query ${word(statement)}`;
  const transport: Transport = {
    async sql(statement) {
      const asJson = `SELECT coalesce(json_agg(t), '[]') FROM (${statement}) t`;
      return JSON.parse(await inside("postgres", `psql -qAtX -U postgres -d quartet -c ${word(asJson)}`));
    },
    redis: (script) =>
      inside(
        "redis",
        `REDISCLI_AUTH="$ADMIN_PASSWORD" redis-cli --no-auth-warning --user admin --raw EVAL ${word(script)} 0`,
      ),
    async clickhouse(query) {
      return (await inside("clickhouse", clickhouseClient(`${query} FORMAT JSONEachRow`)))
        .split("\n")
        .flatMap((line) => (line ? [JSON.parse(line)] : []));
    },
    async clickhouseCommand(statement) {
      await inside("clickhouse", `${clickhouseClient(statement)} --mutations_sync 1`);
    },
    async elasticsearch(path, body, method = "POST") {
      const data = body ? `-H 'content-type: application/json' -d ${word(JSON.stringify(body))}` : "";
      const auth = `\${ADMIN_PASSWORD:+-u "admin:$ADMIN_PASSWORD"}`;
      return JSON.parse(
        await inside("elasticsearch", `curl -fsS ${auth} -X ${method} ${data} ${word(`http://127.0.0.1:9200${path}`)}`),
      );
    },
  };
  return { read: () => readStores(transport), ask: transport, close: async () => {} };
}
