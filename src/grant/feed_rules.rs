//! Rules for feeds that the holder of a grant creates or changes, in addition to the rules for seeing them.
//!
//! A grant's limits would be worthless if its holder could change the fields that the limits rest on: the
//! feed's subject, which separates its trust from that of other feeds and names the context, and the hosts
//! and identities that receive the token and the limited session.

use thiserror::Error;

use super::limits::FeedLimit;
use super::permissions::Permissions;
use crate::feed::Feed;
use crate::feed::google::JwksSource;

/// The grant reaches the feed, but does not allow this change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FeedRefusal {
    /// The subject could be that of a feed outside the grant.
    #[error(
        "subject_keys: this grant is limited to certain feeds, so a feed that it makes or changes must name “feed” or \
         “feed_id” in its subject"
    )]
    SharedSubject,
    /// The holder could choose any subject and any host for a new feed.
    #[error(
        "slug: this grant is limited in context, repositories or actions, and cannot make a feed: none of \
         these limits would apply to a new feed"
    )]
    Makes,
    /// The grant's limits rest on this field.
    #[error(
        "{0}: this grant is limited in context, repositories or actions, which this field could circumvent"
    )]
    Field(&'static str),
    /// The rotation of every key would wait for this feed.
    #[error(
        "jwks: the rotation of the issuer's keys waits for a feed whose JWKS is uploaded, so this needs an admin's \
         grant without limits"
    )]
    Uploaded,
}

impl FeedRefusal {
    /// Returns the field concerned.
    #[must_use]
    pub fn field(self) -> &'static str {
        match self {
            Self::SharedSubject => "subject_keys",
            Self::Makes => "slug",
            Self::Field(field) => field,
            Self::Uploaded => "jwks",
        }
    }
}

impl Permissions {
    /// Checks that the holder of a grant that reaches `feed` may create it.
    ///
    /// # Errors
    ///
    /// [`FeedRefusal`] names the field and the reason.
    pub fn check_new_feed(&self, feed: &Feed) -> Result<(), FeedRefusal> {
        if self.is_limited_in_use() {
            return Err(FeedRefusal::Makes);
        }
        self.check_subject(feed)?;
        if feed.provider.jwks() == JwksSource::Uploaded && !self.is_unlimited_admin() {
            return Err(FeedRefusal::Uploaded);
        }
        Ok(())
    }

    /// Checks that the holder of a grant that reaches the feed may change `before` into `after`.
    ///
    /// # Errors
    ///
    /// [`FeedRefusal`] names the field and the reason.
    pub fn check_changed_feed(&self, before: &Feed, after: &Feed) -> Result<(), FeedRefusal> {
        self.check_subject(before)?;
        self.check_subject(after)?;
        if self.is_limited_in_use() {
            // The registry determines the cloud and thus the hosts that receive a token.
            let changed = [
                ("subject_keys", before.subject_keys != after.subject_keys),
                ("endpoints", before.endpoints != after.endpoints),
                ("registry", before.registry != after.registry),
                ("audience", before.audience != after.audience),
                (changed_own_field(before, after), before.provider != after.provider),
            ];
            if let Some((field, _)) = changed.into_iter().find(|(_, changed)| *changed) {
                return Err(FeedRefusal::Field(field));
            }
        }
        if waited_for(before) != waited_for(after) && !self.is_unlimited_admin() {
            return Err(FeedRefusal::Uploaded);
        }
        Ok(())
    }

    /// Returns whether the grant limits credentials, not only feeds.
    fn is_limited_in_use(&self) -> bool {
        let unlimited = Self::unlimited_admin();
        self.context.wider_key(&unlimited.context).is_some() || !self.scope.is_everything()
    }

    fn check_subject(&self, feed: &Feed) -> Result<(), FeedRefusal> {
        if self.feeds.covers(&FeedLimit::All) || feed.subject_keys.names_one_feed() {
            return Ok(());
        }
        Err(FeedRefusal::SharedSubject)
    }
}

/// Returns the field of the feed's type that differs.
fn changed_own_field(before: &Feed, after: &Feed) -> &'static str {
    let [old, new] = [before, after].map(|feed| feed.provider.fields());
    let fields = after.provider.feed_type().fields();
    fields.iter().map(|field| field.name).find(|name| old.get(*name) != new.get(*name)).unwrap_or("type")
}

/// Returns the provider and the algorithm of the keys that wait for this feed, if its JWKS is uploaded.
fn waited_for(
    feed: &Feed,
) -> Option<(&crate::feed::google::WorkloadIdentityProvider, crate::jose::Algorithm)> {
    Some((feed.provider.uploaded_to()?, feed.alg))
}
