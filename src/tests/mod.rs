//! Tests of several rooms together, without a process: promises of the library that no single room keeps.

mod audit_exchange;
mod audit_retention;
mod audit_tampering;
mod aws_support;
mod azure_support;
mod broker_forgets;
mod captured_log;
mod failures;
mod feed_aws_ecr;
mod feed_aws_ecr_logs;
mod feed_azure_acr;
mod feed_azure_acr_logs;
mod feed_google;
mod grants;
mod issuer_change;
mod key_life;
mod key_life_store;
mod uploaded_jwks;
