//! Feeds: the registries that deployments pull from, and how carnet is trusted there.

pub mod ecr_host;
pub mod registry_host;
