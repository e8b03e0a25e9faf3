//! The rules of access as a service: who a caller is, and what their grant lets them do.

pub mod grants;
pub mod principal;
