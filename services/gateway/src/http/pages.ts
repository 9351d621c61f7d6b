import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import express, { type Express, type Response } from "express";
import { docsPage, type OpenApi } from "./docs.ts";
import { pagePolicy } from "./security.ts";

const publicFolder = fileURLToPath(new URL("../../public/", import.meta.url));
const document = new URL("../generated/openapi.json", import.meta.resolve("@quartet/contracts"));

/** `/` the console, `/docs`, `/openapi.json`, `/healthz`, and the files of the pages under `/assets`. */
export async function addPages(app: Express): Promise<void> {
  const openApi = await readFile(document);
  const docs = docsPage(JSON.parse(openApi.toString("utf8")) as OpenApi);
  const page = (res: Response): Response =>
    res.setHeader("Content-Security-Policy", pagePolicy).setHeader("Cache-Control", "no-cache");
  app.get("/healthz", (_req, res) => void res.setHeader("Cache-Control", "no-store").json({ status: "ok" }));
  app.get(
    "/openapi.json",
    (_req, res) => void res.setHeader("Cache-Control", "no-cache").type("application/json").send(openApi),
  );
  app.get("/docs", (_req, res) => void page(res).type("html").send(docs));
  app.get("/", (_req, res) => page(res).sendFile("index.html", { root: publicFolder, cacheControl: false }));
  app.use(
    "/assets",
    express.static(`${publicFolder}assets`, {
      index: false,
      redirect: false,
      setHeaders: (res) => void page(res as Response),
    }),
  );
}
