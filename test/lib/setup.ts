import { forget, launch } from "./launch.ts";

/** Starts one whole system for all system tests, unless QUARTET_URL names one that runs already. */
export default async function setup(): Promise<(() => Promise<void>) | undefined> {
  if (process.env.QUARTET_URL) return undefined;
  const system = await launch();
  process.env.QUARTET_URL = system.url;
  process.env.QUARTET_OPERATOR_TOKEN = system.operatorToken;
  process.env.QUARTET_TEST_HOME = system.home;
  return async () => {
    const code = await system.stop();
    if (code !== 0) throw new Error(`the launcher ended with ${code}:\n${system.output()}`);
    forget(system.home);
  };
}
