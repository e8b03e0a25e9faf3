//! Causes at every provider: throttling, outages, and responses that no table knows.

use super::{Cause, Fix};

/// For a code that the provider's own table does not know, and for an answer without one. `named` says that the
/// feed names the endpoint of the step.
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

/// The fix where something other than the provider answers at the provider's own host.
const BETWEEN: &str = "have what is between this machine and the provider, such as a proxy, a filter or a name server of your \
                       own, let its requests through unchanged";

/// Offers no command for a code that no table has, because the fix is not known.
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

/// Another endpoint for `step`, by the name that feeds have for it.
pub(crate) fn endpoint(step: &str) -> Fix {
    Fix::Endpoints(endpoints_of(step))
}

/// Another endpoint for `step` if the feed names one. Otherwise the provider's own host is asked, and only the network can
/// be at fault.
pub(crate) fn endpoint_if(named: bool, step: &str) -> Fix {
    if named { endpoint(step) } else { Fix::Act(BETWEEN.to_owned()) }
}

/// Adapts a cause to a feed that names no endpoint: its requests must not be pointed away from the provider.
pub(crate) fn without_endpoint(cause: Cause) -> Cause {
    match cause.fix {
        Fix::Endpoints(_) => Cause::act(cause.why, BETWEEN),
        _ => cause,
    }
}

/// The name that feeds have for the endpoint of `step`.
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
        // Of AWS and of Google.
        _ => &["sts"],
    }
}

/// For status 429, and for codes that say the same.
pub(crate) fn throttled(provider: &str) -> Cause {
    Cause::early(format!(
        "{provider} limits how often it is asked, counting everybody who shares the account: wait a little, and ask \
         for fewer different credentials at once"
    ))
}

/// For status 5xx, and for codes that say the same.
pub(crate) fn troubled(provider: &str) -> Cause {
    Cause::early(format!(
        "the trouble is at {provider}, or at a proxy before it, and often passes: try again, and look at the provider's \
         status page if it lasts"
    ))
}

/// A 2xx response that cannot be used.
pub(crate) fn unusable(step: &str, named: bool) -> Cause {
    Cause::new(
        "this is not what the provider's API answers: check the endpoint, and that nothing on the way changes answers",
        endpoint_if(named, step),
    )
}

/// A credential that had expired when it came.
pub(crate) fn arrived_expired() -> Cause {
    Cause::clock("compare this machine's clock with the provider's")
}
