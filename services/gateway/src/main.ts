import { loadConfig, loadKeyring, runProcess } from "@quartet/service";
import { createGateway } from "./app.ts";
import { gatewayConfig } from "./config.ts";

const config = loadConfig(gatewayConfig);
const keyring = loadKeyring("gateway", config);

await runProcess({
  name: "gateway",
  config,
  start: async ({ logger }) => {
    const gateway = await createGateway(config, keyring, logger);
    // Those who watch the console would otherwise hold up a stop until its grace runs out.
    for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, gateway.endStreams);
    // It owns no store. A service that is down is a 503 on that service's paths and no reason to take the others away from everybody.
    return { app: gateway.app, ready: () => {}, close: gateway.close };
  },
});
