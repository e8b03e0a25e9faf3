//! The causes of faults in an issuer's own documents, as fetched from its URL, and in its minting.

use super::{Cause, Fix};

/// Returns the causes if the provider metadata or the JWKS at `url` is unavailable, with this status or
/// without a response.
pub(crate) fn unavailable(iss: &str, url: &str, status: Option<u16>) -> Vec<Cause> {
    let serve = || {
        Cause::new(
            format!("no server is running for the issuer {iss}"),
            Fix::Command(format!("carnet serve --issuer {iss}")),
        )
    };
    let inspect = |why: &str| Cause::new(why, Fix::Command(format!("curl -i {url}")));
    match status {
        Some(300..=399) => vec![inspect(
            "the response is a redirect, which clouds do not follow: serve the documents at the issuer URL \
             itself",
        )],
        Some(404) => vec![
            inspect(
                "a proxy before carnet changes the path: it must pass /.well-known on below the issuer URL's \
                 path",
            ),
            serve(),
        ],
        Some(401 | 403) => {
            vec![inspect("something before carnet requires a login: both documents must be public")]
        }
        Some(500..) => vec![serve(), inspect("the proxy before carnet does not reach it")],
        Some(_) => vec![inspect("something other than carnet responds at the issuer URL")],
        None => vec![
            serve(),
            inspect(
                "the host name does not resolve to carnet or its proxy, or a firewall blocks the connection \
                 from this machine",
            ),
        ],
    }
}

/// Returns the causes if the provider metadata names another issuer.
pub(crate) fn other_issuer(iss: &str, url: &str) -> Vec<Cause> {
    vec![
        Cause::new(
            format!(
                "the document names another issuer: it must name {iss}, byte for byte, without a slash at \
                 its end"
            ),
            Fix::Command(format!("carnet serve --issuer {iss}")),
        ),
        Cause::new("a proxy or cache may change the document", Fix::Command(format!("curl -i {url}"))),
    ]
}

/// Returns the causes if a document cannot be parsed.
pub(crate) fn unreadable(url: &str) -> Vec<Cause> {
    vec![Cause::new(
        "something other than carnet responds there, or changes the document in between",
        Fix::Command(format!("curl -i {url}")),
    )]
}

/// Returns the causes if the signing key is missing from the served JWKS. `strange` is set if the JWKS has
/// keys, but none of this issuer.
pub(crate) fn key_not_visible(iss: &str, kid: &str, jwks_uri: &str, strange: bool) -> Vec<Cause> {
    let cache = || Cause::early(format!("a cache before carnet serves an older JWKS, without the key {kid}"));
    let inspect = Cause::new(
        "a cache may keep it for longer than its Cache-Control allows",
        Fix::Command(format!("curl -i {jwks_uri}")),
    );
    let database = Cause::new(
        "the server at the issuer URL uses another database: its JWKS has none of this database's keys",
        Fix::Command(format!("carnet serve --issuer {iss}")),
    );
    if strange { vec![database, cache(), inspect] } else { vec![cache(), inspect] }
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
        "the feed's subject has more or longer keys than the provider accepts",
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
        "the feed's audience is at or below the issuer URL: it was set before the issuer was known, or by \
         something other than carnet",
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
            "the issuer was stopped for so long that its clock must be accepted",
            "compare this machine's clock with a right one, then run `carnet key clock --accept`",
        ),
    ]
}

/// Returns the cause if the active key cannot sign.
pub(crate) fn no_signer() -> Vec<Cause> {
    vec![Cause::act(
        "the master key was replaced, and this process has the earlier one",
        "start it with the current master key (--keys-dir or CARNET_MASTER_KEY_FILE)",
    )]
}

/// Returns the causes if a published copy of the documents lacks the signing key.
pub(crate) fn unpublished(location: &str) -> Vec<Cause> {
    vec![
        Cause::act(
            format!(
                "every key was replaced, or {location} was changed by something other than carnet, and carnet \
                 has not written there since"
            ),
            format!(
                "make sure that a server runs with --publish {location} and can write there, or run `carnet \
                 publish {location}`"
            ),
        ),
        Cause::act(
            format!("no verifier reads {location} any more"),
            format!("run `carnet publish {location} --forget`"),
        ),
    ]
}

/// Returns the cause if the database or its audit log fails.
pub(crate) fn storage() -> Vec<Cause> {
    vec![Cause::act(
        "the database is not available, or its disk is full",
        "check the log and the database's disk",
    )]
}
