import type { Response } from "express";
import { HttpProblem } from "./problem.ts";

/** What is looked at of a response to know whether somebody still waits for it. */
export type Awaited = Pick<Response, "closed" | "once" | "off">;

/** Thrown when the caller went away before the answer; nobody reads it. 499 as nginx has it. */
export class ClientGone extends HttpProblem {
  override name = "ClientGone";
  constructor() {
    super(499, { title: "Client Closed Request", detail: "the client went away" });
  }
}

/**
 * Does `work` for whoever waits for `res`. Its signal aborts as soon as they go away, and whatever `work` throws then is ClientGone: an answer that nobody
 * wants is no fault of the store. Throws ClientGone at once if they have gone already.
 */
export async function whileAwaited<T>(res: Awaited, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  if (res.closed) throw new ClientGone();
  const gone = new AbortController();
  const leave = () => gone.abort(new ClientGone());
  res.once("close", leave);
  try {
    return await work(gone.signal);
  } catch (error) {
    throw gone.signal.aborted ? gone.signal.reason : error;
  } finally {
    res.off("close", leave);
  }
}
