/**
 * Defects that can be switched on, to prove that the chaos suite notices them (mutation testing of the checker). `QUARTET_UNSAFE` names them, separated
 * by commas. Never set it on a system that holds anything of worth: each of them loses data or brings erased people back.
 */
export const UNSAFE = {
  "drop-ack": "the relays count every 23rd event as acknowledged without publishing it",
  "skip-version-check": "Search and Session take over whatever arrives last, however old it is",
  "ack-before-flush": "the projectors acknowledge what they have not yet written",
  "forget-tombstone": "Search and Session delete an erased person and do not remember it",
} as const;
export type UnsafeSwitch = keyof typeof UNSAFE;

/** Thrown for a switch that does not exist. */
class UnknownUnsafeSwitch extends Error {
  override name = "UnknownUnsafeSwitch";
}

/** Reads the switches from the environment. Throws UnknownUnsafeSwitch: a mistyped one must not pass for a system that held. */
function readUnsafe(text: string | undefined): ReadonlySet<UnsafeSwitch> {
  const names = (text ?? "").split(",").flatMap((name) => name.trim() || []);
  for (const name of names) {
    if (!Object.hasOwn(UNSAFE, name)) {
      throw new UnknownUnsafeSwitch(`QUARTET_UNSAFE: ${name} is none of ${Object.keys(UNSAFE).join(", ")}`);
    }
  }
  return new Set(names as UnsafeSwitch[]);
}

/** The switches of this process; empty unless `QUARTET_UNSAFE` is set. */
export const unsafe = readUnsafe(process.env.QUARTET_UNSAFE);

/** Of every how many events `drop-ack` loses one. */
export const DROP_EVERY = 23;
