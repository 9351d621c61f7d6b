import { BlockList, isIP, SocketAddress } from "node:net";
import type { Request } from "express";

/** The header in which the gateway tells the services for which client address a call is made. It is no proof of anything. */
export const clientHeader = "quartet-client";

const mapped = new BlockList();
mapped.addSubnet("::ffff:0:0", 96, "ipv6");

/**
 * One name for what counts as one client: an IPv4 address as it is, an IPv4-mapped IPv6 address as the IPv4 one, any other IPv6 address as its /64,
 * the smallest net a provider gives to one customer (`2001:db8:1:2::/64`). `unknown` for what is no address. A port or a zone is no part of it.
 */
export function canonicalAddress(address: string | undefined): string {
  if (address === undefined || address.length > 100) return "unknown";
  const bare = address.split("%", 1)[0] ?? "";
  const version = isIP(bare);
  if (version === 4) return bare;
  if (version !== 6) return "unknown";
  const groups = groupsOf(bare);
  if (mapped.check(bare, "ipv6")) {
    const low = [groups[6] ?? 0, groups[7] ?? 0];
    return low.flatMap((group) => [group >> 8, group & 255]).join(".");
  }
  return `${groups
    .slice(0, 4)
    .map((group) => group.toString(16))
    .join(":")}::/64`;
}

/** The eight groups of an IPv6 address. Node writes every address in the one short form (RFC 5952), with an IPv4 tail only where it is a mapped one. */
function groupsOf(address: string): number[] {
  const short = new SocketAddress({ address, family: "ipv6" }).address;
  const groups = (text: string): number[] =>
    text === ""
      ? []
      : text.split(":").flatMap((group) => {
          if (!group.includes(".")) return Number.parseInt(group, 16);
          const [a = 0, b = 0, c = 0, d = 0] = group.split(".").map(Number);
          return [a * 256 + b, c * 256 + d];
        });
  const [head = "", tail] = short.split("::", 2);
  const [front, back] = [groups(head), groups(tail ?? "")];
  return [...front, ...Array<number>(8 - front.length - back.length).fill(0), ...back];
}

/**
 * Which client a request is made for, for fair queues and limits only: what the gateway says in `Quartet-Client`, without it the peer of the
 * connection. A service that others can reach without the gateway must not believe it for more.
 */
export function clientOf(req: Pick<Request, "headers" | "socket">): string {
  const told = req.headers[clientHeader];
  if (typeof told === "string" && /^[0-9a-f.:/]{2,45}$/.test(told)) return told;
  return canonicalAddress(req.socket.remoteAddress);
}
