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
            "the endpoint answers with a redirect, which is never followed: point the endpoint at the API itself",
            endpoint(step),
        ),
        (300..=399, _) => Cause::act(
            "something answers with a redirect, which is never followed, and which this API never gives",
            BETWEEN,
        ),
        (429, _) => throttled(provider),
        (500 | 502.., _) => troubled(provider),
        (_, Some(code)) => unknown(provider, step, code),
        (_, None) if named => Cause::new(
            format!(
                "this is not how {provider} refuses, so something else may have answered: check the endpoint of {step}"
            ),
            endpoint(step),
        ),
        (_, None) => Cause::act(
            format!("this is not how {provider} refuses, so something else has answered in its place"),
            BETWEEN,
        ),
    }
}

/// The fix if something other than the provider responds at the provider's own host.
const BETWEEN: &str = "have what is between this machine and the provider, such as a proxy, a filter or a name server of your \
                       own, let its requests through unchanged";

/// Returns the cause for a code that is in no table. It has no command, because the fix is unknown.
fn unknown(provider: &str, step: &str, code: &str) -> Cause {
    let list = match provider {
        "azure" if code.starts_with("AADSTS") => "https://login.microsoftonline.com/error has Entra's codes",
        "azure" => "the documentation of Entra, or of Azure Container Registry, may have it",
        "aws" => "AWS's API references have the errors of each operation, and a list of those that all have",
        "google" => "Google's guides for troubleshooting workload identity federation and IAM may have it",
        _ => "the provider's documentation may have it",
    };
    Cause::act(
        format!(
            "carnet knows nothing of this code: look up {code} in what {provider} documents about {step}, and compare what \
             was presented with what is set up there"
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
        "{provider} limits how often it is asked, counting everybody who shares the account: wait a little, and ask \
         for fewer different credentials at once"
    ))
}

/// Returns the cause for a status 5xx and for outage codes.
pub(crate) fn troubled(provider: &str) -> Cause {
    Cause::early(format!(
        "the trouble is at {provider}, or at a proxy before it, and often passes: try again, and look at the provider's \
         status page if it lasts"
    ))
}

/// Returns the cause for a 2xx response that cannot be used.
pub(crate) fn unusable(step: &str, named: bool) -> Cause {
    Cause::new(
        "this is not what the provider's API answers: check the endpoint, and that nothing on the way changes answers",
        endpoint_if(named, step),
    )
}

/// Returns the cause for a credential that had expired on arrival.
pub(crate) fn arrived_expired() -> Cause {
    Cause::clock("compare this machine's clock with the provider's")
}
