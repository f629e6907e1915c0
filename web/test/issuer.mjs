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

/** A map's server: a style without tiles, with two dots where they are said to be. */
export const startMap = (dots) => serve((url) => url.pathname !== "/style.json" ? undefined : {
  body: {
    version: 8,
    sources: {
      dots: { type: "geojson", attribution: "Two dots", data: { type: "FeatureCollection", features: dots.map(({ color, latitude, longitude }) => ({
        type: "Feature", properties: { color }, geometry: { type: "Point", coordinates: [longitude, latitude] },
      })) } },
    },
    layers: [
      { id: "land", type: "background", paint: { "background-color": "#dfe6dc" } },
      { id: "dots", type: "circle", source: "dots", paint: { "circle-radius": 6, "circle-color": ["get", "color"], "circle-pitch-alignment": "map" } },
    ],
  },
});
