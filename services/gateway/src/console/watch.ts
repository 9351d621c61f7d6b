import type { StatusBody } from "@quartet/contracts";
import type { Sighting } from "@quartet/service";
import { type Peers, type ServiceName, serviceNames } from "../http/peers.ts";
import { collectStatus } from "../http/status.ts";
import type { Control, ControlState } from "./control.ts";

/** What every open console is told once a second. */
export interface Tick {
  at: number;
  status: StatusBody;
  control: ControlState | null;
}
export type Message =
  | { event: "tick"; data: Tick }
  | { event: "history"; data: Point[] }
  | { event: "flow"; data: Sighting[] };
type Listener = (message: Message) => void;

/** One point of the sparklines: seconds behind and messages waiting, by projector. */
export interface Point {
  at: number;
  projectors: Record<string, [staleness: number | null, lag: number | null]>;
}

const flowEveryMs = 400;
const tickEveryMs = 1000;
const flowTimeoutMs = 900;
const statusTimeoutMs = 1500;
const points = 120;

/**
 * Looks at the system for all open consoles together: the flow of events from the services' own counts, and the status once a second. It asks nobody
 * while nobody watches. Each question waits for its answer before it is asked again, so a service that hangs has one call of ours in hand, not many.
 */
export class Watch {
  readonly #peers: Peers;
  readonly #control: Control | undefined;
  readonly #listeners = new Set<Listener>();
  readonly #history: Point[] = [];
  readonly #asked = new Map<ServiceName, number>();
  readonly #asOf = new Map<string, string>();
  #over: AbortController | undefined;

  constructor(peers: Peers, control: Control | undefined) {
    this.#peers = peers;
    this.#control = control;
  }

  get watchers(): number {
    return this.#listeners.size;
  }

  /** Tells `listener` all there is to see until the returned function is called. */
  watch(listener: Listener): () => void {
    this.#listeners.add(listener);
    listener({ event: "history", data: this.#history });
    if (!this.#over) this.#start();
    return () => {
      this.#listeners.delete(listener);
      if (this.#listeners.size === 0) this.#stop();
    };
  }

  #start(): void {
    const over = new AbortController();
    this.#over = over;
    const loop = (everyMs: number, look: () => Promise<void>) => {
      let timer: NodeJS.Timeout | undefined;
      const next = async (): Promise<void> => {
        const started = performance.now();
        await look().catch(() => {});
        if (!over.signal.aborted) timer = setTimeout(next, Math.max(50, everyMs - (performance.now() - started)));
      };
      over.signal.addEventListener("abort", () => clearTimeout(timer), { once: true });
      void next();
    };
    loop(tickEveryMs, () => this.#tick());
    for (const name of serviceNames) loop(flowEveryMs, () => this.#flow(name));
  }

  #stop(): void {
    this.#over?.abort();
    this.#over = undefined;
    this.#asked.clear();
  }

  #tell(message: Message): void {
    for (const listener of this.#listeners) listener(message);
  }

  async #tick(): Promise<void> {
    const [status, control] = await Promise.all([
      collectStatus(this.#peers, statusTimeoutMs, null),
      this.#control?.state().catch(() => null) ?? null,
    ]);
    const at = Date.now();
    for (const [name, projector] of Object.entries(status.projectors)) {
      // a store that is down cannot have got younger since it was last heard of
      if (projector.asOf !== null) this.#asOf.set(name, projector.asOf);
      const known = this.#asOf.get(name);
      if (known !== undefined) projector.stalenessSeconds ??= Math.max(0, (at - Date.parse(known)) / 1000);
    }
    const projectors = Object.fromEntries(
      Object.entries(status.projectors).map(([name, p]) => [name, [p.stalenessSeconds, p.lag] as [number, number]]),
    );
    this.#history.push({ at, projectors });
    if (this.#history.length > points) this.#history.shift();
    this.#tell({ event: "tick", data: { at, status, control } });
  }

  async #flow(name: ServiceName): Promise<void> {
    const after = this.#asked.get(name);
    const path = `/internal/activity${after === undefined ? "" : `?after=${after}`}`;
    const answer = await this.#peers[name].request("GET", path, { for: null, timeoutMs: flowTimeoutMs });
    if (answer.status !== 200) return;
    const { until, sightings } = answer.body as { until: number; sightings: Sighting[] };
    this.#asked.set(name, until);
    if (sightings.length > 0) this.#tell({ event: "flow", data: sightings });
  }
}
