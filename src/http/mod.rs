//! HTTP: the edge that clouds and people reach.
//!
//! Translates requests into calls of the services below and answers with their results. Owns no
//! state of its own but sockets.

pub mod api;
mod header_timer;
pub mod public;
pub mod server;
pub mod tls;
