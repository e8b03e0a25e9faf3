//! The causes common to all providers: throttling, outages, and responses that are in no table.

use super::{Cause, Fix};

/// Returns the cause for a code that is not in the provider's table, or for a response without a code.
/// `named` is set if the feed names the endpoint of the step.
pub(crate) fn refused(
    provider: &str,
    step: &str,
    status: Option<u16>,
    code: Option<&str>,
    named: bool,
) -> Cause {
    match (status.unwrap_or_default(), code) {
        (300..=399, _) if named => Cause::new(
            "the endpoint responds with a redirect, which carnet does not follow: set the endpoint to the \
             API's own URL",
            endpoint(step),
        ),
        (300..=399, _) => Cause::act(
            "the response is a redirect, which this API never sends and carnet does not follow: something \
             other than the provider responded",
            BETWEEN,
        ),
        (429, _) => throttled(provider),
        (500 | 502.., _) => troubled(provider),
        (_, Some(code)) => unknown(provider, step, code),
        (_, None) if named => Cause::new(
            format!(
                "this is not a refusal by {provider}, so something else may have responded: check the \
                 endpoint of {step}"
            ),
            endpoint(step),
        ),
        (_, None) => Cause::act(
            format!("this is not a refusal by {provider}, so something else has responded"),
            BETWEEN,
        ),
    }
}

/// The fix if something other than the provider responds at the provider's own host.
const BETWEEN: &str = "check the proxy, filter or name server between this machine and the provider: \
                       requests and responses must pass unchanged";

/// Returns the cause for a code that is in no table. It has no command, because the fix is unknown.
fn unknown(provider: &str, step: &str, code: &str) -> Cause {
    let list = match provider {
        "azure" if code.starts_with("AADSTS") => {
            "see Entra's codes at https://login.microsoftonline.com/error"
        }
        "azure" => "see the documentation of Entra and of Azure Container Registry",
        "aws" => "see the errors of the operation, and the common errors, in AWS's API reference",
        "google" => "see Google's troubleshooting guides for workload identity federation and IAM",
        _ => "see the provider's documentation",
    };
    Cause::act(
        format!(
            "carnet does not know this code: look up {code} in {provider}'s documentation of {step}, and compare \
             the presented claims with the set-up there"
        ),
        list,
    )
}

/// Returns the fix that names another endpoint for `step`, by the endpoint's name in feeds.
pub(crate) fn endpoint(step: &str) -> Fix {
    Fix::Endpoints(endpoints_of(step))
}

/// Returns the fix that names another endpoint for `step`, if the feed names one. Otherwise the request went
/// to the provider's own host, and only the network can be at fault.
pub(crate) fn endpoint_if(named: bool, step: &str) -> Fix {
    if named { endpoint(step) } else { Fix::Act(BETWEEN.to_owned()) }
}

/// Adapts a cause to a feed that names no endpoint: its requests must not be redirected away from the
/// provider.
pub(crate) fn without_endpoint(cause: Cause) -> Cause {
    match cause.fix {
        Fix::Endpoints(_) => Cause::act(cause.why, BETWEEN),
        _ => cause,
    }
}

/// Returns the name of the endpoint of `step` in feeds.
pub(crate) fn endpoint_name(step: &str) -> &'static str {
    let [name] = endpoints_of(step);
    name
}

fn endpoints_of(step: &str) -> &'static [&'static str; 1] {
    match step {
        "ecr:GetAuthorizationToken" | "ecr-public:GetAuthorizationToken" => &["ecr"],
        "entra:token" => &["authority"],
        "acr:exchange" | "acr:token" => &["registry"],
        "iamcredentials:generateAccessToken" => &["iamcredentials"],
        // The steps of AWS and Google.
        _ => &["sts"],
    }
}

/// Returns the cause for status 429 and for throttling codes.
pub(crate) fn throttled(provider: &str) -> Cause {
    Cause::early(format!(
        "{provider} limits the rate of requests for the whole account: wait a little, and request fewer \
         different credentials at once"
    ))
}

/// Returns the cause for a status 5xx and for outage codes.
pub(crate) fn troubled(provider: &str) -> Cause {
    Cause::early(format!(
        "{provider}, or a proxy before it, has a fault, which is often temporary: try again, and check the \
         provider's status page if it persists"
    ))
}

/// Returns the cause for a 2xx response that cannot be used.
pub(crate) fn unusable(step: &str, named: bool) -> Cause {
    Cause::new(
        "this is not a response of the provider's API: check the endpoint, and that nothing in between \
         changes responses",
        endpoint_if(named, step),
    )
}

/// Returns the cause for a credential that had expired on arrival.
pub(crate) fn arrived_expired() -> Cause {
    Cause::clock("compare this machine's clock with the provider's")
}
