//! The issuer URL itself, and the trust and addresses with which the public documents are fetched.

use super::Finding;
use super::address::Reach;
use super::fetch::Trust;
use crate::values::issuer_url::IssuerUrl;

/// The finding that names the trust and the addresses of this run.
pub const VIEW: &str = "view";
const ISSUER_URL: &str = "issuer-url";

/// Reports the trust and the addresses of this run. A relaxed rule is a warning, because a cloud does not
/// relax it.
#[must_use]
pub fn check_view(trust: &Trust, reach: Reach) -> Finding {
    let trusted = match trust {
        Trust::PublicWebRoots => "only the public web roots (Mozilla's, built in)".to_owned(),
        Trust::Only { file, .. } => format!("only the certificates in {} (--ca)", file.display()),
    };
    let reached = match reach {
        Reach::PublicOnly => "public addresses only",
        Reach::AllowPrivate => "private addresses and this machine, too (--allow-private)",
    };
    let summary = format!("from this machine, trusting {trusted}, at {reached}");
    let proof = "This is this machine's view; only `carnet feed check` proves that the cloud itself can \
                 fetch.";
    if (trust, reach) == (&Trust::PublicWebRoots, Reach::PublicOnly) {
        return Finding::ok(VIEW, summary).detail(proof);
    }
    Finding::warning(VIEW, summary)
        .detail(format!("{proof} Clouds trust public authorities and reach public addresses only."))
        .hint("run it without --ca and --allow-private to check as a cloud does")
}

/// Checks that clouds accept such a URL.
#[must_use]
pub fn check(issuer: &IssuerUrl, reach: Reach) -> Finding {
    if issuer.is_loopback() {
        let summary = format!("no cloud can reach {issuer}: it is a loopback address");
        let finding = match reach {
            Reach::PublicOnly => Finding::failed(ISSUER_URL, format!("{summary}; nothing was fetched")),
            Reach::AllowPrivate => Finding::warning(ISSUER_URL, summary),
        };
        return finding
            .detail("Such an issuer is only for tests with `carnet sandbox`.")
            .hint("`carnet serve --issuer https://… --change-issuer` for the clouds; --allow-private checks it as it is");
    }
    match issuer.explicit_port() {
        Some(port) => Finding::warning(ISSUER_URL, format!("{issuer} has the port {port}"))
            .detail("AWS accepts no issuer URL with a port; Azure and Google do.")
            .hint("serve it on 443 through a proxy and leave the port out, before trust is set up"),
        None => Finding::ok(ISSUER_URL, issuer.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Status;

    #[test]
    fn a_url_is_judged_by_the_clients_that_can_reach_it() {
        for (url, reach, expected) in [
            ("https://issuer.example/a", Reach::PublicOnly, Status::Ok),
            ("https://issuer.example:8443", Reach::PublicOnly, Status::Warning),
            ("http://127.0.0.1:8080", Reach::PublicOnly, Status::Failed),
            ("https://localhost", Reach::PublicOnly, Status::Failed),
            ("http://127.0.0.1:8080", Reach::AllowPrivate, Status::Warning),
        ] {
            assert_eq!(check(&url.parse().unwrap(), reach).status, expected, "{url} {reach:?}");
        }
    }

    #[test]
    fn relaxed_checks_are_named_and_never_presented_as_a_clouds_view() {
        let ca = Trust::Only { file: "ca.crt".into(), pem: Vec::new() };
        assert_eq!(check_view(&Trust::PublicWebRoots, Reach::PublicOnly).status, Status::Ok);
        for (trust, reach, named) in [
            (&ca, Reach::PublicOnly, "only the certificates in ca.crt (--ca)"),
            (&Trust::PublicWebRoots, Reach::AllowPrivate, "(--allow-private)"),
        ] {
            let finding = check_view(trust, reach);
            assert_eq!(finding.status, Status::Warning);
            assert!(finding.summary.contains(named), "{}", finding.summary);
        }
    }
}
