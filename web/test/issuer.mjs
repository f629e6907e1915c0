// An OpenID Connect issuer of one person after the other, and a map's server. Both are other origins than the gateway.
import { createHash, randomUUID } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";

/** Starts a server on a free port of the loopback address. answer(url, body) gives { status, type, body, location }. */
async function serve(answer) {
  const asked = [];
  const server = createServer(async (request, response) => {
    let body = "";
    for await (const piece of request) body += piece;
    const url = new URL(request.url, "http://127.0.0.1");
    asked.push({ url, referrer: request.headers.referer, cookie: request.headers.cookie });
    const { status = 200, type = "application/json", body: text = "", location } = (await answer(url, new URLSearchParams(body))) ?? { status: 404 };
    response.writeHead(status, { "Content-Type": type, "Access-Control-Allow-Origin": "*", ...(location ? { Location: location } : {}) });
    response.end(typeof text === "string" ? text : JSON.stringify(text));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return { url: `http://127.0.0.1:${server.address().port}`, asked, stop: () => server.close() };
}

/** An issuer; whoever comes to it is `issuer.person` at once, who is { token, refreshed }. */
export async function startIssuer() {
  const codes = new Map();
  const issuer = await serve((url, form) => {
    switch (url.pathname) {
      case "/.well-known/openid-configuration":
        return { body: { issuer: issuer.url, authorization_endpoint: `${issuer.url}/authorize`, token_endpoint: `${issuer.url}/token` } };
      case "/authorize": {
        const code = randomUUID();
        codes.set(code, Object.fromEntries(url.searchParams));
        return { status: 302, location: `${url.searchParams.get("redirect_uri")}?code=${code}&state=${url.searchParams.get("state")}` };
      }
      case "/token": {
        if (form.get("grant_type") === "refresh_token") return { body: { access_token: issuer.person.refreshed, token_type: "Bearer" } };
        const asked = codes.get(form.get("code"));
        codes.delete(form.get("code"));
        const proven = asked && createHash("sha256").update(form.get("code_verifier")).digest("base64url") === asked.code_challenge;
        if (!proven || asked.redirect_uri !== form.get("redirect_uri") || asked.client_id !== form.get("client_id")) return { status: 400, body: { error: "invalid_grant" } };
        return { body: { access_token: issuer.person.token, refresh_token: "again", token_type: "Bearer" } };
      }
    }
    return undefined;
  });
  return issuer;
}

/** A map's server: a made-up town around a place, without tiles, and two dots where they are said to be. */
export const startMap = ({ latitude, longitude }, dots) => serve((url) => {
  if (url.pathname !== "/style.json") return undefined;
  const feature = (type, coordinates, properties = {}) => ({ type: "Feature", properties, geometry: { type, coordinates } });
  const at = (north, east) => [longitude + east / 74_000, latitude + north / 111_195];
  const source = (features, more = {}) => ({ type: "geojson", data: { type: "FeatureCollection", features }, ...more });
  const streets = Array.from({ length: 23 }, (_, i) => 240 * (i - 11)).flatMap((m, i) => [
    feature("LineString", [at(-4000, m), at(4000, m + 300 * Math.sin(i))], { wide: i % 4 === 0 ? 9 : 4 }), feature("LineString", [at(m, -4000), at(m + 60 * Math.cos(i), 4000)], { wide: i % 5 === 2 ? 9 : 4 }),
  ]);
  const river = Array.from({ length: 41 }, (_, i) => at(780 + 260 * Math.sin(i / 4), 200 * (i - 20)));
  const line = (id, color, width) => ({ id, type: "line", source: id, layout: { "line-cap": "round" }, paint: { "line-color": color, "line-width": width } });
  return {
    body: {
      version: 8,
      sources: {
        streets: source(streets, { attribution: "A made-up town" }), river: source([feature("LineString", river)]),
        dots: source(dots.map((dot) => feature("Point", [dot.longitude, dot.latitude], { color: dot.color }))),
      },
      layers: [
        { id: "land", type: "background", paint: { "background-color": "#e9ede6" } },
        line("river", "#cfe0e6", 30), line("streets", "#ffffff", ["get", "wide"]),
        { id: "dots", type: "circle", source: "dots", paint: { "circle-radius": 4, "circle-color": ["get", "color"] } },
      ],
    },
  };
});
