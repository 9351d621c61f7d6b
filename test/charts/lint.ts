/**
 * `npm run lint:charts`: every chart and profile as it renders, through the linters that are installed: helm lint, kubeconform, kube-linter, kube-score
 * and checkov (on PATH). Says which are missing; the exit status is 1 if one that ran found something. What they are told to leave alone, and
 * why, is in .kube-linter.yaml, .checkov.yaml and below.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { charts, findHelm, whyNoHelm } from "./helm.ts";

const root = join(charts, "..");
const SERVICES = ["user", "session", "analytics", "search"];
const NAMES = readdirSync(charts).filter((name) => name !== "common" && existsSync(join(charts, name, "Chart.yaml")));

/** The same as in the two files, for the linter that takes arguments only; one replica of what another takes over is no finding. */
const KUBE_SCORE = [
  "--ignore-container-cpu-limit",
  ...["container-image-pull-policy", "container-security-context-user-group-id", "deployment-replicas"].flatMap(
    (name) => ["--ignore-test", name],
  ),
];

/** File name to arguments of `helm template`. */
const RENDERED: [name: string, chart: string, args: string[]][] = [
  ...NAMES.map((chart): [string, string, string[]] => [chart, chart, []]),
  ...SERVICES.map((chart): [string, string, string[]] => [
    `${chart}-external`,
    chart,
    ["--set", "store.mode=external,store.external.existingSecret=given,caSecret=authority"],
  ]),
  ["quartet-light", "quartet", ["-f", join(charts, "quartet/values-light.yaml")]],
  ["quartet-ha", "quartet", ["-f", join(charts, "quartet/values-ha.yaml")]],
  ["quartet-backups", "quartet", ["--set", "user.backup.enabled=true,analytics.backup.enabled=true"]],
  [
    "gateway-edge",
    "gateway",
    [
      ...[
        "--set",
        "ingress.enabled=true,ingress.hosts={api.example.org},ingress.tlsSecret=tls,roles.api.hpa.enabled=true",
      ],
      ...["--set", "httpRoute.enabled=true,httpRoute.hosts={api.example.org},httpRoute.gateway.name=public"],
    ],
  ],
  [
    "observability-all",
    "observability",
    ["--set", "prometheus.enabled=true,grafana.enabled=true,serviceMonitor.enabled=true,prometheusRule.enabled=true"],
  ],
];

function run(program: string, args: string[]): { status: number | null; output: string } {
  const { status, stdout, stderr } = spawnSync(program, args, { cwd: root, encoding: "utf8", maxBuffer: 64e6 });
  return { status, output: `${stdout ?? ""}${stderr ?? ""}` };
}

const installed = (program: string) => spawnSync(program, ["--help"], { stdio: "ignore" }).error === undefined;

let failed = false;
function report(what: string, { status, output }: { status: number | null; output: string }): void {
  process.stdout.write(`${status === 0 ? "ok     " : "FAILED "} ${what}\n`);
  if (status === 0) return;
  failed = true;
  process.stdout.write(`${output.split("\n").slice(-60).join("\n")}\n`);
}

if (whyNoHelm) {
  process.stderr.write(`${whyNoHelm}\n`);
  process.exit(1);
}
const folder = mkdtempSync(join(tmpdir(), "quartet-charts-"));
try {
  const helm = findHelm();
  const files = RENDERED.map(([name, chart, args]) => {
    const file = join(folder, `${name}.yaml`);
    const command = ["template", chart, join(charts, chart), "--namespace", "quartet", "--kube-version", "1.34.0"];
    const { status, stdout, stderr } = spawnSync(helm, [...command, ...args], { encoding: "utf8", maxBuffer: 64e6 });
    if (status !== 0) report(`helm template ${name}`, { status, output: stderr });
    writeFileSync(file, stdout);
    return file;
  });
  report("helm lint", run(helm, ["lint", "--strict", "--quiet", ...NAMES.map((name) => join(charts, name))]));
  // KUBE_SCHEMAS: a template of where the schemas are, as kubeconform takes it; by default it looks them up online.
  const schemas = process.env.KUBE_SCHEMAS ? ["-schema-location", process.env.KUBE_SCHEMAS] : [];
  const linters: [program: string, args: string[]][] = [
    [
      "kubeconform",
      ["-strict", "-summary", "-ignore-missing-schemas", "-kubernetes-version", "1.34.0", ...schemas, folder],
    ],
    ["kube-linter", ["lint", "--config", ".kube-linter.yaml", folder]],
    ...files.map((file): [string, string[]] => [
      "kube-score",
      ["score", "--kubernetes-version", "v1.34", "-o", "ci", ...KUBE_SCORE, file],
    ]),
    ["checkov", ["--config-file", ".checkov.yaml", "-d", folder]],
  ];
  const missing = new Set(linters.map(([program]) => program).filter((program) => !installed(program)));
  for (const [program, args] of linters) {
    if (missing.has(program)) continue;
    const { status, output } = run(program, args);
    const findings = output.split("\n").filter((line) => !/^\[(OK|SKIPPED)\]/.test(line));
    report(program === "kube-score" ? `${program} ${basename(args.at(-1)!)}` : program, {
      status,
      output: findings.join("\n"),
    });
  }
  for (const program of missing) process.stdout.write(`missing ${program}\n`);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
if (failed) process.exitCode = 1;
