// Verifies carnet's tokens with jose's createRemoteJWKSet, as a relying party in Node would.
//
// usage: verify_jose.mjs ISSUER AUDIENCE FOLDER_OF_NODE_MODULES [CACHE_SECONDS [COOLDOWN_SECONDS]]
//
// Reads one compact token a line on standard input and answers each with one line of JSON: the verified
// `claims`, or the `error` code that jose threw. `fetches` counts the fetches of the JWKS so far, `age` is the
// time in seconds since the last one began. One process keeps one cache, so a token whose key it already holds costs no fetch. With CACHE_SECONDS the
// cache is that old before it is fetched again, and not sooner for a key that it does not hold either, unless
// COOLDOWN_SECONDS says how soon.

import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const [issuer, audience, folder, cacheSeconds, cooldownSeconds = cacheSeconds] = process.argv.slice(2);
const installed = createRequire(`${folder}/`).resolve("jose");
const jose = await import(pathToFileURL(installed));

const metadata = await (await fetch(`${issuer}/.well-known/openid-configuration`)).json();
const age = cacheSeconds && { cacheMaxAge: cacheSeconds * 1000, cooldownDuration: cooldownSeconds * 1000 };
let fetches = 0;
let fetchedAt = performance.now();
const keys = jose.createRemoteJWKSet(new URL(metadata.jwks_uri), {
  ...age,
  [jose.customFetch]: (...request) => {
    fetches += 1;
    fetchedAt = performance.now();
    return fetch(...request);
  },
});

for await (const line of createInterface({ input: process.stdin })) {
  let result;
  try {
    const { payload } = await jose.jwtVerify(line.trim(), keys, {
      algorithms: metadata.id_token_signing_alg_values_supported,
      audience,
      issuer: metadata.issuer,
      requiredClaims: ["iss", "sub", "aud", "iat", "nbf", "exp", "jti"],
    });
    result = { claims: payload };
  } catch (error) {
    result = { error: error.code ?? error.name };
  }
  console.log(JSON.stringify({ ...result, fetches, age: (performance.now() - fetchedAt) / 1000 }));
}
