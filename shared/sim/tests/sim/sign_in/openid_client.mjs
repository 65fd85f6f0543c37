// Signs in, refreshes and signs out with openid-client. Arguments: issuer, client, secret, client authentication.
import assert from "node:assert/strict";

import * as client from "openid-client";

import { Browser, REDIRECT_URI } from "./browser.mjs";

const [issuer, application, secret, method] = process.argv.slice(2);
const methods = { basic: client.ClientSecretBasic, post: client.ClientSecretPost, none: () => client.None() };
const options = { execute: [client.allowInsecureRequests] };
const discover = (secret) =>
  client.discovery(new URL(issuer), application, undefined, methods[method](secret), options);
const config = await discover(secret);
const browser = new Browser();

async function authorization(extra = {}) {
  const checks = {
    pkceCodeVerifier: client.randomPKCECodeVerifier(),
    expectedState: client.randomState(),
    expectedNonce: client.randomNonce(),
    idTokenExpected: true,
  };
  const url = client.buildAuthorizationUrl(config, {
    redirect_uri: REDIRECT_URI,
    scope: "openid email profile offline_access",
    state: checks.expectedState,
    nonce: checks.expectedNonce,
    code_challenge: await client.calculatePKCECodeChallenge(checks.pkceCodeVerifier),
    code_challenge_method: "S256",
    ...extra,
  });
  return { url, checks };
}
const refused = (error) => (thrown) => {
  assert.equal(thrown.error, error);
  return true;
};

// The picker, the code, the claims.
const first = await authorization();
const callback = await browser.signIn(first.url, "owner");
const tokens = await client.authorizationCodeGrant(config, callback, first.checks);
const claims = tokens.claims();
assert.equal(claims.email, "owner@demo.test");
assert.equal(tokens.expires_in, 300);
const user = await client.fetchUserInfo(config, tokens.access_token, claims.sub);
assert.equal(user.name, "Demo owner");

// A code is redeemed once, and only with its verifier.
await assert.rejects(client.authorizationCodeGrant(config, callback, first.checks), refused("invalid_grant"));
const second = await authorization();
const again = await browser.follow(second.url);
const guessed = { ...second.checks, pkceCodeVerifier: client.randomPKCECodeVerifier() };
await assert.rejects(client.authorizationCodeGrant(config, again, guessed), refused("invalid_grant"));

// Refresh tokens rotate.
const refreshed = await client.refreshTokenGrant(config, tokens.refresh_token);
assert.notEqual(refreshed.refresh_token, tokens.refresh_token);
assert.equal(refreshed.claims().sub, claims.sub);

// Without offline_access there is none; the session signs in without the picker.
const third = await authorization({ scope: "openid" });
const online = await client.authorizationCodeGrant(config, await browser.follow(third.url), third.checks);
assert.equal(online.refresh_token, undefined);
assert.equal(online.claims().email, undefined);

// Sign-out ends the session and its tokens.
const out = client.buildEndSessionUrl(config, {
  post_logout_redirect_uri: "http://localhost:3000/bye",
  id_token_hint: refreshed.id_token,
  state: "s",
});
assert.equal((await browser.follow(out)).href, "http://localhost:3000/bye?state=s");
await assert.rejects(client.refreshTokenGrant(config, refreshed.refresh_token), refused("invalid_grant"));
await assert.rejects(client.fetchUserInfo(config, refreshed.access_token, claims.sub));
const silent = await authorization({ prompt: "none" });
const back = await browser.follow(silent.url);
assert.equal(back.searchParams.get("error"), "login_required");

// A refresh token that is used twice ends the session.
const fourth = await authorization();
const stolen = await client.authorizationCodeGrant(config, await browser.signIn(fourth.url, "member"), fourth.checks);
const rotated = await client.refreshTokenGrant(config, stolen.refresh_token);
await assert.rejects(client.refreshTokenGrant(config, stolen.refresh_token), refused("invalid_grant"));
await assert.rejects(client.refreshTokenGrant(config, rotated.refresh_token), refused("invalid_grant"));

// A wrong secret is refused.
if (method !== "none") {
  const wrong = await discover("wrong");
  // As a challenge if the client authenticates by a header (RFC 6749, section 5.2), otherwise in the body.
  await assert.rejects(client.refreshTokenGrant(wrong, "x"), { status: 401 });
}

console.log(JSON.stringify({ access_token: refreshed.access_token, sub: claims.sub }));
