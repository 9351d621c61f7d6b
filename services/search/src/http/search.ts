import { searchQuery, suggestQuery } from "@quartet/contracts";
import { awaitFreshness, type Keyring, parseQuery, readFreshness, setAsOf } from "@quartet/service";
import type { Express } from "express";
import { isSnapshotGone } from "../store/client.ts";
import { firstPage, nextPage, type Page, snapshotSees, suggest } from "../store/search.ts";
import type { SearchContext } from "./context.ts";
import { createCursors, expiredCursor } from "./cursor.ts";

/** The public reads. They need no token: what they show, everybody may see. */
export function addSearchRoutes(app: Express, context: SearchContext & { keyring: Keyring }): void {
  const { askFor, client, freshen } = context;
  const cursors = createCursors(context.keyring.secrets("search cursors"));

  app.get("/v1/search", async (req, res) => {
    const query = parseQuery(searchQuery, req);
    const { token } = readFreshness(req);
    let page: Page;
    if (query.cursor === undefined) {
      await freshen(req, res);
      const notBefore = token ? performance.now() : 0;
      page = await askFor(res, (signal) => firstPage(context, query, { notBefore, signal }));
    } else {
      const position = cursors.read(query.cursor, query);
      try {
        // All pages are of one moment: waiting would change nothing.
        const sees = () => askFor(res, (signal) => snapshotSees(client, position, token ?? {}, signal));
        if (token) await awaitFreshness(res, { waitMs: 0, check: sees });
        page = await askFor(res, (signal) => nextPage(context, query, position, signal));
      } catch (error) {
        if (isSnapshotGone(error)) throw expiredCursor();
        throw error;
      }
      if (token && !res.hasHeader("Quartet-Freshness") && readFreshness(req).waitMs > 0) {
        res.setHeader("Preference-Applied", "wait");
      }
    }
    // Of what the page was read from: that may be a little older than the index is now.
    res.removeHeader("Quartet-As-Of");
    setAsOf(res, page.asOf);
    res.setHeader("Cache-Control", "no-store");
    res.json({ ...page.body, ...(page.next ? { nextCursor: cursors.write(page.next, query) } : {}) });
  });

  app.get("/v1/search/suggest", async (req, res) => {
    const { q, limit } = parseQuery(suggestQuery, req);
    await freshen(req, res);
    res.setHeader("Cache-Control", "no-store");
    res.json({ suggestions: await askFor(res, (signal) => suggest(context, q, limit, signal)) });
  });
}
