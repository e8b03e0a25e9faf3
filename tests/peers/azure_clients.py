"""Lists a registry's repositories with Microsoft's own clients.

usage: azure_clients.py ENDPOINT TENANT CLIENT_ID

ENDPOINT is both Entra and the registry. The client assertion stands on standard input; a text that begins
with `access:` is used as Entra's access token instead. Answers with one line of JSON: the `repositories`, or
the `error` that was raised and its `message`.
"""

import json
import sys

from azure.containerregistry import ContainerRegistryClient
from azure.core.credentials import AccessToken
from azure.core.exceptions import AzureError
from azure.identity import ClientAssertionCredential

endpoint, tenant, client_id = sys.argv[1:]
given = sys.stdin.read().strip()


class GivenToken:
    def get_token(self, *scopes, **kwargs):
        return AccessToken(given.removeprefix("access:"), 4102444800)


if given.startswith("access:"):
    credential = GivenToken()
else:
    credential = ClientAssertionCredential(
        tenant, client_id, lambda: given, authority=endpoint, disable_instance_discovery=True
    )

try:
    with ContainerRegistryClient(endpoint, credential, retry_total=0) as client:
        result = {"repositories": list(client.list_repository_names())}
except AzureError as error:
    result = {"error": type(error).__name__, "message": str(error)}
print(json.dumps(result))
