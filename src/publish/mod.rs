//! Publishes copies of the public documents to targets that clouds can reach when the issuer itself is not
//! reachable.
//!
//! A target shows the documents that `Issuer` publishes, or an earlier state of them. It never shows a
//! mixture that would make a verifier refuse a token: the JWKS is written before the discovery document,
//! every write is conditional on the version that was read, and a generation number decides which of two
//! states is newer. Anyone with write access to a target can impersonate the issuer.

pub mod edition;
mod folder;
#[cfg(feature = "publish")]
mod objects;
pub mod open;
pub mod publisher;
pub mod records;
pub mod target;
mod target_options;
mod write;

pub use edition::Edition;
pub use folder::FolderTarget;
#[cfg(feature = "publish")]
pub use objects::ObjectTarget;
pub use open::open;
pub use publisher::{BeginError, Publisher};
pub use records::Records;
pub use target::{DocumentName, Target, TargetError};
pub use target_options::{OpenTargetError, TargetOptions};
pub use write::{Conflict, Mode, PublishError, Published, publish};
