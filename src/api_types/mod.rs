//! The API's vocabulary: what requests and answers look like, for the server and for its clients.
//!
//! Shapes alone. Members of requests have the types of the floors below, so that a rule is checked where
//! JSON is read; what is unknown is refused. Answers hold plain text, so that a client of another version
//! reads them.

pub mod audit;
pub mod check;
pub mod credentials;
pub mod feeds;
pub mod grants;
pub mod problem;
mod secret_text;
pub mod setup;
pub mod signing_keys;
pub mod texts;

/// Every route of the API is below this path.
pub const PREFIX: &str = "/api/v1";
