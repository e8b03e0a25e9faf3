//! The API's vocabulary: the requests and responses of the server and its clients.
//!
//! This module has only types. Members of requests have the types of the floors below, so parsing JSON checks
//! their rules; unknown members are refused. Responses hold plain text, so clients of another version can
//! read them.

pub mod audit;
pub mod check;
pub mod credentials;
pub mod feed_schemas;
pub mod feeds;
pub mod grants;
mod own_members;
pub mod problem;
mod secret_text;
pub mod setup;
pub mod signing_keys;
pub mod texts;

/// The path prefix of every route of the API.
pub const PREFIX: &str = "/api/v1";
