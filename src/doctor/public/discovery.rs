//! The provider metadata (OpenID Connect Discovery 1.0 section 3).

use url::Url;

use super::served;
use crate::doctor::Finding;
use crate::doctor::fetch::Fetched;
use crate::jose::Algorithm;
use crate::oidc::metadata::{FetchedMetadata, Member};
use crate::values::issuer_url::IssuerUrl;

const DISCOVERY: &str = "discovery";
const ISSUER: &str = "issuer";
const METADATA: &str = "metadata";

/// Checks that the metadata is served, names this issuer, and has the members that clouds require.
#[must_use]
pub fn check_discovery(issuer: &IssuerUrl, fetched: &Fetched) -> Vec<Finding> {
    let metadata = match read(fetched) {
        Ok(metadata) => metadata,
        Err(finding) => return vec![finding],
    };
    vec![
        Finding::ok(DISCOVERY, format!("{} is served", fetched.url)),
        check_issuer(issuer, &metadata),
        check_metadata(issuer, &metadata),
    ]
}

/// Returns the metadata's `jwks_uri`, normalised as a URL parser writes it. Returns `None` if the metadata
/// cannot be read.
#[must_use]
pub fn jwks_uri(fetched: &Fetched) -> Option<String> {
    let uri = read(fetched).ok()?.jwks_uri()?.parse::<Url>().ok()?;
    Some(uri.into())
}

fn read(fetched: &Fetched) -> Result<FetchedMetadata, Finding> {
    let response = served(DISCOVERY, "discovery", fetched)?;
    FetchedMetadata::parse(&response.body).map_err(|error| {
        Finding::failed(DISCOVERY, format!("discovery is not a JSON object: {error}"))
            .detail(format!("GET {}", fetched.url))
            .hint("something between this machine and carnet responds instead")
    })
}

fn check_issuer(issuer: &IssuerUrl, metadata: &FetchedMetadata) -> Finding {
    let said = metadata.issuer().unwrap_or_default();
    if said == issuer.as_str() {
        return Finding::ok(ISSUER, "discovery names exactly this issuer");
    }
    let difference = if said.trim_end_matches('/') == issuer.as_str() {
        "They differ in the trailing slash."
    } else if said.eq_ignore_ascii_case(issuer.as_str()) {
        "They differ in upper and lower case."
    } else if said.split_once("://").map(|(_, rest)| rest)
        == issuer.as_str().split_once("://").map(|(_, rest)| rest)
    {
        "They differ in the scheme."
    } else {
        "Another program, or another carnet, responds there."
    };
    Finding::failed(ISSUER, format!("discovery names the issuer \"{}\", not \"{issuer}\"", shown(said)))
        .detail(format!("{difference} Every cloud compares it with the token's iss, byte for byte."))
        .hint("make the URL lead to the server of this database; a proxy must not rewrite the document")
}

fn check_metadata(issuer: &IssuerUrl, metadata: &FetchedMetadata) -> Finding {
    // `check_issuer` has told what is wrong with the issuer.
    let missing =
        Member::ALL.into_iter().filter(|member| *member != Member::Issuer && !metadata.has(*member));
    let mut problems: Vec<_> = missing.map(|member| format!("{} is missing", member.as_str())).collect();
    if let Some(algorithms) = metadata.list(Member::SigningAlgorithms) {
        let missing =
            Algorithm::ALL.iter().filter(|wanted| !algorithms.iter().any(|said| said == wanted.as_str()));
        problems.extend(missing.map(|algorithm| format!("{algorithm} is not among the algorithms")));
    }
    if let Some(said) = metadata.jwks_uri()
        && said != issuer.jwks_uri()
    {
        problems.push(format!("jwks_uri is \"{}\", not {}", shown(said), issuer.jwks_uri()));
    }
    if problems.is_empty() {
        return Finding::ok(METADATA, "has every member that clouds require");
    }
    Finding::failed(METADATA, problems.join("; "))
        .detail(
            "AWS responds with InvalidIdentityToken if a member is missing or the keys are at another URL.",
        )
        .hint("serve the document unchanged")
}

/// Escapes and shortens text from an unknown server, for a terminal.
fn shown(text: &str) -> String {
    text.chars().take(300).flat_map(char::escape_debug).collect()
}
