import type { Express } from "express";

/** What is used of the router's layers; the `router` package has no public way to ask which methods a path has. */
interface Layer {
  match(path: string): boolean;
  path?: string;
  route?: { methods: Record<string, boolean> };
  handle?: { stack?: Layer[] };
}

/** The methods that have a route for `path`, HEAD with GET; empty if the path is unknown. Looks into mounted routers too. */
export function allowedMethods(app: Express, path: string): string[] {
  const found = new Set<string>();
  collect((app.router as unknown as { stack: Layer[] }).stack, path, found);
  if (found.has("GET")) found.add("HEAD");
  return [...found].sort();
}

function collect(stack: Layer[], path: string, found: Set<string>): void {
  for (const layer of stack) {
    if (!layer.route && !layer.handle?.stack) continue;
    if (!layer.match(path)) continue;
    if (layer.route)
      for (const method of Object.keys(layer.route.methods))
        found.add(method === "_all" ? "GET" : method.toUpperCase());
    else if (layer.handle?.stack) collect(layer.handle.stack, path.slice((layer.path ?? "").length) || "/", found);
  }
}
