//! Traces to an OpenTelemetry collector, by OTLP over HTTP with protobuf.
//!
//! Owns when spans leave the machine: only when `--otlp-endpoint` says where to. The standard variables
//! `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_TRACES_SAMPLER` and `OTEL_RESOURCE_ATTRIBUTES` shape what is sent,
//! but `OTEL_EXPORTER_OTLP_ENDPOINT` by itself sends nothing: carnet runs in builds and on nodes whose
//! environment was made for other programs. For the same reason its proxy variables are without effect. Only carnet's own spans and events are exported, and none
//! of them has a token, a credential or a key in it.

use std::time::Duration;

use clap::Args;
use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{
    ExporterBuildError, Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use reqwest::redirect::Policy;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::{Layer, Registry};
use url::Url;

/// How long one request to the collector may take, and how long the end of the process waits for all.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(3);

#[derive(Debug, Args)]
pub(super) struct TraceOptions {
    /// Export traces to this OpenTelemetry collector, by OTLP over HTTP; `/v1/traces` is added to the URL
    #[arg(long, global = true, env = "CARNET_OTLP_ENDPOINT", value_name = "URL", value_parser = endpoint)]
    otlp_endpoint: Option<Url>,
}

/// The collector's base URL. A user name or password in it would be shown by `ps`; headers have a
/// variable of their own.
fn endpoint(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text).map_err(|_| "not a URL")?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err("use http or https");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("put credentials into OTEL_EXPORTER_OTLP_HEADERS");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("no query and no fragment");
    }
    Ok(url)
}

/// An export that is running. Dropped, it sends what is left.
#[derive(Debug)]
pub(super) struct Export(SdkTracerProvider);

impl Drop for Export {
    fn drop(&mut self) {
        if let Err(error) = self.0.shutdown_with_timeout(EXPORT_TIMEOUT) {
            tracing::warn!(%error, "the last traces were not exported");
        }
    }
}

/// Traces cannot be exported.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    /// The HTTP client cannot be made.
    #[error("the collector's HTTP client cannot be made")]
    Client(#[from] reqwest::Error),
    /// The exporter cannot be made, for example of a malformed variable.
    #[error(transparent)]
    Exporter(#[from] ExporterBuildError),
}

type Spans = Box<dyn Layer<Registry> + Send + Sync>;

/// The layer that exports spans, if an endpoint is given.
pub(super) fn start(options: &TraceOptions) -> Option<Result<(Spans, Export), StartError>> {
    options.otlp_endpoint.as_ref().map(|endpoint| {
        let provider = provider(endpoint)?;
        let layer = tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("carnet"))
            .with_location(false)
            .with_threads(false)
            // Others' spans and events may hold what carnet's never do.
            .with_filter(Targets::new().with_target("carnet", LevelFilter::INFO));
        Ok((layer.boxed(), Export(provider)))
    })
}

fn provider(endpoint: &Url) -> Result<SdkTracerProvider, StartError> {
    // No proxy of the environment, and no redirect: the headers may hold the collector's credentials.
    let client = reqwest::blocking::Client::builder().no_proxy().http1_only().redirect(Policy::none());
    let client = client.timeout(EXPORT_TIMEOUT).build()?;
    let exporter = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(format!("{}/v1/traces", endpoint.as_str().trim_end_matches('/')))
        .with_timeout(EXPORT_TIMEOUT)
        .with_http_client(client)
        .build()?;
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let resource = Resource::builder().with_service_name("carnet").with_attribute(version).build();
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_plain_url_without_credentials() {
        for good in ["http://127.0.0.1:4318", "https://collector.example/otlp/"] {
            endpoint(good).unwrap();
        }
        for bad in
            ["collector:4318", "ftp://a", "https://u:p@collector.example", "https://a/?token=b", "/tmp/x"]
        {
            endpoint(bad).unwrap_err();
        }
    }
}
