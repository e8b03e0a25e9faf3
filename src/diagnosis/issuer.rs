//! The causes of faults in an issuer's own documents, as fetched from its URL, and in its minting.

use super::{Cause, Fix};

/// Returns the causes if the provider metadata or the JWKS at `url` is unavailable, with this status or
/// without a response.
pub(crate) fn unavailable(iss: &str, url: &str, status: Option<u16>) -> Vec<Cause> {
    let serve = || {
        Cause::new(
            format!("nothing serves the issuer {iss} at this moment"),
            Fix::Command(format!("carnet serve --issuer {iss}")),
        )
    };
    let look = |why: &str| Cause::new(why, Fix::Command(format!("curl -i {url}")));
    match status {
        Some(300..=399) => vec![look(
            "it answers with a redirect, which clouds do not follow: serve the documents at the issuer URL itself",
        )],
        Some(404) => vec![
            look(
                "a proxy before carnet changes the path: /.well-known must arrive below the issuer URL's own path",
            ),
            serve(),
        ],
        Some(401 | 403) => {
            vec![look("something before carnet asks for a login: both documents must be public")]
        }
        Some(500..) => vec![serve(), look("the proxy before carnet does not reach it")],
        Some(_) => vec![look("something else answers at the issuer URL")],
        None => vec![
            serve(),
            look("the name does not lead to carnet or its proxy, or the way is closed from here"),
        ],
    }
}

/// Returns the causes if the provider metadata names another issuer.
pub(crate) fn other_issuer(iss: &str, url: &str) -> Vec<Cause> {
    vec![
        Cause::new(
            format!(
                "another issuer is served there: what it says must be {iss}, to the byte, without a slash at its end"
            ),
            Fix::Command(format!("carnet serve --issuer {iss}")),
        ),
        Cause::new("a proxy or cache changes the document", Fix::Command(format!("curl -i {url}"))),
    ]
}

/// Returns the causes if a document cannot be parsed.
pub(crate) fn unreadable(url: &str) -> Vec<Cause> {
    vec![Cause::new(
        "something else answers there, or changes the document on the way",
        Fix::Command(format!("curl -i {url}")),
    )]
}

/// Returns the causes if the signing key is missing from the served JWKS. `strange` is set if the JWKS has
/// keys, but none of this issuer.
pub(crate) fn key_not_visible(iss: &str, kid: &str, jwks_uri: &str, strange: bool) -> Vec<Cause> {
    let cache = || Cause::early(format!("a cache before carnet serves an older JWKS, without the key {kid}"));
    let look = Cause::new(
        "or one keeps it longer than its Cache-Control says",
        Fix::Command(format!("curl -i {jwks_uri}")),
    );
    let database = Cause::new(
        "the server at the issuer URL works on another database than this one: it knows none of this one's keys",
        Fix::Command(format!("carnet serve --issuer {iss}")),
    );
    if strange { vec![database, cache(), look] } else { vec![cache(), look] }
}

/// Returns the cause if the feed's subject needs a context key that was not given.
pub(crate) fn missing_context(key: &str) -> Vec<Cause> {
    vec![Cause::new(
        format!("the feed's subject needs the deployment's {key}"),
        Fix::CheckWith(format!("--context {key}=VALUE")),
    )]
}

/// Returns the cause if the subject is longer than the provider permits.
pub(crate) fn subject_too_long() -> Vec<Cause> {
    vec![Cause::new(
        "the feed's subject has more or longer keys than the provider takes",
        Fix::Feed("--subject-keys feed_id".to_owned()),
    )]
}

/// Returns the cause if the lifetime of the feed's tokens exceeds the maximum of the key policy.
pub(crate) fn lifetime(longest: std::time::Duration) -> Vec<Cause> {
    vec![Cause::new(
        "the key policy was tightened after the feed was made",
        Fix::Feed(format!("--token-lifetime {}s", longest.as_secs())),
    )]
}

/// Returns the cause if the feed's tokens would have carnet itself as audience.
pub(crate) fn own_audience() -> Vec<Cause> {
    vec![Cause::new(
        "the feed was given an audience at or below the issuer URL before the issuer was known, or not by carnet",
        Fix::Feed("--audience AUDIENCE".to_owned()),
    )]
}

/// Returns the cause if this machine's clock is behind.
pub(crate) fn clock_behind() -> Vec<Cause> {
    vec![Cause::clock("this machine's clock is behind")]
}

/// Returns the causes if this machine's clock is ahead, or the issuer has not run for a long time.
pub(crate) fn clock_ahead() -> Vec<Cause> {
    vec![
        Cause::clock("this machine's clock is ahead"),
        Cause::act(
            "the issuer has not run for so long that its clock has to be accepted",
            "compare this machine's clock with a right one, then run `carnet key clock --accept`",
        ),
    ]
}

/// Returns the cause if the active key cannot sign.
pub(crate) fn no_signer() -> Vec<Cause> {
    vec![Cause::act(
        "the master key was changed, and this process has the earlier one",
        "start it with the current master key (--keys-dir or CARNET_MASTER_KEY_FILE)",
    )]
}

/// Returns the causes if a published copy of the documents lacks the signing key.
pub(crate) fn unpublished(place: &str) -> Vec<Cause> {
    vec![
        Cause::act(
            format!(
                "every key was replaced, or somebody has changed {place}, and it has not been written since"
            ),
            format!(
                "see that a server runs with --publish {place} and may write there, or run `carnet publish {place}`"
            ),
        ),
        Cause::act(
            format!("no verifier looks at {place} any more"),
            format!("run `carnet publish {place} --forget`"),
        ),
    ]
}

/// Returns the cause if the database or its audit log fails.
pub(crate) fn storage() -> Vec<Cause> {
    vec![Cause::act(
        "the database does not answer, or its disk is full",
        "look at the log, and at the disk of the database",
    )]
}
