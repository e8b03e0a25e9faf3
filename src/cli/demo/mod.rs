//! `carnet demo`: the whole chain on this machine, step by step.
//!
//! The demo takes no shortcut. The issuer serves its documents over HTTP, and the sandbox fetches them and
//! verifies each token before it responds.

mod api;

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use clap::Args;
use http::Request;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::failure::CommandFailure;
use super::output::line;
use super::serve::{shutdown_signal, stopped};
use crate::audit::{Event, EventKind, Outcome};
use crate::carnet::{Carnet, Config, MasterKeySource};
use crate::exchange::address::Loopback;
use crate::exchange::transport::{HttpTransport as _, ReqwestTransport, TransportConfig};
use crate::exchange::{Credential, ExchangeError, ExchangeRequest, Secret, exchange};
use crate::feed::aws::AssumedRole;
use crate::feed::azure::AzureAcr;
use crate::feed::endpoints::Endpoints;
use crate::feed::google::GoogleArtifactRegistry;
use crate::feed::scope::Scope;
use crate::feed::{Feed, FeedDraft, Provider, ecr_public};
use crate::feeds::{Feeds, Sharing};
use crate::http::api::{Api, ApiLimits};
use crate::http::public::{Detail, PublicDocuments};
use crate::http::server::{Served, Settings, serve};
use crate::jose::Algorithm;
use crate::jose::jwk::FetchedJwkSet;
use crate::oidc::subject::Context;
use crate::oidc::token::SignedToken;
use crate::sandbox::{Sandbox, SandboxConfig, SandboxEndpoints};
use crate::signing_keys::rotation::RotationRequest;
use crate::store::IfMissing;
use crate::values::actor::Actor;
use crate::values::issuer_url::IssuerUrl;
use crate::values::random::SecureRandom;
use crate::values::secret::SecretString;

const REGISTRY: &str = "123456789012.dkr.ecr.eu-central-1.amazonaws.com";
const ROLE: &str = "arn:aws:iam::123456789012:role/carnet-pull";
const AZURE_REGISTRY: &str = "images.azurecr.io";
const TENANT: &str = "8f3c1b2a-0d4e-4f5a-9b6c-7d8e9f0a1b2c";
const APPLICATION: &str = "0b9d6c5e-1f2a-4b3c-8d4e-5f6a7b8c9d0e";
const GOOGLE_REGISTRY: &str = "europe-west1-docker.pkg.dev";
const PROVIDER: &str = "projects/123456789012/locations/global/workloadIdentityPools/carnet/providers/carnet";
const ACCOUNT: &str = "pull@my-project.iam.gserviceaccount.com";

#[derive(Debug, Args)]
pub(super) struct DemoArguments {
    /// Keep everything running at the end, and print its addresses
    #[arg(long)]
    keep: bool,
}

pub(super) async fn run(arguments: DemoArguments) -> Result<(), CommandFailure> {
    let folder = tempfile::Builder::new().prefix("carnet-demo-").tempdir()?;
    let (stop, stopping) = watch::channel(false);
    let stage = Stage::set(folder.path(), stopping).await?;
    stage.play().await?;
    if arguments.keep {
        stage.print_next_steps(folder.path())?;
        stopped(shutdown_signal()?).await;
    }
    stop.send_replace(true);
    // The maintenance task writes to the database once more as it stops.
    stage.maintenance.await.map_err(anyhow::Error::new)?;
    stage.carnet.store().close().await;
    Ok(())
}

/// A running issuer and a cloud that trusts it.
struct Stage {
    carnet: Arc<Carnet>,
    maintenance: JoinHandle<()>,
    feeds: Feeds,
    endpoints: SandboxEndpoints,
    transport: ReqwestTransport,
}

impl Stage {
    async fn set(folder: &Path, stopping: watch::Receiver<bool>) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url: IssuerUrl = format!("http://{}", listener.local_addr()?).parse()?;
        line_or("An issuer with its database and master key, on this machine only.")?;
        let database = folder.join("carnet.db").into();
        let config = Config {
            if_missing: IfMissing::Create,
            issuer: Some(url.clone()),
            ..Config::new(database, MasterKeySource::Folder(folder.join("keys")))
        };
        let carnet = Arc::new(Carnet::open(config).await?);
        step("issuer", url.as_str())?;
        step("discovery", &url.discovery_url())?;
        step("JWKS", &url.jwks_uri())?;

        let documents = PublicDocuments::new(Arc::clone(carnet.issuer()), Detail::Full);
        tokio::spawn(serve(
            listener,
            Served { documents, router: Api::new(Arc::clone(&carnet), ApiLimits::default())?.router() },
            Settings::default(),
            Arc::clone(carnet.clock()),
            stopped(stopping.clone()),
        ));
        let maintenance = tokio::spawn({
            let (carnet, stopping) = (Arc::clone(&carnet), stopping.clone());
            async move { Box::pin(carnet.run(stopped(stopping))).await }
        });

        line_or("\nA stand-in for AWS that knows one role, which trusts two subjects of that issuer.")?;
        let trust = format!(
            "[[aws.roles]]\narn = \"{ROLE}\"\naudiences = [\"sts.amazonaws.com\"]\nsubjects = [\"space:default:feed:prod\", \"space:default:feed:public\"]\n\
             [[azure.applications]]\nclient_id = \"{APPLICATION}\"\nsubject = \"space:default:feed:azure\"\n\
             [[google.providers]]\nname = \"{PROVIDER}\"\nsubjects = [\"space:default:feed:google\"]\n\
             [[google.service_accounts]]\nemail = \"{ACCOUNT}\"\nsubjects = [\"space:default:feed:google\"]\n"
        );
        let config: SandboxConfig = trust.parse()?;
        let random = Arc::new(SecureRandom::default());
        let sandbox = Sandbox::new(url, config, None, Arc::clone(carnet.clock()), random.clone())?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let endpoints = SandboxEndpoints::at(listener.local_addr()?);
        tokio::spawn(sandbox.serve(listener, stopped(stopping)));
        step("STS", &endpoints.endpoints.aws.sts)?;
        step("ECR", &endpoints.endpoints.aws.ecr)?;
        step("role", ROLE)?;
        step("trusts", "aud=sts.amazonaws.com sub=space:default:feed:prod")?;
        step("trusts", "aud=sts.amazonaws.com sub=space:default:feed:public")?;
        line_or("\nOne for Azure, with an application that has one federated credential.")?;
        step("Entra", &endpoints.endpoints.azure.authority)?;
        step("ACR", &endpoints.endpoints.azure.registry)?;
        step("trusts", "aud=api://AzureADTokenExchange sub=space:default:feed:azure")?;
        line_or(
            "\nOne for Google, with a provider whose condition names one subject, and a service account.",
        )?;
        step("STS", &endpoints.endpoints.google.sts)?;
        step("IAM", &endpoints.endpoints.google.iamcredentials)?;
        step("trusts", &format!("aud=//iam.googleapis.com/{PROVIDER} sub=space:default:feed:google"))?;

        let feeds = Feeds::new(carnet.store().clone(), Arc::clone(carnet.clock()), random);
        let transport = ReqwestTransport::new(TransportConfig {
            loopback: Loopback::Allow,
            ..TransportConfig::default()
        })?;
        Ok(Self { carnet, maintenance, feeds, endpoints, transport })
    }

    async fn play(&self) -> anyhow::Result<()> {
        line_or("\nA feed: one registry, and the role that pulls from it.")?;
        let feed = self.feed("prod").await?;
        step("feed", &feed.path().to_string())?;
        step("registry", feed.registry.as_str())?;

        line_or("\nA credential. No secret was configured anywhere: the token is the proof.")?;
        let first = self.mint(&feed).await?;
        let credential = self.credential(&feed, &first).await?;
        show(&credential)?;

        line_or("\nFrom Amazon ECR Public, with the same role.")?;
        let public = self.public_feed().await?;
        step("feed", &public.path().to_string())?;
        step("registry", public.registry.as_str())?;
        let token = self.mint(&public).await?;
        show(&self.credential(&public, &token).await?)?;

        line_or("\nThe same for Azure, signed with RS256: Entra accepts nothing else.")?;
        let azure = self.azure_feed().await?;
        step("feed", &azure.path().to_string())?;
        let token = self.mint(&azure).await?;
        show(&self.credential(&azure, &token).await?)?;

        line_or("\nFor Google, as a service account.")?;
        let google = self.google_feed().await?;
        step("feed", &google.path().to_string())?;
        let token = self.mint(&google).await?;
        show(&self.credential(&google, &token).await?)?;

        // The API is served at the issuer URL, too.
        api::play(&self.carnet, self.carnet.issuer().url().as_str(), &feed.path()).await?;

        line_or("\nA rotation, forced because these keys are seconds old; the key that signed retires.")?;
        self.rotate().await?;

        line_or("\nThe token from before the rotation still verifies: its key stays published.")?;
        let published = self.published_kids().await?;
        step("published", &format!("{} keys", published.len()))?;
        ensure!(published.contains(&first.presented.kid), "the retired key left the JWKS too early");
        self.credential(&feed, &first).await.context("the token from before the rotation")?;
        step("accepted", &format!("kid={}", first.presented.kid))?;

        line_or("\nA credential again, with the new key.")?;
        let second = self.mint(&feed).await?;
        ensure!(second.presented.kid != first.presented.kid, "the rotation did not change the signing key");
        ensure!(published.contains(&second.presented.kid), "a key signs that is not published");
        show(&self.credential(&feed, &second).await?)?;

        line_or("\nA feed that the role does not trust is refused, and the refusal gives the reason.")?;
        let stranger = self.feed("other").await?;
        let token = self.mint(&stranger).await?;
        match self.exchange(&stranger, &token).await {
            Ok(_) => anyhow::bail!("the role trusts a subject that it should not"),
            Err(error) => {
                let upstream = error.upstream().context("the refusal did not come from the sandbox")?;
                ensure!(
                    upstream.code.as_deref() == Some("AccessDenied"),
                    "refused for another reason: {upstream:?}"
                );
                step("refused", upstream.step)?;
                step("code", upstream.code.as_deref().unwrap_or_default())?;
                step("message", upstream.message.as_deref().unwrap_or_default())?;
                step("hint", &error.hint().unwrap_or_default())?;
            }
        }
        line_or("\nDone: every step did what it should.")
    }

    async fn feed(&self, slug: &str) -> anyhow::Result<Feed> {
        let aws = &self.endpoints.endpoints.aws;
        self.add(slug, REGISTRY, Provider::AwsEcr(role()?), [("sts", &aws.sts), ("ecr", &aws.ecr)]).await
    }

    async fn azure_feed(&self) -> anyhow::Result<Feed> {
        let azure = &self.endpoints.endpoints.azure;
        let identity = AzureAcr { tenant_id: TENANT.parse()?, client_id: APPLICATION.parse()? };
        let endpoints = [("authority", &azure.authority), ("registry", &azure.registry)];
        self.add("azure", AZURE_REGISTRY, Provider::AzureAcr(identity), endpoints).await
    }

    async fn google_feed(&self) -> anyhow::Result<Feed> {
        let google = &self.endpoints.endpoints.google;
        let identity = GoogleArtifactRegistry {
            workload_identity_provider: PROVIDER.parse()?,
            service_account: Some(ACCOUNT.parse()?),
            lifetime: Default::default(),
            jwks: Default::default(),
        };
        let endpoints = [("sts", &google.sts), ("iamcredentials", &google.iamcredentials)];
        self.add("google", GOOGLE_REGISTRY, Provider::GoogleArtifactRegistry(identity), endpoints).await
    }

    async fn public_feed(&self) -> anyhow::Result<Feed> {
        let aws = &self.endpoints.endpoints.aws;
        let endpoints = [("sts", &aws.sts), ("ecr", &aws.ecr)];
        self.add("public", ecr_public::REGISTRY, Provider::AwsEcrPublic(role()?), endpoints).await
    }

    async fn add(
        &self,
        slug: &str,
        registry: &str,
        provider: Provider,
        overrides: [(&str, &String); 2],
    ) -> anyhow::Result<Feed> {
        let mut endpoints = Endpoints::default();
        for (name, url) in overrides {
            endpoints.insert(name.to_owned(), url.parse()?)?;
        }
        let draft = FeedDraft {
            endpoints,
            ..FeedDraft::new(format!("default/{slug}").parse()?, registry.parse()?, provider)
        };
        Ok(self.feeds.add(draft, Sharing::NOTHING, &Actor::local("demo")).await?.feed)
    }

    async fn mint(&self, feed: &Feed) -> anyhow::Result<SignedToken> {
        let asked = Event::new(EventKind::TokenMint, Outcome::Done, &Actor::local("demo"));
        let token = self.carnet.audited_issuer().mint(feed, &Context::empty(), asked).await?;
        let presented = &token.presented;
        step("token", &format!("sub={} aud={}", presented.sub, presented.aud))?;
        step("signed by", &format!("kid={} alg={}", presented.kid, presented.alg))?;
        Ok(token)
    }

    async fn exchange(&self, feed: &Feed, token: &SignedToken) -> Result<Credential, ExchangeError> {
        let request = ExchangeRequest { feed, token, scope: &Scope::everything() };
        exchange(&self.transport, request, self.carnet.clock().as_ref()).await
    }

    async fn credential(&self, feed: &Feed, token: &SignedToken) -> anyhow::Result<Credential> {
        self.exchange(feed, token).await.map_err(|error| {
            let hint = error.hint().unwrap_or_default();
            anyhow::Error::new(error).context(hint)
        })
    }

    async fn rotate(&self) -> anyhow::Result<()> {
        let issuer = self.carnet.issuer();
        let key_set = issuer.key_set();
        let seen = key_set.active_kids();
        let request = RotationRequest { algorithms: Algorithm::ALL.to_vec(), seen, force: true };
        let rotation = self.carnet.rotator().rotate(&request, &Actor::local("demo")).await?;
        ensure!(rotation.changes.len() == Algorithm::ALL.len(), "not every algorithm was rotated");
        issuer.refresh().await?;
        for kid in issuer.key_set().active_kids() {
            step("signs now", &format!("kid={kid}"))?;
        }
        Ok(())
    }

    /// Fetches the JWKS as a verifier does and returns its `kid`s.
    async fn published_kids(&self) -> anyhow::Result<Vec<String>> {
        let request = Request::get(self.carnet.issuer().url().jwks_uri()).body(bytes::Bytes::new())?;
        let response = self.transport.send(request).await?;
        let set = FetchedJwkSet::parse(response.body())?;
        Ok(set.claimed_kids()?.into_iter().flatten().map(ToOwned::to_owned).collect())
    }

    fn print_next_steps(&self, folder: &Path) -> anyhow::Result<()> {
        let folder = folder.display();
        line_or("\nStill running; Ctrl-C ends it and removes the folder. In another terminal:")?;
        line_or(&format!("  curl {}", self.carnet.issuer().url().jwks_uri()))?;
        line_or(&format!(
            "  export CARNET_DATABASE=sqlite:{folder}/carnet.db CARNET_KEYS_DIR={folder}/keys"
        ))?;
        line_or("  carnet key list")?;
        line_or("  carnet feed credentials default/prod")?;
        line_or("or, as a deployment:")?;
        line_or("  export CARNET_TOKEN=$(carnet grant create --role deployer --space default)")?;
        line_or(&format!("  export CARNET_URL={}", self.carnet.issuer().url()))?;
        line_or("  carnet feed credentials default/prod")?;
        line_or(&format!(
            "  {}{}/openapi.json describes the API",
            self.carnet.issuer().url(),
            crate::api_types::PREFIX
        ))
    }
}

/// Returns the role of both AWS feeds.
fn role() -> anyhow::Result<AssumedRole> {
    Ok(AssumedRole::new(ROLE.parse()?))
}

fn show(credential: &Credential) -> anyhow::Result<()> {
    let hidden = |secret: &SecretString| format!("{} characters, not shown", secret.reveal().chars().count());
    match &credential.secret {
        Secret::Password { username, password } => {
            step("username", username)?;
            step("password", &hidden(password))?;
        }
        Secret::RegistryToken(token) => step("token", &hidden(token))?,
    }
    step("expires at", &credential.expires_at.to_string())
}

fn step(name: &str, value: &str) -> anyhow::Result<()> {
    line_or(&format!("  {name:<10}  {value}"))
}

fn line_or(text: &str) -> anyhow::Result<()> {
    line(text).map_err(|_| anyhow::anyhow!("stdout cannot be written"))
}
