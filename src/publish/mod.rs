//! Copies of the public documents at places that clouds can reach when the issuer itself is not.
//!
//! Each place shows what `Issuer` publishes, or an earlier state of it, never a mixture that would refuse a token:
//! the JWKS is written before the discovery document, every write is conditional on what was read, and a
//! generation says which of two is newer. Who may write there is the issuer.

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
pub use target::{DocumentName, Label, Stored, Target, TargetError, Version};
pub use target_options::{OpenTargetError, TargetOptions};
pub use write::{Conflict, Foreign, Mode, PublishError, Published, publish};
