//! The vocabulary of OpenID Connect, pure: what a token says and to whom.

pub mod audience;
pub mod subject;
