//! The routes that requests are counted by.

/// Every route that is answered, as its template; all else counts as [`OTHER`].
pub(super) const ROUTES: &[&str] = &[
    "/.well-known/openid-configuration",
    "/.well-known/jwks",
    "/healthz",
    "/readyz",
    "/metrics",
    "/api/v1/openapi.json",
    "/api/v1/signing-keys",
    "/api/v1/signing-keys/rotate",
    "/api/v1/signing-keys/{kid}/revoke",
    "/api/v1/spaces/{space}/feeds",
    "/api/v1/spaces/{space}/feeds/{feed}",
    "/api/v1/spaces/{space}/feeds/{feed}/credentials",
    "/api/v1/spaces/{space}/feeds/{feed}/check",
    "/api/v1/spaces/{space}/feeds/{feed}/setup",
    "/api/v1/registries/{host}/credentials",
    "/api/v1/grants",
    "/api/v1/grants/{id}",
    "/api/v1/audit",
];

/// A path that is no route, and whatever a client made up.
pub(super) const OTHER: &str = "other";

/// The label of a route's template.
pub(super) fn label(template: &str) -> &'static str {
    ROUTES.iter().copied().find(|route| *route == template).unwrap_or(OTHER)
}
