"""Verifies carnet's tokens with PyJWT's PyJWKClient, as a relying party in Python would.

usage: verify_pyjwt.py ISSUER AUDIENCE CA_FILE [CACHE_SECONDS]

Reads one compact token a line on standard input and answers each with one line of JSON: the verified
`claims`, or the `error` that PyJWT raised. `fetches` counts the fetches of the JWKS so far, `age` is the time in
seconds since the last one began. One process keeps one cache, so a token whose key it already holds costs no fetch. With
CACHE_SECONDS the cache is that old before it is fetched again, and not sooner for a key that it does not hold
either.
"""

import json
import ssl
import sys
import time
import urllib.request

import jwt

issuer, audience, ca_file, *cache_seconds = sys.argv[1:]
tls = ssl.create_default_context(cafile=ca_file)


class CountingClient(jwt.PyJWKClient):
    fetches = 0
    fetched_at = time.monotonic()

    def fetch_data(self):
        self.fetches += 1
        self.fetched_at = time.monotonic()
        return super().fetch_data()


with urllib.request.urlopen(issuer + "/.well-known/openid-configuration", timeout=10, context=tls) as answer:
    metadata = json.load(answer)
age = {}
if cache_seconds:
    age = {"lifespan": float(cache_seconds[0]), "cooldown_duration": float(cache_seconds[0])}
client = CountingClient(metadata["jwks_uri"], timeout=10, ssl_context=tls, **age)

for line in sys.stdin:
    try:
        token = line.strip()
        claims = jwt.decode(
            token,
            client.get_signing_key_from_jwt(token).key,
            algorithms=metadata["id_token_signing_alg_values_supported"],
            audience=audience,
            issuer=metadata["issuer"],
            options={"require": ["iss", "sub", "aud", "iat", "nbf", "exp", "jti"]},
        )
        result = {"claims": claims}
    except jwt.PyJWTError as error:
        result = {"error": type(error).__name__}
    print(json.dumps({**result, "fetches": client.fetches, "age": time.monotonic() - client.fetched_at}), flush=True)
