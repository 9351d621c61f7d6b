/**
 * The import rules of docs/architecture.md. `npm run lint:imports` checks them, packages/cli/test/imports.test.ts plants a violation of each.
 * A package is resolved to its link below node_modules, so that a rule tells an import by name from a path into another folder,
 * and what a workspace declares from what it only finds there. What the parser cannot see, imports.grit forbids.
 */

/** Where the libraries of these names are, hoisted or not. */
const library = (...names) => `(?:^|/)node_modules/(?:${names.join("|")})/`;
const ours = (...names) => library(...names.map((name) => `@quartet/${name}`));

const DATABASE_CLIENTS = ["pg", "ioredis", "@clickhouse/client", "@elastic/elasticsearch"];

/** What a package's sources may import of our packages and, where that is limited, of libraries. */
const PACKAGES = {
  contracts: { packages: [], libraries: ["zod"] },
  service: { packages: ["contracts"] },
  outbox: { packages: [], libraries: ["nats", "pg", "ioredis"] },
  projection: { packages: [], libraries: ["nats"] },
  engines: { packages: ["contracts"] },
  cli: { packages: ["contracts", "engines"] },
};

/** What the folders beside packages and services may reach by a path; packages are imported by their name. */
const FOLDERS = [
  { folder: "bench", may: ["services", "test/lib"] },
  { folder: "chaos", may: [] },
  { folder: "charts", may: [] },
  { folder: "k8s", may: [] },
  { folder: "test", except: "test/long", may: ["chaos", "k8s"] },
  // At a size that only a long run reaches, a store is tested without its service.
  { folder: "test/long", may: ["chaos", "services", "test"] },
];

/** What a process runs: not the helpers for tests, and not the lint of patterns. */
const RUNTIME = {
  path: "^(packages|services)/[^/]+/src/",
  pathNot: "/src/testing[.]ts$|^packages/cli/src/patterns[.]ts$",
};

/** @type {import("dependency-cruiser").IForbiddenRuleType[]} */
const forbidden = [
  {
    name: "no-circle",
    comment: "Files that import each other can only be understood and lifted together: move what both need to a third.",
    from: {},
    to: { circular: true },
  },
  { name: "resolvable", comment: "The file or package is not there.", from: {}, to: { couldNotResolve: true } },
  {
    name: "declared",
    comment: "The nearest package.json names every package that is imported: npm install -w WORKSPACE NAME.",
    from: {},
    to: { dependencyTypes: ["npm-no-pkg", "npm-unknown"] },
  },
  {
    name: "declared-for-runtime",
    comment: "An image is installed without devDependencies: sources need theirs in dependencies.",
    from: RUNTIME,
    to: { dependencyTypes: ["npm-dev"] },
  },
  {
    name: "package-by-name",
    comment:
      "A path may not lead into a package: import it by its name, and what it does not export is not for others.",
    from: { path: "^([^/]+/?[^/]*)" },
    to: { path: "^packages/", pathNot: "^$1/" },
  },
  {
    name: "service-alone",
    comment: "Nobody imports a service: others call it, or read what it publishes.",
    from: { path: "^((?:packages|services)/[^/]+)/" },
    to: { path: ["^services/", ours("[^/]+-service")], pathNot: "^$1/" },
  },
  {
    name: "product-alone",
    comment: "What is shipped imports nothing of the folders that try, measure or install it.",
    from: { path: "^(packages|services)/" },
    to: { path: "^(bench|chaos|charts|k8s|test)/" },
  },
  {
    name: "only-store-has-the-database",
    comment: "In a service only store/ imports a database client.",
    from: { path: "^services/[^/]+/src/", pathNot: "^services/[^/]+/src/store/" },
    to: { path: library(...DATABASE_CLIENTS) },
  },
  {
    name: "only-events-has-the-streams",
    comment: "In a service only events/ imports NATS, outbox or projection.",
    from: { path: "^services/[^/]+/src/", pathNot: "^services/[^/]+/src/events/" },
    to: { path: [library("nats"), ours("outbox", "projection")] },
  },
  {
    name: "service-without-tools",
    comment: "A service runs without what belongs to a developer's machine.",
    from: { path: "^services/[^/]+/src/" },
    to: { path: ours("[^/]+"), pathNot: ours("contracts", "service", "outbox", "projection", "[^/]+-service") },
  },
  {
    name: "no-test-helpers",
    comment: "Helpers for tests are for tests; the engines are one as a whole.",
    from: { ...RUNTIME, path: "^(?!packages/engines/)(packages|services)/[^/]+/src/" },
    to: { path: "/src/testing[.]ts$|/test/" },
  },
  {
    name: "no-test-file",
    comment: "Whoever imports a test file runs its tests again.",
    from: {},
    to: { path: "[.]test[.]ts$" },
  },
  ...Object.entries(PACKAGES).map(([name, { packages, libraries }]) => ({
    name: `package-${name}`,
    comment: `packages/${name} may import ${[...packages, ...(libraries ?? ["any library"])].join(", ")}.`,
    from: { ...RUNTIME, path: `^packages/${name}/src/` },
    to: {
      path: libraries ? "(?:^|/)node_modules/" : ours("[^/]+"),
      pathNot: [ours(...packages, name), library(...(libraries ?? []))],
    },
  })),
  {
    name: "package-unlisted",
    comment: "A new package says in .dependency-cruiser.mjs which of ours it may import.",
    from: { path: "^packages/", pathNot: `^packages/(${Object.keys(PACKAGES).join("|")})/` },
    to: { path: ours("[^/]+") },
  },
  ...FOLDERS.map(({ folder, except, may }) => ({
    name: `folder-${folder.replace("/", "-")}`,
    comment: `${folder} may reach ${["itself", ...may].join(", ")} by a path.`,
    from: { path: `^${folder}/`, ...(except && { pathNot: `^${except}/` }) },
    to: { path: "^(bench|chaos|charts|k8s|services|test)/", pathNot: `^(${[folder, ...may].join("|")})/` },
  })),
];

export default {
  forbidden: forbidden.map((rule) => ({ severity: "error", ...rule })),
  options: {
    // It sees type imports as well.
    parser: "swc",
    preserveSymlinks: true,
    doNotFollow: { path: "node_modules" },
    // Folders like .quartet; not "./missing.ts", which is how a file that is not there is told.
    exclude: { path: "^[.][^./]" },
    enhancedResolveOptions: { exportsFields: ["exports"], conditionNames: ["import", "node", "default", "types"] },
  },
};
