//! What a code of Entra or ACR most often means, said in terms of what was presented.
//!
//! Codes only: the texts beside them change and are never branched on.

use super::{acr, entra};
use crate::exchange::upstream::Upstream;
use crate::feed::azure::AzureAcr;
use crate::oidc::token::Presented;

/// Whose refusal it is.
pub(super) struct About<'a> {
    pub(super) azure: &'a AzureAcr,
    pub(super) service: &'a str,
}

/// Codes after which the same request may well succeed a moment later, whatever their status: Entra
/// could not reach the issuer.
pub(super) fn is_transient(code: &str) -> bool {
    matches!(code, "AADSTS90061" | "AADSTS50166" | "AADSTS501661")
}

/// What to look at first.
pub(super) fn hint(upstream: &Upstream, presented: &Presented, about: &About<'_>) -> Option<String> {
    let code = upstream.code.as_deref();
    if upstream.step == entra::STEP.name {
        return of_entra(code?, presented, about);
    }
    if upstream.step == acr::STEP.name || upstream.step == acr::NARROW.name {
        return of_acr(code, upstream.status, about);
    }
    None
}

fn of_entra(code: &str, presented: &Presented, about: &About<'_>) -> Option<String> {
    let Presented { iss, sub, aud, kid, .. } = presented;
    let AzureAcr { tenant_id, client_id } = about.azure;
    let credential = format!("a federated credential of {client_id}");
    Some(match code {
        "AADSTS70021" => format!(
            "{credential} must name exactly the issuer {iss}, the subject {sub} and the audience {aud}; \
             a new one takes some minutes until it works"
        ),
        "AADSTS700211" => format!(
            "{credential} must name exactly the issuer {iss}, without a slash at its end; \
             a new one takes some minutes until it works"
        ),
        "AADSTS700212" => format!("{credential} must name exactly the audience {aud}"),
        "AADSTS700213" => format!(
            "{credential} must name exactly the subject {sub}: there are no wildcards; \
             a new one takes some minutes until it works"
        ),
        "AADSTS7002138" => {
            format!("{credential} names this subject in other upper and lower case: write exactly {sub}")
        }
        "AADSTS700024" | "AADSTS500133" => {
            "Entra holds the token for expired or not yet valid: check this machine's clock".to_owned()
        }
        "AADSTS50013" | "AADSTS50027" | "AADSTS5002730" => format!(
            "Entra could not verify the token: it must find the RSA key {kid} in the JWKS of {iss}; \
             after a forced rotation it may hold an earlier JWKS for a while"
        ),
        "AADSTS90061" | "AADSTS50166" | "AADSTS501661" => format!(
            "Entra could not fetch {iss}/.well-known/openid-configuration or the JWKS that it names: \
             both must be public and answer quickly"
        ),
        "AADSTS900612" => {
            format!("Entra could not read the JWKS of {iss}: check that nothing on the way changes it")
        }
        "AADSTS500011" => format!(
            "tenant {tenant_id} knows no resource of the scope that was asked for: check tenant_id, \
             and that it is a tenant of the registry's cloud"
        ),
        "AADSTS700016" => format!(
            "tenant {tenant_id} has no application or managed identity with the client id {client_id}: \
             not its object id, and not one of another tenant"
        ),
        "AADSTS90002" => format!("there is no tenant {tenant_id} in this cloud"),
        "AADSTS70023" => "the token lives longer than Entra accepts: lower token_lifetime".to_owned(),
        _ => return None,
    })
}

fn of_acr(code: Option<&str>, status: Option<u16>, about: &About<'_>) -> Option<String> {
    let (client_id, service) = (about.azure.client_id, about.service);
    match (code, status) {
        (Some("UNAUTHORIZED" | "DENIED"), _) | (_, Some(401 | 403)) => Some(format!(
            "{client_id} needs a role on {service} that lets it pull, such as AcrPull; the registry must be of tenant {} \
             and its network rules must let this machine in; a new role assignment takes some minutes until it works",
            about.azure.tenant_id
        )),
        (_, Some(404 | 405)) => Some("the endpoint registry is not an Azure container registry".to_owned()),
        _ => None,
    }
}
