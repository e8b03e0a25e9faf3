"""Gets an access token with Google's own client.

usage: google_client.py TOKEN_URL AUDIENCE [IMPERSONATION_URL LIFETIME]

The subject token stands on standard input. Answers with one line of JSON: the `token` and its `expiry`, or the
`error` that was raised and its `message`.
"""

import json
import sys

from google.auth import identity_pool
from google.auth.exceptions import GoogleAuthError
from google.auth.transport.requests import Request

token_url, audience, *impersonation = sys.argv[1:]
given = sys.stdin.read().strip()


class GivenToken(identity_pool.SubjectTokenSupplier):
    def get_subject_token(self, context, request):
        return given


more = {}
if impersonation:
    url, lifetime = impersonation
    more["service_account_impersonation_url"] = url
    more["service_account_impersonation_options"] = {"token_lifetime_seconds": int(lifetime)}
credentials = identity_pool.Credentials(
    audience=audience,
    subject_token_type="urn:ietf:params:oauth:token-type:jwt",
    token_url=token_url,
    subject_token_supplier=GivenToken(),
    scopes=["https://www.googleapis.com/auth/cloud-platform"],
    **more,
)
try:
    credentials.refresh(Request())
    result = {"token": credentials.token, "expiry": credentials.expiry.isoformat()}
except GoogleAuthError as error:
    result = {"error": type(error).__name__, "message": str(error)}
print(json.dumps(result))
