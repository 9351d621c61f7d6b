/** What is used of an OpenAPI 3.1 document. */
export interface OpenApi {
  info: { title: string; version: string; summary?: string; description?: string };
  tags?: { name: string; description?: string }[];
  paths: Record<string, Record<string, Operation>>;
  components?: { schemas?: Record<string, Schema> };
}
interface Operation {
  tags?: string[];
  summary?: string;
  description?: string;
  security?: Record<string, unknown>[];
  parameters?: { name: string; in: string; required?: boolean; description?: string; schema?: Schema }[];
  requestBody?: { content: Record<string, { schema?: Schema }> };
  responses: Record<
    string,
    {
      description?: string;
      headers?: Record<string, { description?: string }>;
      content?: Record<string, { schema?: Schema }>;
    }
  >;
}
interface Schema {
  $ref?: string;
  type?: string | string[];
  description?: string;
  properties?: Record<string, Schema>;
  required?: string[];
  items?: Schema;
  enum?: unknown[];
  const?: unknown;
  anyOf?: Schema[];
  additionalProperties?: boolean | Schema;
  [limit: string]: unknown;
}

/** The OpenAPI document as one page of HTML: no script, nothing from elsewhere, made once at start. */
export function docsPage(api: OpenApi): string {
  const entries = Object.entries(api.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({
      path,
      method,
      operation,
      tag: operation.tags?.[0] ?? "Other",
    })),
  );
  const tags = [...new Set(entries.map((e) => e.tag))];
  const anchor = (text: string): string => text.toLowerCase().replace(/[^a-z0-9]+/g, "-");
  const sections = tags.map(
    (tag) =>
      `<section id="${anchor(tag)}"><h2>${html(tag)}</h2><p>${html(api.tags?.find((t) => t.name === tag)?.description ?? "")}</p>` +
      `${entries
        .filter((e) => e.tag === tag)
        .map((e) => operationHtml(e.method, e.path, e.operation))
        .join("\n")}</section>`,
  );
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>${html(api.info.title)} API</title><link rel="stylesheet" href="/assets/style.css"></head>
<body class="docs"><header><h1>${html(api.info.title)} API <small>${html(api.info.version)}</small></h1>
<p>${html(api.info.summary ?? "")} · <a href="/">Console</a> · <a href="/openapi.json">openapi.json</a></p>
<nav>${tags.map((tag) => `<a href="#${anchor(tag)}">${html(tag)}</a>`).join(" ")}</nav></header>
<main>${sections.join("\n")}</main></body></html>`;
}

function operationHtml(method: string, path: string, op: Operation): string {
  const access = (op.security ?? []).map((s) => Object.keys(s)[0] ?? "anyone");
  const parameters = (op.parameters ?? []).map(
    (p) =>
      `<tr><td><code>${html(p.name)}</code>${p.required ? " *" : ""}</td><td>${html(p.in)}</td><td>${schemaHtml(p.schema)} ${html(p.description ?? "")}</td></tr>`,
  );
  const responses = Object.entries(op.responses).map(([status, r]) => {
    const headers = Object.entries(r.headers ?? {}).map(
      ([name, h]) => `<li><code>${html(name)}</code> ${html(h.description ?? "")}</li>`,
    );
    const schema = Object.entries(r.content ?? {}).map(([type, c]) =>
      Number(status) < 400 ? `<code>${html(type)}</code> ${schemaHtml(c.schema)}` : `<code>${html(type)}</code>`,
    );
    return `<tr><td><b>${html(status)}</b></td><td>${html(r.description ?? "")}${headers.length ? `<ul>${headers.join("")}</ul>` : ""}${schema.join("")}</td></tr>`;
  });
  const body = Object.entries(op.requestBody?.content ?? {}).map(
    ([type, c]) => `<h4>Body <code>${html(type)}</code></h4>${schemaHtml(c.schema)}`,
  );
  return `<details class="operation"><summary><span class="method ${html(method)}">${html(method.toUpperCase())}</span> <code>${html(path)}</code> ${html(op.summary ?? "")}</summary>
<p>${html(op.description ?? "")} Token: ${html(access.length ? access.join(" or ") : "none")}.</p>
${parameters.length ? `<h4>Parameters</h4><table>${parameters.join("")}</table>` : ""}${body.join("")}
<h4>Answers</h4><table>${responses.join("")}</table></details>`;
}

/** Says in words what a JSON schema allows. */
function schemaHtml(schema: Schema | undefined): string {
  if (!schema) return "";
  if (schema.$ref) return `<code>${html(schema.$ref.split("/").at(-1) ?? "")}</code>`;
  if (schema.anyOf) return schema.anyOf.map(schemaHtml).join(" or ");
  const text = schema.description ? ` ${html(schema.description)}` : "";
  if (schema.properties) {
    const rows = Object.entries(schema.properties).map(
      ([name, s]) =>
        `<tr><td><code>${html(name)}</code>${schema.required?.includes(name) ? " *" : ""}</td><td>${schemaHtml(s)}</td></tr>`,
    );
    return `${text}<table>${rows.join("")}</table>`;
  }
  if (schema.type === "array") return `list of ${schemaHtml(schema.items)}${limits(schema)}${text}`;
  if (typeof schema.additionalProperties === "object")
    return `object of ${schemaHtml(schema.additionalProperties)}${text}`;
  const type = schema.enum
    ? schema.enum.map((v) => `<code>${html(JSON.stringify(v))}</code>`).join(" ")
    : html([schema.type ?? "any"].flat().join(" or "));
  return `${type}${limits(schema)}${text}`;
}

/** Large bounds, long patterns and those of formats say nothing to a reader. */
function limits(schema: Schema): string {
  const shown: string[] = [];
  if (schema.format) shown.push(String(schema.format));
  else if (typeof schema.pattern === "string" && schema.pattern.length <= 100) shown.push(schema.pattern);
  for (const [key, label] of [
    ["minLength", "≥"],
    ["maxLength", "≤"],
    ["minItems", "≥"],
    ["maxItems", "≤"],
    ["minimum", "≥"],
    ["maximum", "≤"],
  ] as const) {
    const value = schema[key];
    if (typeof value === "number" && Math.abs(value) < 2 ** 53 - 1)
      shown.push(`${label} ${value}${key.endsWith("Length") ? " characters" : ""}`);
  }
  if (schema.default !== undefined) shown.push(`default ${JSON.stringify(schema.default)}`);
  return shown.length ? ` <small>(${html(shown.join(", "))})</small>` : "";
}

function html(text: string): string {
  return text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
}
