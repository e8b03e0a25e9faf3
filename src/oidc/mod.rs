//! The vocabulary of OpenID Connect: subjects, audiences, claims, provider metadata.
//!
//! Pure values and their JSON. Knows nothing of storage, clocks or the network.

pub mod audience;
pub mod claims;
pub mod metadata;
pub mod subject;
pub mod token;
