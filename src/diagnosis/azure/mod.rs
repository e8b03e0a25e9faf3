//! The likely causes of Entra's and ACR's codes, in terms of the presented token. Codes about the identity
//! itself are in `identity`.

mod identity;

use super::general::throttled;
use super::{Cause, Fix, Retry};
use crate::feed::azure::AzureAcr;
use crate::oidc::token::Presented;

/// Returns whether the same request may succeed when it is sent again.
pub(crate) fn retry(code: &str) -> Retry {
    match code {
        // Entra could not reach the issuer.
        "AADSTS90061" | "AADSTS50166" | "AADSTS501661" => Retry::Passing,
        code if identity::is_outage(code) || is_throttling(code) => Retry::Passing,
        // A replica of Entra may temporarily not know an identity or a credential that the others know.
        "AADSTS70021" | "AADSTS700211" | "AADSTS700212" | "AADSTS700213" | "AADSTS70025" | "AADSTS700016"
        | "AADSTS7000229" => Retry::Once,
        _ => Retry::Never,
    }
}

/// Returns whether the code means throttling. AADSTS50196 does not: it tells a looping client to stop.
fn is_throttling(code: &str) -> bool {
    code == "AADSTS90055"
}

/// Returns the causes for a refusal by Entra's token endpoint.
pub(crate) fn of_entra(code: &str, presented: &Presented, azure: &AzureAcr) -> Vec<Cause> {
    let Presented { iss, sub, aud, kid, alg } = presented;
    let AzureAcr { tenant_id, client_id } = azure;
    let jwks = |why: String| Cause::new(why, Fix::Command(format!("curl -i {iss}/.well-known/jwks")));
    let credential = format!("a federated credential of {client_id}");
    let new = || Cause::early("a new one takes some minutes to take effect");
    let tenant = || Fix::Feed("--tenant-id UUID".to_owned());
    match code {
        "AADSTS70025" => vec![Cause::trust(format!("{client_id} has no federated credential at all")), new()],
        "AADSTS70021" => vec![
            Cause::trust(format!(
                "{credential} must name exactly the issuer {iss}, the subject {sub} and the audience {aud}"
            )),
            new(),
        ],
        "AADSTS700211" => vec![
            Cause::trust(format!(
                "{credential} must name exactly the issuer {iss}, without a slash at its end"
            )),
            new(),
        ],
        "AADSTS700212" => vec![Cause::trust(format!("{credential} must name exactly the audience {aud}"))],
        "AADSTS700213" => vec![
            Cause::trust(format!("{credential} must name exactly the subject {sub}: there are no wildcards")),
            new(),
        ],
        "AADSTS7002138" => vec![Cause::trust(format!(
            "{credential} names this subject with different upper and lower case: write exactly {sub}"
        ))],
        "AADSTS700024" | "AADSTS500133" => {
            vec![Cause::clock(
                "Entra considers the token expired or not yet valid: check this machine's clock",
            )]
        }
        "AADSTS50013" => vec![
            Cause::early(format!(
                "Entra may use an earlier JWKS of {iss} for a while, without the RSA key {kid}, for example \
                 after a forced rotation"
            )),
            jwks(format!("Entra may fetch another JWKS: the JWKS must have the RSA key {kid}")),
        ],
        "AADSTS50027" => vec![jwks(format!(
            "Entra could not verify the token, or read it: it must find the RSA key {kid} in the JWKS of {iss}"
        ))],
        "AADSTS5002730" => vec![
            Cause::new(
                format!("Entra verifies RS256 only, and the token is signed with {alg}"),
                Fix::Feed("--alg RS256".to_owned()),
            ),
            jwks(format!("Entra may consider the key {kid} not to be an RSA key")),
        ],
        "AADSTS90061" | "AADSTS50166" | "AADSTS501661" => vec![Cause::act(
            format!(
                "Entra could not fetch {iss}/.well-known/openid-configuration or the JWKS that it names: \
                 both must be public and respond quickly"
            ),
            format!("make {iss} reachable from the internet; it must respond quickly and without a redirect"),
        )],
        "AADSTS900612" => vec![jwks(format!(
            "Entra could not read the JWKS of {iss}: check that nothing in between changes it"
        ))],
        "AADSTS700027" | "AADSTS50012" | "AADSTS50006" | "AADSTS900384" => vec![jwks(format!(
            "Entra could not verify the token's signature: it must find the RSA key {kid} in the JWKS of {iss}"
        ))],
        "AADSTS50048" => vec![Cause::trust(format!(
            "{credential} must name exactly the issuer {iss} and the subject {sub}"
        ))],
        "AADSTS500011" => vec![Cause::new(
            format!(
                "tenant {tenant_id} does not have the resource of the requested scope: check tenant_id, and \
                 that the tenant is in the registry's cloud"
            ),
            tenant(),
        )],
        "AADSTS700016" | "AADSTS700011" => vec![
            Cause::new(
                format!(
                    "tenant {tenant_id} has no application or managed identity with the client id \
                     {client_id}: use the client id, not the object id, and an identity of this tenant"
                ),
                Fix::Feed("--client-id UUID".to_owned()),
            ),
            new(),
        ],
        "AADSTS90002" | "AADSTS900021" | "AADSTS900023" => {
            vec![Cause::new(format!("there is no tenant {tenant_id} in this cloud"), tenant())]
        }
        "AADSTS90038" | "AADSTS900382" | "AADSTS900432" | "AADSTS90051" | "AADSTS1000104" => {
            vec![Cause::new(
                format!("tenant {tenant_id} and the registry are in different Azure clouds"),
                tenant(),
            )]
        }
        code if is_throttling(code) => vec![throttled("azure")],
        "AADSTS70023" => vec![Cause::new(
            "the token lives longer than Entra accepts: lower token_lifetime",
            Fix::Feed("--token-lifetime 10m".to_owned()),
        )],
        code => identity::of_state(code, azure),
    }
}

/// Returns the causes for a refusal by the token endpoints of the registry `service`. A missing role and a
/// network rule have the same code; the message distinguishes them.
pub(crate) fn of_acr(
    code: Option<&str>,
    status: Option<u16>,
    message: &str,
    azure: &AzureAcr,
    service: &str,
) -> Vec<Cause> {
    let AzureAcr { tenant_id, client_id } = azure;
    match (code, status) {
        (_, Some(404 | 405)) => vec![Cause::new(
            "the endpoint registry is not an Azure container registry",
            Fix::Endpoints(&["registry"]),
        )],
        (Some("UNAUTHORIZED" | "DENIED"), _) | (None, Some(401 | 403)) => {
            if let Some(causes) = of_network(message, service) {
                return causes;
            }
            if message.to_ascii_lowercase().contains("tenant") {
                return vec![Cause::new(
                    format!("the registry does not belong to tenant {tenant_id}"),
                    Fix::Feed("--tenant-id UUID".to_owned()),
                )];
            }
            vec![
                Cause::trust(format!(
                    "{client_id} needs a role on {service} that allows pulling, such as AcrPull"
                )),
                Cause::new(
                    format!("the registry may belong to another tenant than {tenant_id}"),
                    Fix::Feed("--tenant-id UUID".to_owned()),
                ),
                Cause::act(
                    "the registry's network rules may block this machine's address",
                    "allow this machine's address in the registry's network rules",
                ),
                Cause::early("a new role assignment takes some minutes to take effect"),
            ]
        }
        _ => Vec::new(),
    }
}

/// Returns the causes for a refusal by the registry's network rules; `None` if the message is about something
/// else.
pub(super) fn of_network(message: &str, service: &str) -> Option<Vec<Cause>> {
    let message = message.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    let why = if says(&["client with ip", "acr/firewall"]) {
        format!("the network rules of {service} do not allow this machine's address")
    } else if says(&["public network access", "private endpoint", "private link"]) {
        format!("{service} accepts no requests from public networks")
    } else {
        return None;
    };
    let what = format!(
        "allow this machine's address in the network rules of {service}, or connect through its private \
         endpoint"
    );
    Some(vec![Cause::act(why, what)])
}
