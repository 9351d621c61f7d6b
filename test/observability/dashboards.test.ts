import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { findPrometheus } from "./prometheus.ts";
import { chart, dashboardQueries, selectors } from "./sources.ts";

const tools = findPrometheus();

type Json = any;
const folder = join(chart, "files/dashboards");
const boards: [string, Json][] = readdirSync(folder).map((file) => [
  file,
  JSON.parse(readFileSync(join(folder, file), "utf8")),
]);
/** Panels that are open when the dashboard is, and those of folded rows. */
const open = (board: Json): Json[] => board.panels.filter((p: Json) => p.type !== "row");
const panels = (board: Json): Json[] => [...open(board), ...board.panels.flatMap((p: Json) => p.panels ?? [])];

describe.each(boards)("%s", (_file, board) => {
  it("can be narrowed to a namespace and to pods, and every query is", () => {
    const names = board.templating.list.map((v: Json) => v.name);
    expect(names).toEqual(expect.arrayContaining(["datasource", "namespace", "pod", "traces"]));
    const queries = [...panels(board).flatMap((p) => p.targets), ...board.annotations.list];
    for (const { expr } of queries) {
      const found = selectors(expr);
      expect(found.length, expr).toBeGreaterThan(0);
      for (const { selector } of found) expect(selector, expr).toContain('namespace=~"$namespace"');
    }
  });

  it("is not mistaken for another system's processes", () => {
    for (const { expr } of [...panels(board).flatMap((p) => p.targets), ...board.annotations.list]) {
      expect(expr).not.toMatch(/\bjob\b|\binstance\b/);
      for (const { name, selector } of selectors(expr))
        if (!name.startsWith("quartet")) expect(selector, expr).toContain('part_of="quartet"');
    }
    for (const panel of panels(board))
      for (const { legendFormat } of panel.targets) expect(legendFormat).not.toMatch(/instance|job/);
  });

  it("shows in a number what is now, and no number where nothing is known", () => {
    for (const panel of panels(board).filter((p) => p.type === "stat")) {
      for (const target of panel.targets) {
        expect(target, panel.title).toMatchObject({ instant: true });
        expect(target.range ?? false, panel.title).toBe(false);
        expect(target.expr, panel.title).not.toMatch(/vector\(|absent/);
      }
      expect(panel.fieldConfig.defaults.noValue).toBe("no data");
    }
  });

  it("has one unit on an axis, and no line that is only a limit", () => {
    for (const panel of panels(board).filter((p) => p.type === "timeseries")) {
      const rates = panel.targets.map((t: Json) => /\brate\(/.test(t.expr) && !/histogram_quantile/.test(t.expr));
      // A rate and a state of 0 and 1 have no axis in common.
      if (new Set(rates).size > 1) expect.soft([panel.title, rates]).toEqual([panel.title, "one kind"]);
      for (const { expr } of panel.targets) expect(expr, panel.title).not.toMatch(/^vector\(/);
    }
  });

  it("opens with a dozen panels or so; its links are beside its title", () => {
    expect(open(board).length).toBeLessThanOrEqual(14);
    for (const link of [...board.links, ...board.annotations.list]) expect(link).not.toHaveProperty("placement");
  });
});

it("a panel of requests leads to the traces of its service", () => {
  const [, user] = boards.find(([file]) => file === "user.json")!;
  const links = panels(user).flatMap((p) => p.links ?? []);
  expect(links.length).toBeGreaterThan(1);
  for (const { url } of links) {
    const panes = JSON.parse(decodeURIComponent(new URL(url, "http://grafana").searchParams.get("panes")!));
    expect(panes.t.queries[0]).toMatchObject({ queryType: "traceql", query: expect.stringContaining('"user"') });
    // biome-ignore lint/suspicious/noTemplateCurlyInString: Grafana fills it in
    expect(panes.t.datasource).toBe("${traces}");
  }
});

describe.skipIf(!tools)("marks", () => {
  /** What happens, in figures that begin at 0 and are there every 15 s; the mark's time in it, and a time at which all is well. */
  const STORY: Record<string, { series: Record<string, string>; at: string; well: string; labels: string[] }> = {
    "Store down": {
      series: {
        'quartet_store_up{store="redis", pod="a"}': "1x20 0x20 1x40",
        'quartet_store_up{store="nats", pod="a"}': "0x80",
        'quartet_store_up{store="nats", pod="b"}': "1x80",
      },
      at: "7m",
      well: "3m",
      labels: ['store="redis"'],
    },
    "Process started": {
      // One that goes on, one that replaces it, and one of another system.
      series: {
        'process_start_time_seconds{part_of="quartet", service="user", pod="old"}': "0x80",
        'process_start_time_seconds{part_of="quartet", service="user", pod="new"}': "_x20 300x60",
        'process_start_time_seconds{service="other", pod="new"}': "_x20 300x60",
      },
      at: "5m20s",
      well: "8m",
      labels: ['pod="new", service="user"'],
    },
    "Process away": {
      series: {
        'up{part_of="quartet", service="user", pod="a"}': "1x20 0x20 1x40",
        'up{service="other", pod="b"}': "0x80",
      },
      at: "7m",
      well: "3m",
      labels: ['pod="a", service="user"'],
    },
    "Relay stopped": {
      series: {
        'quartet_outbox_relay_active{source="user", pod="a"}': "1x20 0x20 1x40",
        'quartet_outbox_relay_active{source="session", pod="a"}': "0x80",
        'quartet_outbox_relay_active{source="session", pod="b"}': "1x80",
      },
      at: "7m",
      well: "3m",
      labels: ['source="user"'],
    },
  };
  const { marks } = dashboardQueries();

  it("are these, on every dashboard", () => {
    expect([...new Set(marks.map((mark) => mark.panel))].sort()).toEqual(Object.keys(STORY).sort());
    for (const name of Object.keys(STORY))
      expect(marks.filter((mark) => mark.panel === name)).toHaveLength(boards.length);
  });

  it.each(Object.entries(STORY))("%s is drawn when it happens, where Grafana draws values above 0", (name, story) => {
    const exprs = [...new Set(marks.filter((mark) => mark.panel === name).map((mark) => mark.expr))];
    expect(exprs).toHaveLength(1);
    const drawn = `sgn(${exprs[0]})`;
    const test = {
      interval: "15s",
      input_series: Object.entries(story.series).map(([series, values]) => ({ series, values })),
      promql_expr_test: [
        {
          expr: drawn,
          eval_time: story.at,
          exp_samples: story.labels.map((labels) => ({ labels: `{${labels}}`, value: 1 })),
        },
        { expr: drawn, eval_time: story.well, exp_samples: [] },
      ],
    };
    const scratch = mkdtempSync(join(tmpdir(), "quartet-marks-"));
    try {
      const file = join(scratch, "marks.test.yaml");
      writeFileSync(file, JSON.stringify({ rule_files: [], evaluation_interval: "15s", tests: [test] }));
      execFileSync(tools!.promtool, ["test", "rules", file], { stdio: "pipe", encoding: "utf8" });
    } finally {
      rmSync(scratch, { recursive: true, force: true });
    }
  });
});
