//! What holds at every provider: throttling, outages, and answers that no table knows.

use super::{Cause, Mend};

/// For a code that the provider's own table does not know, and for an answer without one.
pub(crate) fn refused(provider: &str, step: &str, status: Option<u16>, code: Option<&str>) -> Cause {
    match (status.unwrap_or_default(), code) {
        (300..=399, _) => Cause::new(
            "the endpoint answers with a redirect, which is never followed: point the endpoint at the API itself",
            endpoint(step),
        ),
        (429, _) => throttled(provider),
        (500.., _) => troubled(provider),
        (_, Some(code)) => Cause::trust(format!(
            "look up {code} in what {provider} documents about {step}, and compare what was presented with what is \
             set up there"
        )),
        (_, None) => Cause::new(
            format!(
                "this is not how {provider} refuses, so something else may have answered: check the endpoint of {step}"
            ),
            endpoint(step),
        ),
    }
}

/// Another endpoint for `step`, by the name that feeds have for it.
pub(crate) fn endpoint(step: &str) -> Mend {
    let name = match step {
        "ecr:GetAuthorizationToken" | "ecr-public:GetAuthorizationToken" => "ecr",
        "entra:token" => "authority",
        "acr:exchange" | "acr:token" => "registry",
        "iamcredentials:generateAccessToken" => "iamcredentials",
        // Of AWS and of Google.
        _ => "sts",
    };
    Mend::Feed(format!("--endpoint {name}=URL"))
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

/// A success in form that cannot be used.
pub(crate) fn unusable(step: &str) -> Cause {
    Cause::new(
        "this is not what the provider's API answers: check the endpoint, and that nothing on the way changes answers",
        endpoint(step),
    )
}

/// A credential that had expired when it came.
pub(crate) fn arrived_expired() -> Cause {
    Cause::clock("compare this machine's clock with the provider's")
}
