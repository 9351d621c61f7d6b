/** What all dashboards share: queries, panels and the frame. Every panel names what to read from it in its description. */
import {
  BigValueColorMode,
  type DataSourceRef,
  GraphDrawStyle,
  GraphThresholdsStyleConfigBuilder,
  GraphThresholdsStyleMode,
  LegendDisplayMode,
  LegendPlacement,
  SortOrder,
  StackingConfigBuilder,
  StackingMode,
  TooltipDisplayMode,
  VisibilityMode,
  VizLegendOptionsBuilder,
  VizTooltipOptionsBuilder,
} from "@grafana/grafana-foundation-sdk/common";
import {
  AdHocVariableBuilder,
  AnnotationQueryBuilder,
  DashboardBuilder,
  DashboardCursorSync,
  DashboardLinkBuilder,
  DashboardLinkType,
  DatasourceVariableBuilder,
  QueryVariableBuilder,
  RowBuilder,
  type Threshold,
  ThresholdsConfigBuilder,
  ThresholdsMode,
  VariableRefresh,
  VariableSort,
} from "@grafana/grafana-foundation-sdk/dashboard";
import { DataqueryBuilder } from "@grafana/grafana-foundation-sdk/prometheus";
import { PanelBuilder as StatBuilder } from "@grafana/grafana-foundation-sdk/stat";
import { PanelBuilder as StateBuilder } from "@grafana/grafana-foundation-sdk/statetimeline";
import { PanelBuilder as SeriesBuilder } from "@grafana/grafana-foundation-sdk/timeseries";

/** Any data source that speaks PromQL; Grafana offers those it has. */
// biome-ignore lint/suspicious/noTemplateCurlyInString: Grafana fills it in
const source: DataSourceRef = { type: "prometheus", uid: "${datasource}" };

/** The freshness objective: a read model is at most this old, in seconds, 99 % of the time. */
export const OBJECTIVE_SECONDS = 5;

/** The traces of a service in Grafana's Explore, of the time that is shown, from the data source that is chosen for them. */
export function traces(service: string, errors = false): { title: string; url: string } {
  const query = `{resource.service.name="${service}"${errors ? " && status=error" : ""}}`;
  const panes = {
    t: {
      datasource: "@traces",
      queries: [{ refId: "A", datasource: { type: "tempo", uid: "@traces" }, queryType: "traceql", query }],
      range: { from: "@__from", to: "@__to" },
    },
  };
  // biome-ignore lint/suspicious/noTemplateCurlyInString: Grafana fills it in
  const filled = encodeURIComponent(JSON.stringify(panes)).replaceAll(/%40(\w+)/g, "${$1}");
  return { title: `Traces of ${service}`, url: `/explore?schemaVersion=1&orgId=1&panes=${filled}` };
}

const NAMES: Record<string, string> = {
  postgres: "PostgreSQL",
  redis: "Redis",
  clickhouse: "ClickHouse",
  elasticsearch: "Elasticsearch",
  nats: "NATS",
};

/** What a store or a service is called in a title. */
export const nameOf = (part: string): string => NAMES[part] ?? part[0]!.toUpperCase() + part.slice(1);

/** Metrics of Quartet's processes: a query looks at those of the chosen namespace alone. */
const METRIC = /\b(quartet_\w+|quartet:[\w:]+|up|process_\w+|nodejs_\w+)\b(?:\{([^}]*)\})?/g;

/** The query within the chosen namespace. Where nothing has a namespace, none is chosen, and that fits. */
const scoped = (expr: string): string =>
  expr.replace(METRIC, (_, name: string, matchers?: string) =>
    [name, "{", matchers ? `${matchers}, ` : "", 'namespace=~"$namespace"}'].join(""),
  );

/** PromQL and the legend of its series (`{{label}}`). */
export type Query = [expr: string, legend: string];

export interface PanelOptions {
  unit?: string;
  /** Of 24 columns. */
  width?: number;
  height?: number;
  stack?: boolean;
  max?: number;
  decimals?: number;
  /** Green below the first, then orange, then red. */
  limits?: [orange: number, red: number];
  bars?: boolean;
  /** A dashed line that what is drawn should stay below. */
  objective?: number;
  /** Names of the lines beside what is drawn, for where there are many. */
  legendRight?: boolean;
  /** What a click on the panel offers. */
  links?: { title: string; url: string }[];
}

const query = ([expr, legend]: Query, index: number, instant: boolean) => {
  const built = new DataqueryBuilder()
    .refId(String.fromCharCode(65 + index))
    .expr(scoped(expr))
    .legendFormat(legend)
    .datasource(source);
  return instant ? built.instant() : built.range();
};

function thresholds(limits: [number, number]): ThresholdsConfigBuilder {
  const steps: Threshold[] = [
    { value: null, color: "green" },
    { value: limits[0], color: "orange" },
    { value: limits[1], color: "red" },
  ];
  return new ThresholdsConfigBuilder().mode(ThresholdsMode.Absolute).steps(steps);
}

interface Framed {
  title(title: string): this;
  description(text: string): this;
  datasource(ref: DataSourceRef): this;
  span(columns: number): this;
  height(rows: number): this;
  withTarget(target: DataqueryBuilder): this;
}

/** What every panel has. */
function framed<P extends Framed>(
  panel: P,
  title: string,
  description: string,
  queries: Query[],
  width: number,
  height: number,
  instant = false,
): P {
  panel.title(title).description(description).datasource(source).span(width).height(height);
  for (const [index, q] of queries.entries()) panel.withTarget(query(q, index, instant));
  return panel;
}

/** Lines over time. */
export function series(title: string, description: string, queries: Query[], o: PanelOptions = {}): SeriesBuilder {
  const panel = framed(new SeriesBuilder(), title, description, queries, o.width ?? 8, o.height ?? 7)
    .unit(o.unit ?? "short")
    .min(0)
    .lineWidth(1)
    .fillOpacity(o.stack ? 30 : 8)
    .showPoints(VisibilityMode.Never)
    .drawStyle(o.bars ? GraphDrawStyle.Bars : GraphDrawStyle.Line)
    .legend(
      new VizLegendOptionsBuilder()
        .displayMode(LegendDisplayMode.List)
        .placement(o.legendRight ? LegendPlacement.Right : LegendPlacement.Bottom)
        .showLegend(true),
    )
    .tooltip(new VizTooltipOptionsBuilder().mode(TooltipDisplayMode.Multi).sort(SortOrder.Descending));
  // What there can be at most is no area: a dashed line over the others.
  if (queries.some(([, legend]) => legend === "max"))
    panel.overrideByName("max", [
      { id: "custom.fillOpacity", value: 0 },
      { id: "custom.lineStyle", value: { fill: "dash", dash: [6, 6] } },
    ]);
  if (o.stack) panel.stacking(new StackingConfigBuilder().mode(StackingMode.Normal));
  if (o.max !== undefined) panel.max(o.max);
  if (o.limits) panel.thresholds(thresholds(o.limits));
  if (o.objective !== undefined) {
    const steps = [
      { value: null, color: "transparent" },
      { value: o.objective, color: "red" },
    ];
    panel
      .thresholds(new ThresholdsConfigBuilder().mode(ThresholdsMode.Absolute).steps(steps))
      .thresholdsStyle(new GraphThresholdsStyleConfigBuilder().mode(GraphThresholdsStyleMode.Dashed));
  }
  if (o.links) panel.links(o.links.map(({ title: of, url }) => plain(new DashboardLinkBuilder(of).url(url))));
  return panel;
}

/** One number each as it is now, coloured by its limits; grey words where there is none, which is not the same as well. */
export function stat(title: string, description: string, queries: Query[], o: PanelOptions = {}): StatBuilder {
  const panel = framed(new StatBuilder(), title, description, queries, o.width ?? 4, o.height ?? 4, true)
    .unit(o.unit ?? "short")
    .colorMode(BigValueColorMode.Background)
    .noValue("no data")
    .mappings([
      { type: "special", options: { match: "null+nan", result: { text: "no data", color: "#808080" } } } as never,
    ])
    .thresholds(thresholds(o.limits ?? [1, 2]));
  if (o.decimals !== undefined) panel.decimals(o.decimals);
  return panel;
}

/** Which state when: one band per series. */
export function states(
  title: string,
  description: string,
  queries: Query[],
  words: Record<string, [text: string, color: string]>,
  o: PanelOptions = {},
): StateBuilder {
  const options = Object.fromEntries(
    Object.entries(words).map(([value, [text, color]], index) => [value, { text, color, index }]),
  );
  const panel = framed(new StateBuilder(), title, description, queries, o.width ?? 12, o.height ?? 7)
    .mappings([{ type: "value", options } as never])
    .legend(
      new VizLegendOptionsBuilder()
        .displayMode(LegendDisplayMode.List)
        .placement(LegendPlacement.Bottom)
        .showLegend(false),
    );
  return panel;
}

export type AnyPanel = SeriesBuilder | StatBuilder | StateBuilder;

/** Marks of what happened: a query that is not empty where it did. */
export interface Mark {
  name: string;
  expr: string;
  /** With `{{label}}`. */
  text: string;
  color: string;
}

/** What Grafana shows beside the title and not in a menu. */
function plain<T extends { placement?: unknown }>(builder: { build(): T }): { build(): T } {
  return {
    build() {
      const { placement: _, ...rest } = builder.build();
      return rest as T;
    },
  };
}

/** A row; `folded` is closed until somebody opens it. */
export type Row = [title: string, panels: AnyPanel[], folded?: "folded"];

/** A dashboard of rows, with the data source, the namespace and pods to choose, and filters that apply to every query. */
export function dashboard(
  uid: string,
  title: string,
  description: string,
  rows: Row[],
  marks: Mark[] = [],
): DashboardBuilder {
  const built = new DashboardBuilder(title)
    .uid(`quartet-${uid}`)
    .description(description)
    .tags(["quartet"])
    .readonly()
    .tooltip(DashboardCursorSync.Crosshair)
    .time({ from: "now-30m", to: "now" })
    .refresh("10s")
    .withVariable(new DatasourceVariableBuilder("datasource").label("Data source").type("prometheus"))
    .withVariable(
      new QueryVariableBuilder("namespace")
        .label("Namespace")
        .datasource(source)
        .query("label_values(quartet_store_up, namespace)")
        .refresh(VariableRefresh.OnTimeRangeChanged)
        .sort(VariableSort.AlphabeticalAsc),
    )
    .withVariable(
      new QueryVariableBuilder("pod")
        .label("Pod")
        .datasource(source)
        .query('label_values(up{part_of="quartet", namespace=~"$namespace"}, pod)')
        .refresh(VariableRefresh.OnTimeRangeChanged)
        .sort(VariableSort.AlphabeticalAsc)
        .multi(true)
        .includeAll(true)
        .allValue(".*")
        .current({ selected: true, text: "All", value: "$__all" }),
    )
    .withVariable(new DatasourceVariableBuilder("traces").label("Traces").type("tempo"))
    .withVariable(new AdHocVariableBuilder("filter").label("Filter").datasource(source))
    .link(
      plain(
        new DashboardLinkBuilder("Quartet")
          .type(DashboardLinkType.Dashboards)
          .tags(["quartet"])
          .asDropdown(true)
          .keepTime(true)
          .includeVars(true),
      ),
    );
  for (const { name, expr, text, color } of marks) {
    built.annotation(
      plain(
        new AnnotationQueryBuilder()
          .name(name)
          .datasource(source)
          .enable(true)
          .expr(scoped(expr))
          .titleFormat(name)
          .textFormat(text)
          .step("10s")
          .iconColor(color),
      ),
    );
  }
  let id = 0;
  for (const [name, panels, folded] of rows) {
    const row = new RowBuilder(name).id(++id);
    if (folded) {
      row.collapsed(true);
      for (const panel of panels) row.withPanel(panel.id(++id));
      built.withRow(row);
    } else {
      built.withRow(row);
      for (const panel of panels) built.withPanel(panel.id(++id));
    }
  }
  return built;
}

/**
 * Restarts and outages, as the figures themselves tell them: nothing has to be told to Grafana. Grafana draws a mark where the value is above 0, so a state
 * of 0 is turned round. A pod that replaces another is a series of its own, whose figures never change: its start is told by its age.
 */
export const faults: Mark[] = [
  {
    name: "Store down",
    expr: "(max by (store) (quartet_store_up) == bool 0) > 0",
    text: "{{store}} does not answer",
    color: "red",
  },
  {
    name: "Process started",
    expr: 'max by (service, pod) (time() - process_start_time_seconds{part_of="quartet"} < bool 30) > 0',
    text: "{{service}} {{pod}}",
    color: "blue",
  },
  {
    name: "Process away",
    expr: '(max by (service, pod) (up{part_of="quartet"}) == bool 0) > 0',
    text: "{{service}} {{pod}} does not answer Prometheus",
    color: "orange",
  },
  {
    name: "Relay stopped",
    expr: "(max by (source) (quartet_outbox_relay_active) == bool 0) > 0",
    text: "nobody relays the outbox of {{source}}",
    color: "purple",
  },
];
