//! `GET /metrics`: for Prometheus, from this machine or with a viewer's grant.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE, VARY};

use super::Api;
use super::caller;
use crate::http::client_address::ClientAddress;
use crate::metrics::TextFormat;

/// Admits processes of this machine, and callers with a viewer's grant.
pub(super) async fn admit(api: State<Api>, request: Request, next: Next) -> Response {
    let is_loopback = request.extensions().get::<ClientAddress>().is_some_and(ClientAddress::is_loopback);
    if is_loopback {
        return next.run(request).await;
    }
    caller::authenticate_viewer(api, request, next).await
}

pub(super) async fn metrics(State(api): State<Api>, headers: HeaderMap) -> impl IntoResponse {
    let accept = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let format = TextFormat::accepted(accept);
    let described = [(CONTENT_TYPE, format.content_type()), (VARY, "Accept")];
    (described, api.carnet().metrics().encode_as(format))
}
