//! The HTTP API, seen from outside: the real binary, grants made on its host, and the sandbox's clouds.

mod audit;
mod contexts;
mod credentials;
mod document;
mod ended;
mod envelope;
mod grants;
mod hostile;
mod limited;
mod limits;
mod registries;
mod rights;
mod routes;
mod uploaded;
pub(crate) mod world;
