/** What all dashboards share: queries, panels and the frame. Every panel names what to read from it in its description. */
import {
  BigValueColorMode,
  type DataSourceRef,
  GraphDrawStyle,
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
  RowBuilder,
  type Threshold,
  ThresholdsConfigBuilder,
  ThresholdsMode,
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
}

const query = ([expr, legend]: Query, index: number) =>
  new DataqueryBuilder()
    .refId(String.fromCharCode(65 + index))
    .expr(expr)
    .legendFormat(legend)
    .range()
    .datasource(source);

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
): P {
  panel.title(title).description(description).datasource(source).span(width).height(height);
  for (const [index, q] of queries.entries()) panel.withTarget(query(q, index));
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
        .placement(LegendPlacement.Bottom)
        .showLegend(true),
    )
    .tooltip(new VizTooltipOptionsBuilder().mode(TooltipDisplayMode.Multi).sort(SortOrder.Descending));
  if (o.stack) panel.stacking(new StackingConfigBuilder().mode(StackingMode.Normal));
  if (o.max !== undefined) panel.max(o.max);
  if (o.limits) panel.thresholds(thresholds(o.limits));
  return panel;
}

/** One number each, coloured by its limits. */
export function stat(title: string, description: string, queries: Query[], o: PanelOptions = {}): StatBuilder {
  const panel = framed(new StatBuilder(), title, description, queries, o.width ?? 4, o.height ?? 4)
    .unit(o.unit ?? "short")
    .colorMode(BigValueColorMode.Background)
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

/** A dashboard of rows, with the data source to choose, and filters that apply to every query (a namespace, where several systems share a Prometheus). */
export function dashboard(
  uid: string,
  title: string,
  description: string,
  rows: [title: string, panels: AnyPanel[]][],
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
    .withVariable(new AdHocVariableBuilder("filter").label("Filter").datasource(source))
    .link(
      new DashboardLinkBuilder("Quartet")
        .type(DashboardLinkType.Dashboards)
        .tags(["quartet"])
        .asDropdown(true)
        .keepTime(true)
        .includeVars(true),
    );
  for (const { name, expr, text, color } of marks) {
    built.annotation(
      new AnnotationQueryBuilder()
        .name(name)
        .datasource(source)
        .enable(true)
        .expr(expr)
        .titleFormat(name)
        .textFormat(text)
        .step("10s")
        .iconColor(color),
    );
  }
  let id = 0;
  for (const [name, panels] of rows) {
    built.withRow(new RowBuilder(name).id(++id));
    for (const panel of panels) built.withPanel(panel.id(++id));
  }
  return built;
}

/** Restarts and outages, as the figures themselves tell them: nothing has to be told to Grafana. */
export const faults: Mark[] = [
  { name: "Store down", expr: "max by (store) (quartet_store_up) == 0", text: "{{store}}", color: "red" },
  {
    name: "Process started",
    expr: "changes(process_start_time_seconds[30s]) > 0",
    text: "{{job}} {{instance}}",
    color: "blue",
  },
  { name: "Process away", expr: "up == 0", text: "{{job}} {{instance}}", color: "orange" },
  {
    name: "Relay stopped",
    expr: "max by (source) (quartet_outbox_relay_active) == 0",
    text: "{{source}}",
    color: "purple",
  },
];
