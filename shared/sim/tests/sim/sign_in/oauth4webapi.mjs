// Signs in and refreshes with oauth4webapi. Arguments: issuer, client.
import assert from "node:assert/strict";

import * as oauth from "oauth4webapi";

import { Browser, REDIRECT_URI } from "./browser.mjs";

const [issuer, application] = process.argv.slice(2);
const insecure = { [oauth.allowInsecureRequests]: true };
const server = await oauth.processDiscoveryResponse(
  new URL(issuer),
  await oauth.discoveryRequest(new URL(issuer), insecure),
);
const client = { client_id: application };
const verifier = oauth.generateRandomCodeVerifier();
const nonce = oauth.generateRandomNonce();
const authorization = new URL(server.authorization_endpoint);
authorization.search = new URLSearchParams({
  client_id: application,
  redirect_uri: REDIRECT_URI,
  response_type: "code",
  scope: "openid email profile offline_access",
  code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
  code_challenge_method: "S256",
  nonce,
});

const callback = await new Browser().signIn(authorization, "stranger");
const parameters = oauth.validateAuthResponse(server, client, callback, oauth.expectNoState);
const answer = await oauth.authorizationCodeGrantRequest(
  server,
  client,
  oauth.None(),
  parameters,
  REDIRECT_URI,
  verifier,
  insecure,
);
const tokens = await oauth.processAuthorizationCodeResponse(server, client, answer, {
  expectedNonce: nonce,
  requireIdToken: true,
});
await oauth.validateApplicationLevelSignature(server, answer, insecure);
const claims = oauth.getValidatedIdTokenClaims(tokens);
assert.equal(claims.email, "stranger@demo.test");

const userinfo = await oauth.userInfoRequest(server, client, tokens.access_token, insecure);
const user = await oauth.processUserInfoResponse(server, client, claims.sub, userinfo);
assert.equal(user.email, claims.email);

const renewal = await oauth.refreshTokenGrantRequest(server, client, oauth.None(), tokens.refresh_token, insecure);
const renewed = await oauth.processRefreshTokenResponse(server, client, renewal);
assert.notEqual(renewed.access_token, tokens.access_token);
