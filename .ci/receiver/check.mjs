// Starts a gateway on loopback with both its stores in memory, runs the commands of docs/integrate.md ("A day in curl") against it, and
// receives its webhooks. Each is checked with the library "standardwebhooks", as docs/events.md tells a receiver to.
// Usage: node check.mjs path/to/gateway
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { randomBytes, randomUUID } from "node:crypto";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { dirname } from "node:path";
import { createInterface } from "node:readline";
import { Webhook } from "standardwebhooks";

const [gateway] = process.argv.slice(2);
const secret = () => "whsec_" + randomBytes(32).toString("base64");
const [oldSecret, newSecret, strange] = [secret(), secret(), secret()];
const deadline = AbortSignal.timeout(90_000);
deadline.addEventListener("abort", () => {
  throw new Error("not done within 90 s");
});

// The walk is the blocks of the page that are marked so, and expected what they must have sent, a list for each session.
const walk = readFileSync(new URL("../../docs/integrate.md", import.meta.url), "utf8").match(/(?<=^```sh walk\n)[^]*?(?=^```$)/gm).join("\n");
const expected = [
  ["TrainerJourneyStarted", "TrainerJourneyEnded", "SessionCancelled"],
  ["TrainerJourneyStarted", "TrainerArriving", "TrainerJourneyEnded", "SessionCodeIssued", "SessionCancelled"],
];

// The receiver: it answers 500 to the first, to see that it comes again, and keeps the rest.
const received = [];
let refused;
const arrived = new EventTarget();
const receiver = createServer(async (request, response) => {
  const parts = [];
  for await (const part of request) parts.push(part);
  const message = { headers: request.headers, body: Buffer.concat(parts).toString() };
  if (!refused) {
    refused = message;
    response.writeHead(500).end();
    return;
  }
  received.push(message);
  response.writeHead(204).end();
  arrived.dispatchEvent(new Event("webhook"));
});
receiver.listen(0, "127.0.0.1");
await once(receiver, "listening");

const env = {
  PATH: process.env.PATH,
  DOORSTEP_JWT_SECRET: randomBytes(32).toString("base64"),
  DOORSTEP_LISTEN: "127.0.0.1:0",
  DOORSTEP_METRICS_LISTEN: "",
  DOORSTEP_WEBHOOK_URL: `http://127.0.0.1:${receiver.address().port}/doorstep`,
  DOORSTEP_WEBHOOK_SECRET: `${newSecret},${oldSecret}`,
  DOORSTEP_WEBHOOK_ALLOW_PRIVATE: "true",
};
const server = spawn(gateway, ["serve"], { env, stdio: ["ignore", "ignore", "pipe"] });
process.on("exit", () => server.kill("SIGKILL")); // whatever ends this program
try {
  const address = await serving(server);
  const walked = spawn("bash", ["-euo", "pipefail", "-c", walk], {
    env: { ...env, PATH: `${dirname(gateway)}:${env.PATH}`, api: `http://${address}/api/v1` },
    stdio: ["ignore", "inherit", "inherit"],
  });
  const [status] = await once(walked, "close");
  assert.equal(status, 0, "the walk of docs/integrate.md");
  while (received.length < expected.flat().length) await once(arrived, "webhook", { signal: deadline });

  const events = received.map(verified);
  const sessions = [...new Set(events.map((e) => e.data.sessionId))];
  assert.deepEqual(sessions.map((id) => events.filter((e) => e.data.sessionId === id).map((e) => e.type)), expected, "in order");
  for (const e of events) assert.ok(Date.parse(e.timestamp) > 0);
  assert.equal(verified(refused).type, "TrainerJourneyStarted");
  assert.equal(refused.headers["webhook-id"], received[0].headers["webhook-id"], "a repeat has the same id");
  console.log(`${received.length + 1} webhooks verified, with either secret`);
} finally {
  server.kill("SIGTERM");
  receiver.close();
}

// verified reads a message with the library, with each of the two secrets, and makes sure that the library would notice a fault.
function verified({ headers, body }) {
  new Webhook(oldSecret).verify(body, headers);
  const event = new Webhook(newSecret).verify(body, headers);
  const refuses = (key, text, head) => assert.throws(() => new Webhook(key).verify(text, head), { name: "WebhookVerificationError" });
  refuses(strange, body, headers);
  refuses(newSecret, body.replace("type", "kind"), headers);
  refuses(newSecret, body, { ...headers, "webhook-id": randomUUID() });
  refuses(newSecret, body, { ...headers, "webhook-timestamp": String(Number(headers["webhook-timestamp"]) - 3600) });
  return event;
}

// serving is the address of the API, as the gateway's log tells it.
async function serving(child) {
  const lines = [];
  for await (const line of createInterface({ input: child.stderr })) {
    lines.push(line);
    const found = /"msg":"serving".*"addr":"([^"]+)"/.exec(line);
    if (found) {
      child.stderr.resume();
      return found[1];
    }
  }
  throw new Error("the gateway does not serve:\n" + lines.join("\n"));
}
