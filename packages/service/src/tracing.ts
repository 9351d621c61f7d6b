import { randomBytes } from "node:crypto";
import {
  type Attributes,
  context,
  isSpanContextValid,
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

/**
 * Starts the OpenTelemetry SDK with an OTLP/HTTP exporter if `OTEL_EXPORTER_OTLP_ENDPOINT` (or `TRACES_ENDPOINT`) is set; otherwise does
 * nothing. Without it, trace ids are still made, logged and handed on, at the price of 24 random bytes per request.
 */
export async function startTracing(service: string, env: NodeJS.ProcessEnv = process.env): Promise<void> {
  const endpoint = env.OTEL_EXPORTER_OTLP_ENDPOINT ?? env.TRACES_ENDPOINT;
  if (!endpoint || recording) return;
  const [{ BasicTracerProvider, BatchSpanProcessor }, { OTLPTraceExporter }, { resourceFromAttributes }] =
    await Promise.all([
      import("@opentelemetry/sdk-trace-base"),
      import("@opentelemetry/exporter-trace-otlp-http"),
      import("@opentelemetry/resources"),
    ]);
  const url = `${endpoint.replace(/\/+$/, "").replace(/\/v1\/traces$/, "")}/v1/traces`;
  const provider = new BasicTracerProvider({
    resource: resourceFromAttributes({ "service.name": service }),
    spanProcessors: [new BatchSpanProcessor(new OTLPTraceExporter({ url }))],
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

/** The trace id of what runs now. */
export function currentTraceId(): string | undefined {
  return trace.getSpanContext(context.active())?.traceId;
}

/** Parses a `traceparent`; undefined if there is none or it is malformed (it is then ignored, as the W3C says). */
export function parseTraceparent(value: string | undefined): SpanContext | undefined {
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

/** A span to be ended by the caller. It is not made current: `withSpan` does that. */
export function startSpan(name: string, attributes: Attributes = {}, kind = SpanKind.INTERNAL): Span {
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

export { type Span, SpanKind };
