// A certified OIDC issuer with two clients, the portal and the console. Signs a person in to the portal, and prints the tokens.
// Runs until stdin ends. Arguments: the claims of the person as JSON, and the origin of the console.
import { createServer } from "node:http";

import { Provider } from "oidc-provider";
import * as client from "openid-client";

// The provider writes notices there.
console.info = () => {};

const AUDIENCE = "dezky-portal";
const REDIRECT_URI = "http://127.0.0.1:1/callback";
const person = JSON.parse(process.argv[2]);
const consoleOrigin = process.argv[3];

const server = createServer((request, response) => handle(request, response));
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
const issuer = `http://127.0.0.1:${server.address().port}`;

const provider = new Provider(issuer, {
  clients: [
    {
      client_id: AUDIENCE,
      token_endpoint_auth_method: "none",
      redirect_uris: [REDIRECT_URI],
      grant_types: ["authorization_code", "refresh_token"],
      response_types: ["code"],
    },
    {
      client_id: "dezky-operator",
      token_endpoint_auth_method: "none",
      redirect_uris: [`${consoleOrigin}/console/sign-in/callback`],
      post_logout_redirect_uris: [`${consoleOrigin}/console/signed-out`],
      grant_types: ["authorization_code"],
      response_types: ["code"],
    },
  ],
  claims: { email: ["email"], profile: ["name", "groups"] },
  // As Authentik does by default: the id token has the claims of its scopes.
  conformIdTokenClaims: false,
  scopes: ["openid", "email", "profile", "offline_access"],
  findAccount: (_, sub) => ({ accountId: sub, claims: () => ({ ...person, sub }) }),
  extraTokenClaims: () => ({ email: person.email, name: person.name, groups: person.groups }),
  features: {
    devInteractions: { enabled: false },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => "urn:dezky",
      useGrantedResource: () => true,
      getResourceServerInfo: () => ({
        scope: "openid email profile",
        audience: AUDIENCE,
        accessTokenFormat: "jwt",
        accessTokenTTL: 300,
      }),
    },
  },
  interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
  cookies: { keys: ["test"] },
});
const serve = provider.callback();

// The person signs in and consents at once.
async function handle(request, response) {
  if (!request.url.startsWith("/interaction/")) {
    return serve(request, response);
  }
  const { prompt, params } = await provider.interactionDetails(request, response);
  if (prompt.name === "login") {
    return provider.interactionFinished(request, response, { login: { accountId: person.sub } });
  }
  const grant = new provider.Grant({ accountId: person.sub, clientId: params.client_id });
  grant.addOIDCScope("openid email profile offline_access");
  grant.addResourceScope("urn:dezky", "openid email profile");
  const result = { consent: { grantId: await grant.save() } };
  return provider.interactionFinished(request, response, result, { mergeWithLastSubmission: true });
}

const options = { execute: [client.allowInsecureRequests] };
const config = await client.discovery(new URL(issuer), AUDIENCE, undefined, client.None(), options);
const pkceCodeVerifier = client.randomPKCECodeVerifier();
const authorization = client.buildAuthorizationUrl(config, {
  redirect_uri: REDIRECT_URI,
  scope: "openid email profile offline_access",
  prompt: "consent",
  code_challenge: await client.calculatePKCECodeChallenge(pkceCodeVerifier),
  code_challenge_method: "S256",
});

// The browser: follows redirects to the portal, and keeps cookies.
const cookies = new Map();
let location = authorization;
while (!location.href.startsWith(REDIRECT_URI)) {
  const cookie = [...cookies].map((pair) => pair.join("=")).join("; ");
  const answer = await fetch(location, { redirect: "manual", headers: { cookie } });
  for (const set of answer.headers.getSetCookie()) {
    const [pair] = set.split(";");
    const [name, value] = pair.split(/=(.*)/s);
    cookies.set(name, value);
  }
  const next = answer.headers.get("location");
  if (next === null) {
    throw new Error(`${location}: ${answer.status} ${await answer.text()}`);
  }
  location = new URL(next, location);
}
const tokens = await client.authorizationCodeGrant(config, location, { pkceCodeVerifier });
const refreshed = await client.refreshTokenGrant(config, tokens.refresh_token);

const printed = { issuer, access_token: tokens.access_token, refreshed: refreshed.access_token, id_token: tokens.id_token };
console.log(JSON.stringify(printed));
process.stdin.resume().on("end", () => process.exit(0));
