//! Logs in to a registry as a client does: with the password if the registry requests it, or with a token
//! obtained with the password.
//!
//! The password is sent only to the registry, and to a token realm on the registry's own host or its
//! vendor's. A redirected request carries no authorization. Every request goes through the transport, which
//! vets its address.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, LOCATION, RANGE};
use http::{HeaderValue, Request, Response, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::Failed;
use super::challenge::Challenge;
use crate::api_types::problem::UpstreamResponse;
use crate::diagnosis::{Cause, registry as causes};
use crate::exchange::transport::{FirstBytes, HttpTransport, TransportError, TransportErrorKind};
use crate::exchange::{Asked, Redactor, Secret, unreachable};
use crate::feed::{Feed, FeedType};
use crate::values::secret::{SecretString, deserialize_option as secret};

/// The step that logs in.
pub(super) const STEP: &str = "registry";
/// The step that pulls.
pub(super) const PULL: &str = "pull";

/// The maximum number of redirects to a blob.
const REDIRECTS: usize = 5;

/// A registry, accessed with one credential.
pub(super) struct Registry<'a> {
    transport: &'a dyn HttpTransport,
    pub(super) feed: &'a Feed,
    credential: &'a Secret,
    /// `https://HOST/`, or `http` if the registry is on this machine and does not support https.
    base: Url,
    authorization: Option<HeaderValue>,
    /// The tokens to remove from responses.
    tokens: Vec<SecretString>,
}

/// The purpose of a request: the step that it belongs to, and the causes of its failure.
#[derive(Clone, Copy)]
pub(super) enum Purpose<'a> {
    /// Logging in.
    LogIn,
    /// Pulling the image of this name.
    Pull(&'a str),
}

impl Purpose<'_> {
    fn step(self) -> &'static str {
        match self {
            Self::LogIn => STEP,
            Self::Pull(_) => PULL,
        }
    }
}

/// The options of a request.
#[derive(Default)]
pub(super) struct Wanted<'a> {
    pub(super) accept: Option<&'a str>,
    /// The number of bytes to read of the body.
    pub(super) first_bytes: Option<usize>,
}

#[derive(Deserialize)]
struct TokenAnswer {
    #[serde(default, deserialize_with = "secret")]
    token: Option<SecretString>,
    #[serde(default, deserialize_with = "secret")]
    access_token: Option<SecretString>,
}

impl<'a> Registry<'a> {
    /// Sends `GET /v2/` with the credential. Returns the registry, with warnings about everything doubtful.
    pub(super) async fn log_in(
        transport: &'a dyn HttpTransport,
        feed: &'a Feed,
        credential: &'a Secret,
    ) -> Result<(Self, Vec<String>), Failed> {
        let authorization = match credential {
            // The token needs no challenge.
            Secret::RegistryToken(token) => Some(sensitive(format!("Bearer {}", token.reveal()))?),
            Secret::Password { .. } => None,
        };
        let base = parse(&format!("https://{}/", feed.registry))?;
        let mut registry = Self { transport, feed, credential, base, authorization, tokens: Vec::new() };
        let (first, plain) = registry.first_answer().await?;
        let challenge =
            (first.status() == StatusCode::UNAUTHORIZED).then(|| Challenge::of(first.headers())).flatten();
        let response = match challenge {
            Some(challenge) if registry.authorization.is_none() => {
                registry.answer_challenge(challenge, Purpose::LogIn).await?;
                let authorization = registry.authorization.as_ref();
                registry
                    .send(Purpose::LogIn, &registry.at("/v2/")?, authorization, &Wanted::default())
                    .await?
            }
            _ => first,
        };
        if !response.status().is_success() {
            return Err(registry.refused(Purpose::LogIn, &response));
        }
        let open = registry.authorization.is_none().then(|| {
            format!(
                "{} accepts anonymous requests at /v2/, so this step does not test the credential",
                feed.registry
            )
        });
        Ok((registry, plain.into_iter().chain(open).collect()))
    }

    /// Returns the response to `/v2/`. A registry on this machine may use plain http, as Docker permits; a
    /// warning says so.
    async fn first_answer(&mut self) -> Result<(Response<Bytes>, Option<String>), Failed> {
        let url = self.at("/v2/")?;
        let response = self.raw(&url, self.authorization.as_ref(), &Wanted::default())?.await;
        match response {
            Err(error) if self.feed.registry.is_loopback() && may_be_plain_http(error.kind()) => {
                self.base = parse(&format!("http://{}/", self.feed.registry))?;
                let url = self.at("/v2/")?;
                match self.raw(&url, self.authorization.as_ref(), &Wanted::default())?.await {
                    Ok(response) => Ok((
                        response,
                        Some(format!("{url} is plain http, which clients accept only from this machine")),
                    )),
                    // The https error is the registry's fault; the lack of plain http is not.
                    Err(_) => Err(self.silent(Purpose::LogIn, &url, &error)),
                }
            }
            Err(error) => Err(self.silent(Purpose::LogIn, &url, &error)),
            Ok(response) => Ok((response, None)),
        }
    }

    /// Gets a path below `/v2/`, following redirects.
    pub(super) async fn get(
        &mut self,
        purpose: Purpose<'_>,
        path: &str,
        wanted: &Wanted<'_>,
    ) -> Result<Response<Bytes>, Failed> {
        let mut url = self.at(path)?;
        let mut response = self.send(purpose, &url, self.authorization.as_ref(), wanted).await?;
        if response.status() == StatusCode::UNAUTHORIZED
            && let Some(challenge) = Challenge::of(response.headers())
            && (challenge != Challenge::Basic || self.authorization.is_none())
            && matches!(self.credential, Secret::Password { .. })
        {
            self.answer_challenge(challenge, purpose).await?;
            response = self.send(purpose, &url, self.authorization.as_ref(), wanted).await?;
        }
        for _ in 0..REDIRECTS {
            if !response.status().is_redirection() {
                return Ok(response);
            }
            let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            let target = location.and_then(|location| url.join(location).ok());
            url = match target {
                Some(target) if target.scheme() == "https" || target.scheme() == self.base.scheme() => target,
                _ => return Err(self.refused(purpose, &response)),
            };
            response = self.send(purpose, &url, None, wanted).await?;
        }
        Err(self.refused(purpose, &response))
    }

    /// Answers the registry's challenge, if the credential may be sent to the realm that it names.
    async fn answer_challenge(&mut self, challenge: Challenge, purpose: Purpose<'_>) -> Result<(), Failed> {
        let Secret::Password { username, password } = self.credential else { return Ok(()) };
        let basic = STANDARD.encode(format!("{username}:{}", password.reveal()));
        let basic = sensitive(format!("Basic {basic}"))?;
        let (realm, service, scope) = match challenge {
            Challenge::Basic => {
                self.authorization = Some(basic);
                return Ok(());
            }
            Challenge::Bearer { realm, service, scope } => (realm, service, scope),
        };
        let mut url = self.realm(&realm)?;
        for (name, value) in [("service", service), ("scope", scope)] {
            if let Some(value) = value {
                url.query_pairs_mut().append_pair(name, &value);
            }
        }
        let response = self.send(purpose, &url, Some(&basic), &Wanted::default()).await?;
        if !response.status().is_success() {
            return Err(self.refused(purpose, &response));
        }
        let token = serde_json::from_slice(response.body()).ok();
        let token = token.and_then(|response: TokenAnswer| response.token.or(response.access_token));
        let Some(token) = token else {
            return Err(Failed::new(
                "the registry's token endpoint returned no token",
                self.causes(purpose, &nothing(purpose.step())),
            ));
        };
        self.authorization = Some(sensitive(format!("Bearer {}", token.reveal()))?);
        self.tokens.push(token);
        Ok(())
    }

    /// Returns the token realm if the password may be sent there: to the registry itself, or to its vendor.
    fn realm(&self, realm: &str) -> Result<Url, Failed> {
        let foreign = || {
            let shown = self.redactor().text(realm);
            let what = format!("the token realm {shown} is not the registry's own");
            Failed::new(what, causes::foreign_realm(self.feed, &shown))
        };
        let url = self.base.join(realm).map_err(|_| foreign())?;
        let is_own = url.scheme() == self.base.scheme()
            && url.host() == self.base.host()
            && url.port_or_known_default() == self.base.port_or_known_default();
        let vendor = match self.feed.provider.feed_type() {
            FeedType::AwsEcrPublic => Some("public.ecr.aws"),
            FeedType::GoogleArtifactRegistry => Some("gcr.io"),
            // These use only the registry's own host.
            FeedType::AwsEcr | FeedType::AzureAcr => None,
        };
        let is_vendors =
            url.scheme() == "https" && url.port().is_none() && url.host_str() == vendor && vendor.is_some();
        let is_bare = url.username().is_empty() && url.password().is_none();
        if (is_own || is_vendors) && is_bare { Ok(url) } else { Err(foreign()) }
    }

    async fn send(
        &self,
        purpose: Purpose<'_>,
        url: &Url,
        authorization: Option<&HeaderValue>,
        wanted: &Wanted<'_>,
    ) -> Result<Response<Bytes>, Failed> {
        self.raw(url, authorization, wanted)?.await.map_err(|error| self.silent(purpose, url, &error))
    }

    fn raw(
        &self,
        url: &Url,
        authorization: Option<&HeaderValue>,
        wanted: &Wanted<'_>,
    ) -> Result<crate::exchange::transport::SendFuture<'a>, Failed> {
        let mut request = Request::get(url.as_str());
        if let Some(value) = authorization {
            request = request.header(AUTHORIZATION, value);
        }
        if let Some(types) = wanted.accept {
            request = request.header(ACCEPT, types);
        }
        if let Some(first) = wanted.first_bytes {
            request = request
                .header(RANGE, format!("bytes=0-{}", first.saturating_sub(1)))
                .extension(FirstBytes(first));
        }
        let request = request.body(Bytes::new()).map_err(unaskable)?;
        Ok(self.transport.send(request))
    }

    fn at(&self, path: &str) -> Result<Url, Failed> {
        self.base.join(path).map_err(unaskable)
    }

    /// Creates the failure for a missing response of the registry, or of a host that it names.
    fn silent(&self, purpose: Purpose<'_>, url: &Url, error: &TransportError) -> Failed {
        let is_own = url.host() == self.base.host() && url.port() == self.base.port();
        let host = if is_own { self.feed.registry.to_string() } else { url.authority().to_owned() };
        let asked = if is_own { Asked::Registry } else { Asked::Named(&host) };
        let is_proxys = matches!(error.kind(), TransportErrorKind::Proxy(_));
        let others = match purpose {
            Purpose::LogIn if is_own && !is_proxys => self.causes(purpose, &nothing(STEP)),
            // A failure of a proxy or another host says nothing about the registry, and a registry that has
            // accepted the credential is one.
            _ => Vec::new(),
        };
        let causes = std::iter::once(unreachable(error.kind(), &asked)).chain(others);
        let upstream = UpstreamResponse { message: Some(error.description()), ..nothing(purpose.step()) };
        Failed::new(format!("{host} did not respond: {error}"), causes.collect()).answered(upstream)
    }

    /// Creates the failure for an unexpected response.
    pub(super) fn refused(&self, purpose: Purpose<'_>, response: &Response<Bytes>) -> Failed {
        let upstream = self.upstream_response(purpose, response);
        let what = match purpose {
            Purpose::LogIn => format!("{} responded with {}", self.feed.registry, response.status().as_u16()),
            Purpose::Pull(image) => format!("{image} cannot be pulled"),
        };
        Failed::new(what, self.causes(purpose, &upstream)).answered(upstream)
    }

    fn causes(&self, purpose: Purpose<'_>, upstream: &UpstreamResponse) -> Vec<Cause> {
        let UpstreamResponse { status, code, message, .. } = upstream;
        let message = message.as_deref().unwrap_or_default();
        match purpose {
            Purpose::LogIn => causes::of_login(self.feed, *status, message),
            Purpose::Pull(image) => causes::of_pull(image, code.as_deref(), *status, message, self.feed),
        }
    }

    /// Returns a redactor for everything that was sent.
    fn redactor(&self) -> Redactor {
        let tokens = Redactor::new(self.tokens.iter().map(SecretString::reveal));
        match self.credential {
            Secret::Password { username, password } => tokens.with_login(username, password.reveal()),
            Secret::RegistryToken(token) => tokens.and(Redactor::new([token.reveal()])),
        }
    }

    /// Describes a response, without the secrets that were sent.
    fn upstream_response(&self, purpose: Purpose<'_>, response: &Response<Bytes>) -> UpstreamResponse {
        let redactor = self.redactor();
        let body: Value = serde_json::from_slice(response.body()).unwrap_or_default();
        let error = &body["errors"][0];
        let message = match error["message"].as_str() {
            Some(message) if error["detail"].is_null() => message.to_owned(),
            Some(message) => format!("{message} [detail {}]", error["detail"]),
            // For an unknown format, the beginning of the body shows who sent it.
            None => String::from_utf8_lossy(response.body()).into_owned(),
        };
        UpstreamResponse {
            status: Some(response.status().as_u16()),
            code: redactor.optional(error["code"].as_str()),
            message: redactor.optional(Some(&message)),
            ..nothing(purpose.step())
        }
    }
}

/// Returns whether the failure may come from a TLS handshake with a server that uses plain HTTP.
fn may_be_plain_http(kind: TransportErrorKind) -> bool {
    matches!(kind, TransportErrorKind::Tls(_) | TransportErrorKind::Timeout | TransportErrorKind::Other)
}

fn nothing(step: &str) -> UpstreamResponse {
    UpstreamResponse {
        provider: "registry".to_owned(),
        step: step.to_owned(),
        status: None,
        code: None,
        message: None,
        request_id: None,
    }
}

fn parse(url: &str) -> Result<Url, Failed> {
    Url::parse(url).map_err(unaskable)
}

fn unaskable(error: impl std::fmt::Display) -> Failed {
    Failed::new(format!("no request can be sent to the registry: {error}"), Vec::new())
}

fn sensitive(text: String) -> Result<HeaderValue, Failed> {
    // The error for an invalid header value does not repeat the value.
    let mut value = HeaderValue::try_from(text).map_err(unaskable)?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests;
