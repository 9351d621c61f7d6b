import { createServer, get, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { expect, test } from "vitest";
import { canonicalAddress, clientOf } from "../src/index.ts";

test.each([
  ["192.0.2.7", "192.0.2.7"],
  ["::ffff:192.0.2.7", "192.0.2.7"],
  ["::FFFF:c000:0207", "192.0.2.7"],
  ["0:0:0:0:0:ffff:192.0.2.7", "192.0.2.7"],
  ["2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"],
  ["2001:0DB8:0001:0002::", "2001:db8:1:2::/64"],
  ["2001:db8::1", "2001:db8:0:0::/64"],
  ["2001:db8::2:0:0:1", "2001:db8:0:0::/64"],
  ["1::", "1:0:0:0::/64"],
  ["::", "0:0:0:0::/64"],
  ["::1", "0:0:0:0::/64"],
  ["::192.0.2.7", "0:0:0:0::/64"],
  ["64:ff9b::192.0.2.7", "64:ff9b:0:0::/64"],
  ["fe80::1%eth0", "fe80:0:0:0::/64"],
  ["", "unknown"],
  ["unix:", "unknown"],
  ["192.0.2.7:80", "unknown"],
  ["1.2.3", "unknown"],
  [undefined, "unknown"],
  [":".repeat(100_000), "unknown"],
])("the client of the address %j is %j", (address, client) => {
  expect(canonicalAddress(address)).toBe(client);
});

test("a service takes the client from the gateway's header, else from the connection", async () => {
  const server = createServer((req, res) => res.end(clientOf(req as never)));
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const { port } = server.address() as AddressInfo;
  const ask = (headers: Record<string, string>, localAddress: string): Promise<string> =>
    new Promise((done, fail) => {
      get({ port, host: "127.0.0.1", headers, localAddress }, (res: IncomingMessage) => {
        res.setEncoding("utf8").on("data", done);
      }).on("error", fail);
    });
  expect(await ask({}, "127.0.0.9")).toBe("127.0.0.9");
  expect(await ask({ "quartet-client": "2001:db8:1:2::/64" }, "127.0.0.9")).toBe("2001:db8:1:2::/64");
  expect(await ask({ "quartet-client": "not an address" }, "127.0.0.9")).toBe("127.0.0.9");
  server.close();
});
