//! The tasks behind [`Carnet::run`](super::Carnet::run): maintenance, the audit log's upkeep, published copies.

pub mod audit_log;
pub mod maintenance;
mod publishing;
