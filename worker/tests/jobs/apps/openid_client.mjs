// Sign-in to an app with openid-client. Arguments: issuer, client, secret, redirect URI, and the session cookies of a member
// and of a stranger at the identity provider.
import assert from "node:assert/strict";

import * as client from "openid-client";

const [issuer, application, secret, redirectUri, member, stranger] = process.argv.slice(2);
const options = { execute: [client.allowInsecureRequests] };
const config = await client.discovery(new URL(issuer), application, undefined, client.ClientSecretPost(secret), options);

// Opens the authorize page in the browser with this cookie.
async function authorize(cookie) {
  const checks = {
    pkceCodeVerifier: client.randomPKCECodeVerifier(),
    expectedState: client.randomState(),
    expectedNonce: client.randomNonce(),
    idTokenExpected: true,
  };
  const url = client.buildAuthorizationUrl(config, {
    redirect_uri: redirectUri,
    scope: "openid email profile offline_access",
    state: checks.expectedState,
    nonce: checks.expectedNonce,
    code_challenge: await client.calculatePKCECodeChallenge(checks.pkceCodeVerifier),
    code_challenge_method: "S256",
  });
  const page = await fetch(url, { redirect: "manual", headers: { cookie } });
  return { checks, page };
}

// A member: the code, the verified claims, the profile, and a refresh.
const { checks, page } = await authorize(member);
const callback = new URL(page.headers.get("location"));
assert.ok(callback.href.startsWith(redirectUri), callback.href);
const tokens = await client.authorizationCodeGrant(config, callback, checks);
const { sub } = tokens.claims();
const profile = await client.fetchUserInfo(config, tokens.access_token, sub);
const refreshed = await client.refreshTokenGrant(config, tokens.refresh_token);
assert.ok(refreshed.access_token);

// A stranger, who is signed in as well: a page, and no redirect with a code.
const denied = await authorize(stranger);
assert.equal(denied.page.headers.get("location"), null);
assert.match(await denied.page.text(), /Permission denied/);

console.log(JSON.stringify({ sub, email: profile.email }));
