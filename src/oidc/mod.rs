//! The vocabulary of OpenID Connect: subjects, audiences, claims, provider metadata.
//!
//! Pure values and their JSON, independent of storage, clocks and the network.

pub mod audience;
pub mod claims;
pub mod metadata;
pub mod subject;
pub mod token;
