//! What a code of Entra or ACR most often means, said in terms of what was presented.

use super::{Cause, Mend};
use crate::feed::azure::AzureAcr;
use crate::oidc::token::Presented;

/// Codes after which the same request may well succeed a moment later, whatever their status: Entra
/// could not reach the issuer.
pub(crate) fn is_transient(code: &str) -> bool {
    matches!(code, "AADSTS90061" | "AADSTS50166" | "AADSTS501661")
}

/// Refusals of Entra's token endpoint.
pub(crate) fn of_entra(code: &str, presented: &Presented, azure: &AzureAcr) -> Vec<Cause> {
    let Presented { iss, sub, aud, kid, alg } = presented;
    let AzureAcr { tenant_id, client_id } = azure;
    let jwks = |why: String| Cause::new(why, Mend::Command(format!("curl -i {iss}/.well-known/jwks")));
    let credential = format!("a federated credential of {client_id}");
    let new = || Cause::early("a new one takes some minutes until it works");
    let tenant = || Mend::Feed("--tenant-id UUID".to_owned());
    match code {
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
            "{credential} names this subject in other upper and lower case: write exactly {sub}"
        ))],
        "AADSTS700024" | "AADSTS500133" => {
            vec![Cause::clock(
                "Entra holds the token for expired or not yet valid: check this machine's clock",
            )]
        }
        "AADSTS50013" => vec![
            Cause::early(format!(
                "Entra may hold an earlier JWKS of {iss} for a while, without the RSA key {kid}, as after a forced rotation"
            )),
            jwks(format!("or what it fetches is another JWKS: it must find the RSA key {kid} there")),
        ],
        "AADSTS50027" => vec![jwks(format!(
            "Entra could not verify the token, or read it: it must find the RSA key {kid} in the JWKS of {iss}"
        ))],
        "AADSTS5002730" => vec![
            Cause::new(
                format!("Entra verifies RS256 only, and the token is signed with {alg}"),
                Mend::Feed("--alg RS256".to_owned()),
            ),
            jwks(format!("or it takes the key {kid} for one that is not RSA")),
        ],
        "AADSTS90061" | "AADSTS50166" | "AADSTS501661" => vec![Cause::act(
            format!(
                "Entra could not fetch {iss}/.well-known/openid-configuration or the JWKS that it names: both must be \
                 public and answer quickly"
            ),
            format!("have {iss} answer from the internet, quickly and without a redirect"),
        )],
        "AADSTS900612" => vec![jwks(format!(
            "Entra could not read the JWKS of {iss}: check that nothing on the way changes it"
        ))],
        "AADSTS500011" => vec![Cause::new(
            format!(
                "tenant {tenant_id} knows no resource of the scope that was asked for: check tenant_id, and that it \
                 is a tenant of the registry's cloud"
            ),
            tenant(),
        )],
        "AADSTS700016" => vec![Cause::new(
            format!(
                "tenant {tenant_id} has no application or managed identity with the client id {client_id}: not its \
                 object id, and not one of another tenant"
            ),
            Mend::Feed("--client-id UUID".to_owned()),
        )],
        "AADSTS90002" => vec![Cause::new(format!("there is no tenant {tenant_id} in this cloud"), tenant())],
        "AADSTS70023" => vec![Cause::new(
            "the token lives longer than Entra accepts: lower token_lifetime",
            Mend::Feed("--token-lifetime 10m".to_owned()),
        )],
        _ => Vec::new(),
    }
}

/// Refusals of the registry's token endpoints, where it calls itself `service`.
pub(crate) fn of_acr(code: Option<&str>, status: Option<u16>, azure: &AzureAcr, service: &str) -> Vec<Cause> {
    let AzureAcr { tenant_id, client_id } = azure;
    match (code, status) {
        (Some("UNAUTHORIZED" | "DENIED"), _) | (_, Some(401 | 403)) => vec![
            Cause::trust(format!("{client_id} needs a role on {service} that lets it pull, such as AcrPull")),
            Cause::new(
                format!("the registry must be of tenant {tenant_id}"),
                Mend::Feed("--tenant-id UUID".to_owned()),
            ),
            Cause::act(
                "and its network rules must let this machine in",
                "allow this machine's address in the registry's network rules",
            ),
            Cause::early("a new role assignment takes some minutes until it works"),
        ],
        (_, Some(404 | 405)) => vec![Cause::new(
            "the endpoint registry is not an Azure container registry",
            Mend::Feed("--endpoint registry=URL".to_owned()),
        )],
        _ => Vec::new(),
    }
}
