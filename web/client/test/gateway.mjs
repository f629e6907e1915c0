// A real gateway, a student's and a trainer's tokens, and a proxy that spoils the network between them and it.
import { spawn } from "node:child_process";
import { createHmac, randomBytes, randomUUID } from "node:crypto";
import { once } from "node:events";
import net from "node:net";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";

const binary = process.env.DOORSTEP_GATEWAY;
export const home = { latitude: 48.2, longitude: 16.37 };

/** Starts a gateway with both stores in memory, which takes a fix a second and believes fast cars. settings are more of its variables. */
export async function startGateway(origin, settings = {}, program = binary) {
  if (!program) throw new Error("DOORSTEP_GATEWAY must name the gateway's program; .ci/web builds one");
  const secret = randomBytes(32).toString("base64");
  const child = spawn(program, ["serve"], {
    env: {
      DOORSTEP_LISTEN: "127.0.0.1:0", DOORSTEP_METRICS_LISTEN: "", DOORSTEP_JWT_SECRET: secret, DOORSTEP_CORS_ORIGINS: origin,
      DOORSTEP_RATE_INTERVAL: "1s", DOORSTEP_MAX_SPEED_CAR: "700", DOORSTEP_CEILING_CAR: "900",
      ...settings,
    },
    stdio: ["ignore", "ignore", "pipe"],
  });
  process.on("exit", () => child.kill("SIGKILL"));
  let address;
  for await (const line of createInterface({ input: child.stderr })) {
    address = /"msg":"serving".*"addr":"([^"]+)"/.exec(line)?.[1];
    if (address) break;
  }
  child.stderr.resume();
  if (!address) throw new Error("the gateway does not serve");
  const token = (role, sub, seconds = 3600) => {
    const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
    const text = `${part({ alg: "HS256", typ: "JWT" })}.${part({ sub, role, exp: Math.floor(Date.now() / 1000) + seconds })}`;
    return `${text}.${createHmac("sha256", secret).update(text).digest("base64url")}`;
  };
  const call = async (as, method, path, body) => {
    const response = await fetch(`http://${address}/api/v1${path}`, {
      method, headers: { Authorization: `Bearer ${as}`, "Content-Type": "application/json" }, body: JSON.stringify(body),
    });
    const answer = await response.json();
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${answer.code}`);
    return answer.data;
  };
  /** A booked session, with what its people do. */
  const book = async () => {
    const [session, trainerId, studentId] = [randomUUID(), randomUUID(), randomUUID()];
    const [trainer, student, admin] = [token("trainer", trainerId), token("student", studentId), token("admin", randomUUID())];
    await call(admin, "POST", "/admin/sessions", { sessionId: session, trainerId, studentId, studentHome: home });
    return {
      session, trainer, student, admin, trainerId, studentId, expired: token("student", studentId, -60),
      start: () => call(trainer, "POST", `/admin/sessions/${session}/start-journey`),
      stop: () => call(trainer, "POST", `/admin/sessions/${session}/stop-journey`),
      fix: (meters) => call(trainer, "POST", "/admin/location-tracking/journey/updates", { sessionId: session, ...fixAt(meters) }),
      verify: (otp) => call(trainer, "POST", `/admin/sessions/${session}/verify-otp`, { otp }),
      complete: () => call(trainer, "POST", `/admin/sessions/${session}/complete`),
    };
  };
  return { address, secret, token, call, url: `http://${address}`, book, stop: () => (child.kill("SIGTERM"), once(child, "exit")) };
}

/** Where the trainer is, so many metres north of the home. */
export const fixAt = (meters) => ({
  latitude: home.latitude + meters / 111_195, longitude: home.longitude, accuracy: 5, recordedAt: new Date().toISOString(),
});

/** A TCP proxy in front of a gateway. Its fields say how bad the network is. */
export async function startProxy(address) {
  const [host, port] = address.split(":");
  const links = new Set();
  const proxy = {
    refuse: false, // new connections
    delay: 0, // of each piece, at random up to so many ms
    loseAnswers: 0, // the next so many requests reach the gateway, and their answers nobody
    late: 0, // the next so many requests seem lost, and reach the gateway 4 s later, after those that follow
    connections: 0,
    requests: 0,
    cut: () => links.forEach((link) => link.destroy()),
  };
  const server = net.createServer((client) => {
    proxy.connections++;
    if (proxy.refuse) return client.destroy();
    const upstream = net.connect(Number(port), host);
    let [losing, held] = [false, undefined];
    for (const [from, to] of [[client, upstream], [upstream, client]]) {
      let next = 0;
      links.add(from);
      from.on("data", async (piece) => {
        if (from === client) proxy.requests++;
        if (from === client && held) return held.push(piece);
        if (from === client && proxy.late > 0) {
          proxy.late--;
          held = [piece];
          await sleep(50);
          client.destroy();
          await sleep(4000);
          upstream.write(Buffer.concat(held));
          await sleep(1000);
          return upstream.destroy();
        }
        if (from === client && proxy.loseAnswers > 0) losing = (proxy.loseAnswers--, true);
        if (from === upstream && losing) return client.destroy();
        next = Math.max(next, Date.now() + Math.random() * proxy.delay);
        await sleep(next - Date.now());
        if (to.writable) to.write(piece);
      });
      from.on("error", () => {});
      from.on("close", () => (links.delete(from), held || to.destroy()));
    }
    return undefined;
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  proxy.url = `http://127.0.0.1:${server.address().port}`;
  proxy.stop = () => (server.close(), proxy.cut());
  return proxy;
}
