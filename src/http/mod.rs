//! HTTP: the edge that clouds and people reach.
//!
//! Translates requests into calls of the services below and their results into responses. Owns no state of
//! its own except sockets.

pub mod api;
pub mod client_address;
mod header_timer;
mod host;
pub mod limits;
mod line_ends;
pub mod listen_address;
pub mod listener;
pub mod public;
pub mod server;
pub mod server_status;
pub mod slow;
pub mod tls;
mod unix_socket;
