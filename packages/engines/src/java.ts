import { existsSync, globSync, readFileSync, realpathSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";

/** What Elasticsearch 9 needs at least; and the one it was tried with, which is preferred. */
const MINIMUM = 21;
const PREFERRED = 25;

/** Major version of the JDK in that folder, or undefined if it is none (a JRE without its tools lacks modules that are needed). */
function jdkVersion(home: string): number | undefined {
  try {
    const version = /^JAVA_VERSION="(\d+)/m.exec(readFileSync(join(home, "release"), "utf8"))?.[1];
    return version && existsSync(join(home, "bin", "jlink")) ? Number(version) : undefined;
  } catch {
    return undefined;
  }
}

function onPath(): string[] {
  return (process.env.PATH ?? "").split(":").flatMap((folder) => {
    try {
      return [dirname(dirname(realpathSync(join(folder, "java"))))];
    } catch {
      return [];
    }
  });
}

/**
 * Home of a JDK that runs Elasticsearch: ES_JAVA_HOME or JAVA_HOME if fit, else the best of those installed in the usual places.
 * Undefined if there is none.
 */
export function findJdk(): string | undefined {
  const named = [process.env.ES_JAVA_HOME, process.env.JAVA_HOME].filter((home) => home !== undefined);
  for (const home of named) if ((jdkVersion(home) ?? 0) >= MINIMUM) return home;
  const installed = globSync([
    "/usr/lib/jvm/*",
    "/usr/java/*",
    "/opt/java/*",
    "/opt/jdk*",
    join(homedir(), ".sdkman/candidates/java/*"),
    join(homedir(), ".jdks/*"),
    "/Library/Java/JavaVirtualMachines/*/Contents/Home",
    "/opt/homebrew/opt/openjdk*/libexec/openjdk.jdk/Contents/Home",
  ]);
  const rank = (version: number) =>
    version === PREFERRED ? 0 : Math.abs(version - PREFERRED) + (version > PREFERRED ? 100 : 0);
  return [...onPath(), ...installed]
    .map((home) => ({ home, version: jdkVersion(home) ?? 0 }))
    .filter(({ version }) => version >= MINIMUM)
    .sort((a, b) => rank(a.version) - rank(b.version))[0]?.home;
}
