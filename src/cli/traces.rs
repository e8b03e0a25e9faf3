//! Exports traces to an OpenTelemetry collector, by OTLP over HTTP with protobuf.
//!
//! Spans leave the machine only if `--otlp-endpoint` names a collector. The standard variables
//! `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_TRACES_SAMPLER` and `OTEL_RESOURCE_ATTRIBUTES` apply to the export.
//! `OTEL_EXPORTER_OTLP_ENDPOINT` alone does not enable it, because carnet runs in builds and on nodes whose
//! environment was made for other programs. For the same reason the environment's proxy variables are
//! ignored. Only carnet's own spans and events are exported. None of them contains a token, a credential or a
//! key.

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

/// The timeout of one request to the collector, and of the final export at the end of the process.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(3);

#[derive(Debug, Args)]
pub(super) struct TraceOptions {
    /// Export traces to this OpenTelemetry collector, by OTLP over HTTP; `/v1/traces` is added to the URL
    #[arg(long, global = true, env = "CARNET_OTLP_ENDPOINT", value_name = "URL", value_parser = endpoint)]
    otlp_endpoint: Option<Url>,
}

/// Parses the collector's base URL. Refuses a user name or password in it, because `ps` would show them. A
/// variable for headers exists instead.
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

/// A running export. Dropping it sends the remaining spans.
#[derive(Debug)]
pub(super) struct Export(SdkTracerProvider);

impl Drop for Export {
    fn drop(&mut self) {
        if let Err(error) = self.0.shutdown_with_timeout(EXPORT_TIMEOUT) {
            tracing::warn!(%error, "the last traces were not exported");
        }
    }
}

/// The reason why traces cannot be exported.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    /// The HTTP client cannot be created.
    #[error("the collector's HTTP client cannot be made")]
    Client(#[from] reqwest::Error),
    /// The exporter cannot be created, for example because of a malformed variable.
    #[error(transparent)]
    Exporter(#[from] ExporterBuildError),
}

type Spans = Box<dyn Layer<Registry> + Send + Sync>;

/// Returns the layer that exports spans, if an endpoint is given.
pub(super) fn start(options: &TraceOptions) -> Option<Result<(Spans, Export), StartError>> {
    options.otlp_endpoint.as_ref().map(|endpoint| {
        let provider = provider(endpoint)?;
        let layer = tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("carnet"))
            .with_location(false)
            .with_threads(false)
            // Spans and events of other crates may contain secrets, which carnet's own never do.
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
