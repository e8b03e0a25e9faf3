//! carnet in the test's own process, which serves its documents and maintains its keys, with a sandbox that
//! fetches them.

use std::sync::Arc;

use carnet::internals::Parts as _;
use carnet::internals::carnet::{Carnet, Config, MasterKeySource};
use carnet::internals::feed::aws::AssumedRole;
use carnet::internals::feed::endpoints::Endpoints;
use carnet::internals::feed::{Feed, FeedDraft, Provider};
use carnet::internals::feeds::{Feeds, Sharing};
use carnet::internals::http::public::{Detail, PublicDocuments};
use carnet::internals::http::server::{Served, Settings, serve};
use carnet::internals::sandbox::{Sandbox, SandboxConfig, SandboxEndpoints};
use carnet::internals::store::IfMissing;
use carnet::internals::values::actor::Actor;
use carnet::internals::values::issuer_url::IssuerUrl;
use carnet::internals::values::random::SecureRandom;
use tempfile::TempDir;
use tokio::net::TcpListener;

/// A carnet, and the feeds `default/trusted` and `default/stranger`, of which the sandbox trusts the first.
pub(crate) struct InProcess {
    pub(crate) carnet: Arc<Carnet>,
    pub(crate) trusted: Feed,
    pub(crate) stranger: Feed,
    _home: TempDir,
}

const ROLE: &str = "arn:aws:iam::123456789012:role/pull";

impl InProcess {
    pub(crate) async fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url: IssuerUrl = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let master_key = MasterKeySource::Folder(home.path().join("keys"));
        let config = Config {
            if_missing: IfMissing::Create,
            issuer: Some(url.clone()),
            ..Config::new(home.path().join("carnet.db").into(), master_key)
        };
        let carnet = Arc::new(Carnet::open(config).await.unwrap());
        let documents = PublicDocuments::new(Arc::clone(carnet.issuer()), Detail::Full);
        let (served, settings) = (Served::documents_only(documents), Settings::default());
        let clock = Arc::clone(carnet.clock());
        tokio::spawn(serve(listener, served, settings, clock, std::future::pending()));
        let keeping = Arc::clone(&carnet);
        tokio::spawn(async move { keeping.run(std::future::pending()).await });

        let trust: SandboxConfig = format!(
            "[[aws.roles]]\narn = \"{ROLE}\"\naudiences = [\"sts.amazonaws.com\"]\nsubjects = [\"space:default:feed:trusted\"]\n"
        )
        .parse()
        .unwrap();
        let random = Arc::new(SecureRandom::default());
        let clock = Arc::clone(carnet.clock());
        let sandbox = Sandbox::new(url, trust, None, clock, random.clone()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = SandboxEndpoints::at(listener.local_addr().unwrap());
        tokio::spawn(sandbox.serve(listener, std::future::pending()));

        let feeds = Feeds::new(carnet.store().clone(), Arc::clone(carnet.clock()), random);
        let add = async |slug: &str| {
            let mut endpoints = Endpoints::default();
            for (name, url) in [("sts", &at.endpoints.aws.sts), ("ecr", &at.endpoints.aws.ecr)] {
                endpoints.insert(name.to_owned(), url.parse().unwrap()).unwrap();
            }
            let draft = FeedDraft {
                endpoints,
                ..FeedDraft::new(
                    format!("default/{slug}").parse().unwrap(),
                    "123456789012.dkr.ecr.eu-central-1.amazonaws.com".parse().unwrap(),
                    Provider::AwsEcr(AssumedRole::new(ROLE.parse().unwrap())),
                )
            };
            feeds.add(draft, Sharing::NOTHING, &Actor::local("test")).await.unwrap().feed
        };
        let (trusted, stranger) = (add("trusted").await, add("stranger").await);
        Self { carnet, trusted, stranger, _home: home }
    }
}
