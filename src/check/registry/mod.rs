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
use crate::api_types::problem::UpstreamAnswer;
use crate::diagnosis::registry as knowledge;
use crate::exchange::transport::{FirstBytes, HttpTransport, TransportError, TransportErrorKind};
use crate::exchange::{Asked, Redactor, Secret, unreachable};
use crate::feed::{Feed, FeedType};
use crate::values::secret::{SecretString, deserialize_option as secret};

/// The step that logs in.
pub(super) const STEP: &str = "registry";

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
    /// Sends `GET /v2/` with the credential. Returns the registry, with a warning if something is doubtful.
    pub(super) async fn log_in(
        transport: &'a dyn HttpTransport,
        feed: &'a Feed,
        credential: &'a Secret,
    ) -> Result<(Self, Option<String>), Failed> {
        let authorization = match credential {
            // The token needs no challenge.
            Secret::RegistryToken(token) => Some(sensitive(format!("Bearer {}", token.reveal()))?),
            Secret::Password { .. } => None,
        };
        let base = parse(&format!("https://{}/", feed.registry))?;
        let mut registry = Self { transport, feed, credential, base, authorization, tokens: Vec::new() };
        let (first, warning) = registry.first_answer().await?;
        let challenge =
            (first.status() == StatusCode::UNAUTHORIZED).then(|| Challenge::of(first.headers())).flatten();
        let answer = match challenge {
            Some(challenge) if registry.authorization.is_none() => {
                registry.answer_challenge(challenge, STEP).await?;
                registry
                    .send(&registry.at("/v2/")?, registry.authorization.as_ref(), &Wanted::default())
                    .await?
            }
            _ => first,
        };
        if !answer.status().is_success() {
            return Err(registry.refused(STEP, &answer));
        }
        let open = registry.authorization.is_none().then(|| {
            format!("{} lets everybody in at /v2/, which says nothing about the credential", feed.registry)
        });
        Ok((registry, warning.or(open)))
    }

    /// Returns the response to `/v2/`. A registry on this machine may use plain http, as Docker permits.
    async fn first_answer(&mut self) -> Result<(Response<Bytes>, Option<String>), Failed> {
        let url = self.at("/v2/")?;
        let answer = self.raw(&url, self.authorization.as_ref(), &Wanted::default())?.await;
        match answer {
            Err(error) if self.feed.registry.is_loopback() && may_be_plain_http(error.kind()) => {
                self.base = parse(&format!("http://{}/", self.feed.registry))?;
                let url = self.at("/v2/")?;
                match self.raw(&url, self.authorization.as_ref(), &Wanted::default())?.await {
                    Ok(answer) => Ok((
                        answer,
                        Some(format!("{url} is plain http, which clients take from this machine only")),
                    )),
                    // The https error is the registry's fault; the lack of plain http is not.
                    Err(_) => Err(self.silent(STEP, &error)),
                }
            }
            Err(error) => Err(self.silent(STEP, &error)),
            Ok(answer) => Ok((answer, None)),
        }
    }

    /// Gets a path below `/v2/`, following redirects.
    pub(super) async fn get(
        &mut self,
        step: &'static str,
        path: &str,
        wanted: &Wanted<'_>,
    ) -> Result<Response<Bytes>, Failed> {
        let mut url = self.at(path)?;
        let mut answer = self.send(&url, self.authorization.as_ref(), wanted).await?;
        if answer.status() == StatusCode::UNAUTHORIZED
            && let Some(challenge) = Challenge::of(answer.headers())
            && (challenge != Challenge::Basic || self.authorization.is_none())
            && matches!(self.credential, Secret::Password { .. })
        {
            self.answer_challenge(challenge, step).await?;
            answer = self.send(&url, self.authorization.as_ref(), wanted).await?;
        }
        for _ in 0..REDIRECTS {
            if !answer.status().is_redirection() {
                return Ok(answer);
            }
            let location = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            let target = location.and_then(|location| url.join(location).ok());
            url = match target {
                Some(target) if target.scheme() == "https" || target.scheme() == self.base.scheme() => target,
                _ => return Err(self.refused(step, &answer)),
            };
            answer = self.send(&url, None, wanted).await?;
        }
        Err(self.refused(step, &answer))
    }

    /// Answers the registry's challenge, if the credential may be sent to the realm that it names.
    async fn answer_challenge(&mut self, challenge: Challenge, step: &'static str) -> Result<(), Failed> {
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
        let answer = self.send(&url, Some(&basic), &Wanted::default()).await?;
        if !answer.status().is_success() {
            return Err(self.refused(step, &answer));
        }
        let token = serde_json::from_slice(answer.body()).ok();
        let token = token.and_then(|answer: TokenAnswer| answer.token.or(answer.access_token));
        let Some(token) = token else {
            return Err(Failed::new(
                "the registry's token endpoint gives no token",
                knowledge::of_login(self.feed, None, ""),
            ));
        };
        self.authorization = Some(sensitive(format!("Bearer {}", token.reveal()))?);
        self.tokens.push(token);
        Ok(())
    }

    /// Returns the token realm if the password may be sent there: to the registry itself, or to its vendor.
    fn realm(&self, realm: &str) -> Result<Url, Failed> {
        let foreign = || {
            let shown = Redactor::new([]).text(realm);
            let what = format!("the token realm {shown} is not the registry's own");
            Failed::new(what, knowledge::foreign_realm(self.feed, &shown))
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
        url: &Url,
        authorization: Option<&HeaderValue>,
        wanted: &Wanted<'_>,
    ) -> Result<Response<Bytes>, Failed> {
        self.raw(url, authorization, wanted)?.await.map_err(|error| self.silent(STEP, &error))
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

    /// Creates the failure for a missing response.
    fn silent(&self, step: &'static str, error: &TransportError) -> Failed {
        let unreached = unreachable(error.kind(), &Asked::Registry);
        let is_proxys = matches!(error.kind(), TransportErrorKind::Proxy(_));
        // A proxy's failure says nothing about the registry.
        let others = if is_proxys { Vec::new() } else { knowledge::of_login(self.feed, None, "") };
        let causes = std::iter::once(unreached).chain(others);
        let upstream = UpstreamAnswer { message: Some(error.told()), ..nothing(step) };
        Failed::new(format!("{} gives no answer: {error}", self.feed.registry), causes.collect())
            .answered(upstream)
    }

    /// Creates the failure for an unexpected response to the login.
    fn refused(&self, step: &'static str, answer: &Response<Bytes>) -> Failed {
        let upstream = self.told(step, answer);
        let causes =
            knowledge::of_login(self.feed, upstream.status, upstream.message.as_deref().unwrap_or_default());
        let what = format!("{} answers {}", self.feed.registry, answer.status().as_u16());
        Failed::new(what, causes).answered(upstream)
    }

    /// Describes a response, without the secrets that were sent.
    pub(super) fn told(&self, step: &'static str, answer: &Response<Bytes>) -> UpstreamAnswer {
        let own = match self.credential {
            Secret::Password { password, .. } => password.reveal(),
            Secret::RegistryToken(token) => token.reveal(),
        };
        let redactor = Redactor::new(self.tokens.iter().map(SecretString::reveal).chain([own]));
        let body: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
        let error = &body["errors"][0];
        let message = match error["message"].as_str() {
            Some(message) if error["detail"].is_null() => message.to_owned(),
            Some(message) => format!("{message} [detail {}]", error["detail"]),
            // For an unknown format, the beginning of the body shows who sent it.
            None => String::from_utf8_lossy(answer.body()).into_owned(),
        };
        UpstreamAnswer {
            status: Some(answer.status().as_u16()),
            code: redactor.optional(error["code"].as_str()),
            message: redactor.optional(Some(&message)),
            ..nothing(step)
        }
    }
}

/// Returns whether the failure may come from a TLS handshake with a server that uses plain HTTP.
fn may_be_plain_http(kind: TransportErrorKind) -> bool {
    matches!(
        kind,
        TransportErrorKind::Tls
            | TransportErrorKind::TlsName
            | TransportErrorKind::Timeout
            | TransportErrorKind::Other
    )
}

fn nothing(step: &str) -> UpstreamAnswer {
    UpstreamAnswer {
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
    Failed::new(format!("the registry cannot be asked: {error}"), Vec::new())
}

fn sensitive(text: String) -> Result<HeaderValue, Failed> {
    // The error for an invalid header value does not repeat the value.
    let mut value = HeaderValue::try_from(text).map_err(unaskable)?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests;
