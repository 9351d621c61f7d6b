import { setTimeout as sleep } from "node:timers/promises";
import { isStopped, type ProcessExit, readPidFile } from "@quartet/engines";
import { isHeld } from "./control.ts";

/** What the supervisor needs of an engine or a service; both have it. */
export interface Part {
  readonly name: string;
  readonly port: number;
  readonly pid: number | undefined;
  start(): Promise<void>;
  stop(): Promise<void>;
  killNow(): void;
  kill(): Promise<void>;
  onExit(listener: (exit: ProcessExit) => void): () => void;
}

export interface SupervisorOptions {
  home: string;
  /** One line for the terminal. */
  say: (line: string) => void;
  /** Called when a part got another process. */
  changed: () => void;
  /** How often each part is asked whether it answers, in ms. Default 5 s. */
  checkEveryMs?: number;
  /** So long without an answer, though neither dead nor frozen nor starting, and it is restarted, in ms. Default a minute: well above any pause under full load. */
  unreachableAfterMs?: number;
}

const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 15_000;
/** A part that ran for so long is healthy again: its next restart is quick. */
const HEALTHY_AFTER_MS = 60_000;

/** Keeps the parts running: what dies is restarted with growing pauses, what is frozen or held down is left alone. */
export class Supervisor {
  readonly #options: SupervisorOptions;
  readonly #parts: Part[] = [];
  readonly #checks = new Map<string, NodeJS.Timeout>();
  #stopping = false;

  constructor(options: SupervisorOptions) {
    this.#options = options;
  }

  /** Watches over a part that was started. `answers` tells whether it can be reached: an engine's own probe, a service's `/livez`. */
  watch(part: Part, answers: () => Promise<boolean>): void {
    this.#parts.push(part);
    let pauseMs = FIRST_PAUSE_MS;
    let since = Date.now();
    let restarting = false;
    const restart = async (how: string) => {
      // A start that fails is tried again by the restart under way.
      if (this.#stopping || restarting) return;
      restarting = true;
      if (Date.now() - since > HEALTHY_AFTER_MS) pauseMs = FIRST_PAUSE_MS;
      this.#options.say(`${part.name} ended (${how}); starting it again`);
      this.#options.changed();
      pauseMs = await this.#restart(part, pauseMs);
      since = Date.now();
      restarting = false;
      // It may have ended again in the moment since.
      if (part.pid === undefined) await restart("again");
    };
    part.onExit((exit) => restart(exit.signal ?? `exit ${exit.code}`));
    if (part.pid === undefined) restart("during the start");
    this.#checkAnswers(part, answers, () => restarting);
  }

  /** Tries until it runs. Returns the pause to take before the next restart, should that come soon. */
  async #restart(part: Part, firstPauseMs: number): Promise<number> {
    const died = Date.now();
    for (let pauseMs = firstPauseMs; ; pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS)) {
      await sleep(pauseMs);
      while (isHeld(this.#options.home, part.name) && !this.#stopping) await sleep(200);
      if (this.#stopping) return pauseMs;
      try {
        await part.start();
        this.#options.say(`${part.name} is back after ${((Date.now() - died) / 1000).toFixed(1)} s`);
        this.#options.changed();
        return Math.min(pauseMs * 2, LONGEST_PAUSE_MS);
      } catch (error) {
        if (this.#stopping) return pauseMs;
        const next = Math.min(pauseMs * 2, LONGEST_PAUSE_MS);
        const reason = (error as Error).message.split("\n")[0];
        this.#options.say(`${part.name} does not start (${reason}); next try in ${(next / 1000).toFixed(1)} s`);
      }
    }
  }

  /**
   * Restarts a part that lives but has not answered for long: it has lost its listener, or hangs. One that is starting is left alone: a start has a
   * deadline of its own, and on a busy machine a Java engine takes longer than a minute.
   */
  #checkAnswers(part: Part, answers: () => Promise<boolean>, starting: () => boolean): void {
    const { checkEveryMs = 5_000, unreachableAfterMs = 60_000 } = this.#options;
    let lastAnswer = Date.now();
    let pid = part.pid;
    const check = async () => {
      const identity = part.pid === undefined ? undefined : readPidFile(this.#options.home, part.name);
      const excused = starting() || !identity || isStopped(identity) || part.pid !== pid;
      pid = part.pid;
      if (excused || (await answers())) lastAnswer = Date.now();
      else if (Date.now() - lastAnswer > unreachableAfterMs && !this.#stopping) {
        this.#options.say(`${part.name} has not answered for ${unreachableAfterMs / 1000} s; restarting it`);
        lastAnswer = Date.now();
        await part.kill();
      }
      if (!this.#stopping) this.#checks.set(part.name, setTimeout(check, checkEveryMs));
    };
    this.#checks.set(part.name, setTimeout(check, checkEveryMs));
  }

  /** Stops watching, then stops the parts in the reverse of the order in which they were watched, those of one group side by side. */
  async stop(groups: Part[][]): Promise<void> {
    this.#stopping = true;
    for (const timer of this.#checks.values()) clearTimeout(timer);
    for (const group of groups) await Promise.all(group.map((part) => part.stop()));
  }

  /** Kills everything at once. */
  killNow(): void {
    this.#stopping = true;
    for (const part of this.#parts) part.killNow();
  }
}
