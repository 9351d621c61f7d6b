import { randomBytes, randomUUID } from "node:crypto";
import {
  type Attributes,
  context,
  isSpanContextValid,
  type Link,
  ROOT_CONTEXT,
  type Span,
  type SpanContext,
  SpanKind,
  SpanStatusCode,
  TraceFlags,
  trace,
} from "@opentelemetry/api";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";

// The API alone has no context: this makes `context.with` follow awaits. The SDK, which is large, is loaded only to export.
context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());

let recording = false;
let stopExport: (() => Promise<void>) | undefined;
const tracer = () => trace.getTracer("quartet");

/** Whether the standard environment variables of OpenTelemetry ask for an export of traces over OTLP. */
function wantsTraces(env: NodeJS.ProcessEnv): boolean {
  if (env.OTEL_SDK_DISABLED?.toLowerCase() === "true" || env.OTEL_TRACES_EXPORTER === "none") return false;
  return Boolean(env.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT || env.OTEL_EXPORTER_OTLP_ENDPOINT);
}

/**
 * Starts the OpenTelemetry SDK with an OTLP/HTTP exporter (JSON) if the environment asks for it; otherwise does nothing. Without it, trace ids are still
 * made, logged and handed on, at the price of 24 random bytes per request. The SDK reads the rest of the standard variables itself: `OTEL_EXPORTER_OTLP_*`
 * (endpoint, headers, timeout, compression), `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_TRACES_SAMPLER`, `OTEL_BSP_*`.
 */
export async function startTracing(service: string, env: NodeJS.ProcessEnv = process.env): Promise<void> {
  if (!wantsTraces(env) || recording) return;
  const [{ BasicTracerProvider, BatchSpanProcessor }, { OTLPTraceExporter }, resources] = await Promise.all([
    import("@opentelemetry/sdk-trace-base"),
    import("@opentelemetry/exporter-trace-otlp-http"),
    import("@opentelemetry/resources"),
  ]);
  const { defaultResource, detectResources, envDetector, resourceFromAttributes } = resources;
  const own = { "service.name": service, "service.namespace": "quartet", "service.instance.id": randomUUID() };
  const provider = new BasicTracerProvider({
    // What the environment says is stronger than what we say.
    resource: defaultResource()
      .merge(resourceFromAttributes(own))
      .merge(detectResources({ detectors: [envDetector] })),
    spanProcessors: [new BatchSpanProcessor(new OTLPTraceExporter())],
  });
  trace.setGlobalTracerProvider(provider);
  recording = true;
  stopExport = () => provider.shutdown();
}

/** Sends what is buffered, for at most two seconds. */
export async function stopTracing(): Promise<void> {
  await Promise.race([stopExport?.().catch(() => {}), new Promise((done) => setTimeout(done, 2000).unref())]);
}

/** The W3C `traceparent` of what runs now, to be put on an outgoing request or event; undefined outside a trace. */
export function currentTraceparent(): string | undefined {
  const current = trace.getSpanContext(context.active());
  return current && `00-${current.traceId}-${current.spanId}-0${current.traceFlags & 1}`;
}

/** The ids of what runs now, under OpenTelemetry's names for log records. */
export function currentTrace(): { trace_id: string; span_id: string } | undefined {
  const current = trace.getSpanContext(context.active());
  return current && { trace_id: current.traceId, span_id: current.spanId };
}

/** Parses a `traceparent`; undefined if there is none or it is malformed (it is then ignored, as the W3C says). */
function parseTraceparent(value: string | undefined): SpanContext | undefined {
  const match =
    value === undefined ? null : /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/.exec(value);
  if (!match || match[1] === "ff" || (match[1] === "00" && match[5])) return undefined;
  const [, , traceId, spanId, flags] = match as unknown as [string, string, string, string, string];
  const parsed = { traceId, spanId, traceFlags: Number.parseInt(flags, 16) & TraceFlags.SAMPLED, isRemote: true };
  return isSpanContextValid(parsed) ? parsed : undefined;
}

/** Runs `fn` as a span below what runs now, or as the root of a new trace. An error marks the span and passes on. */
export function withSpan<T>(name: string, attributes: Attributes, fn: (span: Span) => T, kind = SpanKind.INTERNAL): T {
  const span = startSpan(name, attributes, kind);
  return context.with(trace.setSpan(context.active(), span), () => finish(span, fn));
}

/** Runs `fn` within the trace of `traceparent` (of a request or an event), or a new one if it is absent or malformed. */
export function withTraceparent<T>(
  traceparent: string | undefined,
  name: string,
  fn: (span: Span) => T,
  kind = SpanKind.CONSUMER,
): T {
  const parent = parseTraceparent(traceparent);
  const base = parent ? trace.setSpanContext(ROOT_CONTEXT, parent) : ROOT_CONTEXT;
  return context.with(base, () => withSpan(name, {}, fn, kind));
}

/** Runs a call to a store or peer as a client's span, if it belongs to a trace: what loops ask in the background makes none. Without an export it costs nothing. */
export function withClientSpan<T>(name: string, attributes: Attributes, fn: () => T): T {
  return recording && trace.getSpanContext(context.active()) ? withSpan(name, attributes, fn, SpanKind.CLIENT) : fn();
}

/**
 * Records a span that is over, in the trace of `traceparent`. Nothing happens without an export, or where the trace is unknown or not sampled.
 * @param start milliseconds since the epoch, as is `end`
 */
export function recordSpan(
  name: string,
  traceparent: string | undefined,
  start: number,
  end: number,
  kind: SpanKind,
  attributes: Attributes,
  links: Link[] = [],
): void {
  if (!recording) return;
  const parent = parseTraceparent(traceparent);
  if (!parent || !(parent.traceFlags & TraceFlags.SAMPLED)) return;
  const within = trace.setSpanContext(ROOT_CONTEXT, parent);
  tracer().startSpan(name, { kind, attributes, links, startTime: start }, within).end(end);
}

/** Links of a span beyond this are dropped by the SDK. */
const MOST_LINKS = 128;

/** What is projected where, for the spans of a batch. */
export interface ProjectedTo {
  consumer: string;
  stream: string;
  /** OpenTelemetry's `db.system.name`. */
  store: string;
}

/**
 * Applies a batch of events as one span of its own, in which the calls to the store are; when it is through, each event that carries a trace gets a span
 * there, from the start of the batch to its end. Both are linked. An attempt that fails is a failed batch and says nothing in the events' traces.
 */
export async function withBatchSpan<R>(
  to: ProjectedTo,
  batch: readonly { event: { id: string; traceparent?: string | undefined } }[],
  work: () => Promise<R>,
): Promise<R> {
  if (!recording) return work();
  const attributes = {
    "messaging.system": "nats",
    "messaging.operation.type": "process",
    "messaging.destination.name": to.stream,
    "messaging.consumer.group.name": to.consumer,
    "db.system.name": to.store,
  };
  const links = batch.flatMap(({ event }) => {
    const origin = parseTraceparent(event.traceparent);
    return origin ? [{ context: origin }] : [];
  });
  const start = Date.now();
  const span = tracer().startSpan(
    `apply batch ${to.consumer}`,
    {
      kind: SpanKind.CONSUMER,
      attributes: { ...attributes, "messaging.batch.message_count": batch.length },
      links: links.slice(0, MOST_LINKS),
    },
    ROOT_CONTEXT,
  );
  const result = await context.with(trace.setSpan(ROOT_CONTEXT, span), () => finish(span, work));
  const end = Date.now();
  const whole = [{ context: span.spanContext() }];
  for (const { event } of batch) {
    const message = { ...attributes, "messaging.message.id": event.id };
    recordSpan(`apply ${to.consumer}`, event.traceparent, start, end, SpanKind.CONSUMER, message, whole);
  }
  return result;
}

/** A span to be ended by the caller. It is not made current: `withSpan` does that. */
function startSpan(name: string, attributes: Attributes = {}, kind = SpanKind.INTERNAL): Span {
  if (recording) return tracer().startSpan(name, { attributes, kind });
  const parent = trace.getSpanContext(context.active());
  return trace.wrapSpanContext({
    traceId: parent?.traceId ?? randomBytes(16).toString("hex"),
    spanId: randomBytes(8).toString("hex"),
    traceFlags: parent?.traceFlags ?? TraceFlags.SAMPLED,
  });
}

function finish<T>(span: Span, fn: (span: Span) => T): T {
  try {
    const result = fn(span);
    if (!(result instanceof Promise)) {
      span.end();
      return result;
    }
    return result.then(
      (value) => {
        span.end();
        return value;
      },
      (error) => {
        fail(span, error);
        throw error;
      },
    ) as T;
  } catch (error) {
    fail(span, error);
    throw error;
  }
}

function fail(span: Span, error: unknown): void {
  span.setStatus({ code: SpanStatusCode.ERROR, message: error instanceof Error ? error.name : "error" });
  span.end();
}

export { type Span, SpanKind, SpanStatusCode };
