"""What schemathesis must not do: revoke the grant that it calls with, after which it would be told nothing but 401."""

import os

import schemathesis

OWN_GRANT = os.environ["CARNET_OWN_GRANT"]
NO_GRANT = "00000000-0000-4000-8000-000000000000"


@schemathesis.hook
def before_call(context, case, kwargs):
    if case.path_parameters.get("id") == OWN_GRANT:
        case.path_parameters["id"] = NO_GRANT
