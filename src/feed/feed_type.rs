//! The types of feeds, one per provider.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Declares the types with everything that has to name each of them, so that none is forgotten.
macro_rules! feed_types {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)+) => {
        /// The type of a feed, as in `feed add TYPE`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        pub enum FeedType {
            $($(#[$doc])* #[serde(rename = $name)] $variant,)+
        }

        impl FeedType {
            /// All types.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$variant),+];

            /// Returns the name on the command line and in JSON.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

feed_types! {
    /// A private registry of Amazon ECR.
    AwsEcr = "aws-ecr",
    /// Amazon ECR Public.
    AwsEcrPublic = "aws-ecr-public",
    /// An Azure container registry.
    AzureAcr = "azure-acr",
    /// Google Artifact Registry, and Container Registry before it.
    GoogleArtifactRegistry = "google-artifact-registry",
}

impl fmt::Display for FeedType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
