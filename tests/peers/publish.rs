//! `carnet publish` into third-party object stores: SeaweedFS's S3 and Azurite. The documents are fetched as
//! a cloud does, without credentials, and PyJWT verifies tokens with them.
//!
//! Google Cloud Storage has no emulator that accepts its clients' requests (their XML API); its wire format is
//! tested in `src/publish/objects`.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::azurite::{self, Azurite};
use crate::support::ca::Ca;
use crate::support::carnet::{Announced, Carnet, Output};
use crate::support::http::{Connection, HttpResponse};
use crate::support::installed_peer;
use crate::support::process::{clean_command, wait_until};
use crate::support::racing_proxy::RacingProxy;
use crate::support::seaweedfs::{ADMINISTRATOR, READER, ROLE_ARN, SeaweedFs};
use crate::support::verifiers::Verifier;

const DOCUMENTS: [&str; 2] = [".well-known/jwks", ".well-known/openid-configuration"];
const AUDIENCE: &str = "sts.amazonaws.com";

/// Far longer than a change takes to arrive there, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running store, and the settings of its clients.
enum Store {
    S3(SeaweedFs),
    Azure(Azurite),
}

impl Store {
    /// Starts one with the bucket `issuer`, of which everybody may read the two documents below `prod`.
    fn s3() -> Self {
        let store = SeaweedFs::store();
        let resources = DOCUMENTS.map(|document| format!("arn:aws:s3:::issuer/prod/{document}"));
        let policy = json!({"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": resources}]});
        aws(&store, &["create-bucket", "--bucket=issuer"]);
        aws(&store, &["put-bucket-policy", "--bucket=issuer", "--policy", &policy.to_string()]);
        Self::S3(store)
    }

    /// Starts one with the container `issuer`, whose blobs everybody may read.
    fn azure() -> Self {
        let store = Azurite::start();
        store.make_public_container("issuer");
        Self::Azure(store)
    }

    fn target(&self) -> &'static str {
        match self {
            Self::S3(_) => "s3://issuer/prod",
            Self::Azure(_) => "az://issuer/prod",
        }
    }

    fn address(&self) -> String {
        match self {
            Self::S3(store) => store.address(),
            Self::Azure(store) => store.endpoint.strip_prefix("http://").unwrap().to_owned(),
        }
    }

    /// Returns the URL at which the target's documents are public.
    fn issuer(&self) -> String {
        let account = match self {
            Self::S3(_) => String::new(),
            Self::Azure(_) => format!("{}/", azurite::ACCOUNT),
        };
        format!("http://{}/{account}issuer/prod", self.address())
    }

    /// Sets the environment of a command that uses the store at `address`.
    fn configure(&self, command: &mut Command, address: &str) {
        let endpoint = format!("http://{address}");
        match self {
            Self::S3(_) => command
                .env("AWS_ENDPOINT_URL", endpoint)
                .env("AWS_ALLOW_HTTP", "true")
                .env("AWS_ACCESS_KEY_ID", ADMINISTRATOR[0])
                .env("AWS_SECRET_ACCESS_KEY", ADMINISTRATOR[1]),
            // Its account and key are those of every Azurite.
            Self::Azure(_) => {
                command.env("AZURE_STORAGE_USE_EMULATOR", "true").env("AZURITE_BLOB_STORAGE_URL", endpoint)
            }
        };
    }

    /// Returns the command that publishes the documents of `carnet` here.
    fn publish(&self, carnet: &Carnet, more: &[&str]) -> Command {
        let mut command = carnet.command(&[&["publish", self.target(), "--output=json"], more].concat());
        self.configure(&mut command, &self.address());
        command
    }

    /// Runs it.
    #[track_caller]
    fn published(&self, carnet: &Carnet) -> Value {
        let Output { status, stdout, stderr } = Output::of(&mut self.publish(carnet, &[]), b"");
        assert_eq!(status, 0, "{stdout}{stderr}");
        serde_json::from_str(&stdout).unwrap()
    }

    /// Fetches a document anonymously.
    fn fetch(&self, document: &str) -> HttpResponse {
        let path = self.issuer();
        let path = path.strip_prefix(&format!("http://{}", self.address())).unwrap();
        Connection::to(&format!("http://{}", self.address()), None).get(&format!("{path}/{document}"))
    }

    fn kids(&self) -> Vec<String> {
        let jwks = self.fetch(DOCUMENTS[0]).json();
        jwks["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
    }
}

/// Runs `aws s3api` as the administrator.
fn aws(store: &SeaweedFs, arguments: &[&str]) {
    let output = clean_command(installed_peer("venv/bin/aws"))
        .args(["--endpoint-url", &format!("http://{}", store.address()), "s3api"])
        .args(arguments)
        .env("AWS_ACCESS_KEY_ID", ADMINISTRATOR[0])
        .env("AWS_SECRET_ACCESS_KEY", ADMINISTRATOR[1])
        .env("AWS_DEFAULT_REGION", "us-east-1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// Returns a carnet whose issuer URL is that of the store's documents, with a feed `default/a`.
fn carnet(store: &Store) -> Carnet {
    let carnet = Carnet::new();
    carnet.ok(&[
        "feed",
        "add",
        "aws-ecr",
        "--space=default",
        "--slug=a",
        "--registry=123456789012.dkr.ecr.us-east-1.amazonaws.com",
        &format!("--role-arn={ROLE_ARN}"),
        &format!("--issuer={}", store.issuer()),
    ]);
    carnet
}

/// Asserts that a store serves the same as a server, to everybody, with the headers for caches; and that a
/// bucket with the policy from the documentation serves nothing else.
fn shows_what_a_server_serves(store: &Store) {
    let carnet = carnet(store);
    assert_eq!(store.published(&carnet)["written"], json!(DOCUMENTS));
    let server =
        carnet.serve(&store.issuer(), "127.0.0.1:0", &[]).unwrap_or_else(|failure| panic!("{failure}"));
    let mut connection = Connection::to(server.announced("/listening"), None);
    let issuer = store.issuer();
    let (_, path) = issuer.strip_prefix("http://").unwrap().split_once('/').unwrap();
    for document in DOCUMENTS {
        let (served, shown) = (connection.get(&format!("/{path}/{document}")), store.fetch(document));
        assert_eq!((served.status, shown.status), (200, 200), "{document}");
        assert_eq!(served.body, shown.body, "{document}");
        for name in ["content-type", "cache-control"] {
            assert_eq!(served.header(name), shown.header(name), "{document}");
        }
    }
    assert_eq!(store.published(&carnet)["written"], json!([]));
}

#[test]
fn seaweedfs_serves_only_a_servers_documents_publicly() {
    let store = Store::s3();
    shows_what_a_server_serves(&store);
    assert_eq!(store.fetch("other").status, 403);
}

#[test]
fn azurite_serves_a_servers_documents_publicly() {
    shows_what_a_server_serves(&Store::azure());
}

#[test]
fn pyjwt_verifies_our_tokens_with_the_jwks_in_seaweedfs() {
    let store = Store::s3();
    let carnet = carnet(&store);
    store.published(&carnet);
    let mint = || carnet.ok(&["token", "mint", "default/a"]).trim().to_owned();
    let before = mint();
    // The CA is not used: this issuer is on loopback, without TLS.
    let ca = Ca::new();
    let mut holder = Verifier::pyjwt(&store.issuer(), AUDIENCE, &ca);
    let claims = holder.verify(&before).claims.unwrap();
    assert_eq!((&claims["iss"], &claims["sub"]), (&json!(store.issuer()), &json!("space:default:feed:a")));

    carnet.ok(&["key", "rotate", "--force", "--yes"]);
    assert_eq!(store.published(&carnet)["written"][0], DOCUMENTS[0]);
    let after = mint();
    let mut newcomer = Verifier::pyjwt(&store.issuer(), AUDIENCE, &ca);
    for token in [&before, &after] {
        assert_eq!(newcomer.verify(token).claims.unwrap()["sub"], claims["sub"]);
        assert_eq!(holder.verify(token).claims.unwrap()["sub"], claims["sub"]);
    }
}

#[test]
fn a_server_brings_seaweedfs_up_to_date_on_every_change_of_keys() {
    let store = Store::s3();
    let carnet = carnet(&store);
    let mut command = carnet.command(&[
        "serve",
        "--listen=127.0.0.1:0",
        "--publish",
        store.target(),
        "--issuer",
        &store.issuer(),
    ]);
    store.configure(&mut command, &store.address());
    let server = Announced::of("carnet serve", &mut command);
    // Published before the announcement.
    let before = store.kids();

    carnet.ok(&["key", "rotate", "--force", "--yes"]);
    let mut connection = Connection::to(server.announced("/listening"), None);
    let issuer = store.issuer();
    let (_, path) = issuer.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let shown = wait_until(PATIENCE, || {
        let shown = store.fetch(DOCUMENTS[0]).body;
        (shown == connection.get(&format!("/{path}/{}", DOCUMENTS[0])).body)
            .then(|| store.kids())
            .filter(|kids| *kids != before)
    });
    assert!(shown.is_some(), "the rotation was not published");
}

/// An older copy of the database reads the documents, and before it writes, a newer state is published: the
/// store itself refuses the conditional write, and the newer state stays.
fn refuses_a_write_that_comes_too_late(store: Store, replaces: bool) {
    let newer = carnet(&store);
    let older = newer.copy();
    if replaces {
        // A state older than both.
        store.published(&older);
        older.ok(&["key", "rotate", "--force", "--yes"]);
        newer.ok(&["key", "rotate", "--force", "--yes"]);
    }
    newer.ok(&["key", "rotate", "--force", "--yes"]);

    let (target, mut overtakes) = (store.target(), store.publish(&newer, &[]));
    let proxy = RacingProxy::start(store.address(), move || {
        let output = Output::of(&mut overtakes, b"");
        assert_eq!(output.status, 0, "{output:?}");
    });
    let mut late = older.command(&["publish", target]);
    store.configure(&mut late, &proxy.address);
    let output = Output::of(&mut late, b"");

    assert_eq!(output.status, 1, "{output:?}");
    assert!(output.stderr.contains("newer than"), "{output:?}");
    let responses = proxy.responses();
    // The labels of both documents are asked first.
    let [labels @ .., (_, read), (_, refused), (_, again)] = &responses[..] else { panic!("{responses:?}") };
    assert_eq!((*read, *again), (if replaces { 200 } else { 404 }, 200));
    assert_eq!(labels.iter().map(|(_, status)| status).collect::<Vec<_>>(), [read; 2], "{responses:?}");
    assert!(matches!(refused, 409 | 412), "{responses:?}");
    let listed: Value = serde_json::from_str(&newer.ok(&["key", "list", "--output=json"])).unwrap();
    let mut kids: Vec<_> =
        listed.as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect();
    let mut shown = store.kids();
    kids.sort_unstable();
    shown.sort_unstable();
    assert_eq!(shown, kids);
}

#[test]
fn seaweedfs_refuses_to_replace_a_newer_document_than_the_one_read() {
    refuses_a_write_that_comes_too_late(Store::s3(), true);
}

#[test]
fn seaweedfs_refuses_to_create_a_document_created_in_the_meantime() {
    refuses_a_write_that_comes_too_late(Store::s3(), false);
}

#[test]
fn azurite_refuses_to_replace_a_newer_document_than_the_one_read() {
    refuses_a_write_that_comes_too_late(Store::azure(), true);
}

#[test]
fn azurite_refuses_to_create_a_document_created_in_the_meantime() {
    refuses_a_write_that_comes_too_late(Store::azure(), false);
}

#[test]
fn refusals_of_the_stores_are_reported_with_their_message_and_a_fix() {
    let (s3, azure) = (Store::s3(), Store::azure());
    let carnet = carnet(&s3);
    let refused = |store: &Store, target: &str, change: &dyn Fn(&mut Command), texts: &[&str]| {
        let mut command = carnet.command(&["publish", target]);
        store.configure(&mut command, &store.address());
        change(&mut command);
        let output = Output::of(&mut command, b"");
        assert_eq!((output.status, output.stdout.as_str()), (1, ""), "{output:?}");
        for words in texts {
            assert!(output.stderr.contains(words), "no {words:?} in:\n{}", output.stderr);
        }
        for secret in ["Signature=", "sig=", ADMINISTRATOR[1], READER[1]] {
            assert!(!output.stderr.contains(secret), "{}", output.stderr);
        }
    };
    refused(
        &s3,
        "s3://nobody-has-this",
        &|_| (),
        &["NoSuchBucket", "hint: create the bucket nobody-has-this"],
    );
    refused(
        &s3,
        "s3://issuer/prod",
        &|command| {
            command.env("AWS_SECRET_ACCESS_KEY", "another-secret-key");
        },
        &["403 Forbidden: SignatureDoesNotMatch", "hint: the credentials that were found are not valid"],
    );
    refused(
        &s3,
        "s3://issuer/prod",
        &|command| {
            command.env("AWS_ACCESS_KEY_ID", READER[0]).env("AWS_SECRET_ACCESS_KEY", READER[1]);
        },
        &[
            "PUT http",
            "403 Forbidden: AccessDenied",
            "hint: the credentials need s3:GetObject and s3:PutObject on issuer/prod/",
        ],
    );
    refused(
        &s3,
        "s3://issuer/prod",
        &|command| {
            command.env("AWS_ALLOW_HTTP", "false");
        },
        &["the endpoint is not https"],
    );
    refused(&azure, "az://nobody-has-this", &|_| (), &["ContainerNotFound", "hint: create the container"]);
    let other_key = "b3RoZXIga2V5IHRoYW4gdGhlIG9uZSBvZiBhenVyaXRl";
    refused(
        &azure,
        "az://issuer/prod",
        &|command| {
            command.env("AZURE_STORAGE_ACCOUNT_KEY", other_key);
        },
        &["403", "AuthorizationFailure"],
    );
    // A key whose publication failed is not used.
    assert_eq!(s3.fetch(DOCUMENTS[0]).status, 404);
}
