//! The routes by which requests are counted.

/// The templates of all routes; every other path counts as [`OTHER`].
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

/// The label of every path without a route, so that clients cannot add labels.
pub(super) const OTHER: &str = "other";

/// Returns the label of a route's template.
pub(super) fn label(template: &str) -> &'static str {
    ROUTES.iter().copied().find(|route| *route == template).unwrap_or(OTHER)
}
