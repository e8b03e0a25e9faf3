//! `feed check` against a third-party STS: SeaweedFS's refusals, with snapshots beside those of the sandbox,
//! and a trust policy that is fixed with the output of the first cause's command.

use std::io::{BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::check_support::{self as snapshots, said};
use crate::support::ca::Ca;
use crate::support::carnet::{Carnet, Issuer};
use crate::support::recording_proxy::read_request;
use crate::support::seaweedfs::{ROLE_ARN, SeaweedFs, Trust};

const SUBJECT: &str = "space:default:feed:a";
const AUDIENCE: &str = "sts.amazonaws.com";

/// A proxy in front of an STS that keeps its last response.
struct Witness {
    url: String,
    last: Arc<Mutex<String>>,
}

impl Witness {
    fn before(sts: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let witness =
            Self { url: format!("http://{}", listener.local_addr().unwrap()), last: Arc::default() };
        let (last, to) = (Arc::clone(&witness.last), sts.strip_prefix("http://").unwrap().to_owned());
        std::thread::spawn(move || {
            for mut client in listener.incoming().flatten() {
                let request = read_request(&mut BufReader::new(client.try_clone().unwrap())).unwrap();
                let mut upstream = TcpStream::connect(&to).unwrap();
                write!(upstream, "{} {} HTTP/1.1\r\nConnection: close\r\n", request.method, request.target)
                    .unwrap();
                for (name, value) in request.headers.iter().filter(|(name, _)| *name != "connection") {
                    write!(upstream, "{name}: {value}\r\n").unwrap();
                }
                write!(upstream, "\r\n{}", request.body).unwrap();
                let mut response = Vec::new();
                upstream.read_to_end(&mut response).unwrap();
                *last.lock().unwrap() = String::from_utf8_lossy(&response).into_owned();
                client.write_all(&response).unwrap();
            }
        });
        witness
    }
}

fn add_feed(carnet: &Carnet, slug: &str, sts: &str, more: &[&str]) {
    let (sts, ecr) = (format!("--endpoint=sts={sts}"), "--endpoint=ecr=http://127.0.0.1:1");
    let feed =
        ["--space=default", "--slug", slug, "--role-arn", ROLE_ARN, "--registry=127.0.0.1:1", &sts, ecr];
    carnet.ok(&[&["feed", "add", "aws-ecr"], &feed[..], more].concat());
}

/// Checks the output for a refusal against SeaweedFS's response.
fn shown(
    name: &str,
    carnet: &Carnet,
    slug: &str,
    ca: &Ca,
    witness: &Witness,
    refusal: (u16, &str, &str),
) -> Value {
    let (status, code, cause) = refusal;
    let (feed, ca) = (format!("default/{slug}"), ca.certificate());
    let check = ["feed", "check", &feed, "--ca-file", ca.to_str().unwrap()];
    let table = carnet.run(&check);
    let output = carnet.run(&[&check[..], &["--output=json"]].concat());
    let response: Value =
        serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    snapshots::compare(name, &table.stdout, &response);
    let failed = response["steps"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(failed["step"], "sts:AssumeRoleWithWebIdentity", "{failed:#}");
    assert_eq!((&failed["upstream"]["status"], &failed["upstream"]["code"]), (&json!(status), &json!(code)));
    said::assert_verbatim(&witness.last.lock().unwrap(), &failed);
    assert!(failed["causes"][0]["cause"].as_str().unwrap().contains(cause), "{failed:#}");
    // The base64url of `{"`, with which every token begins.
    assert!(!output.stdout.contains("eyJ") && !table.stdout.contains("eyJ"), "a token was printed");
    failed
}

#[test]
fn seaweedfs_refusals_are_reported_and_the_setup_fixes_the_subject() {
    let ca = Ca::new();
    let issuer = Issuer::https(&ca);
    let certificate = ca.certificate();
    let trust = Trust { issuer: &issuer.url, audience: AUDIENCE, subject: SUBJECT, ca: &certificate };
    let seaweedfs = SeaweedFs::start(&trust);
    let witness = Witness::before(&seaweedfs.sts());

    add_feed(&issuer.carnet, "a", &witness.url, &["--audience=somebody.else.example"]);
    let refusal = (400, "InvalidParameterValue", "the client id");
    shown("seaweedfs-audience", &issuer.carnet, "a", &ca, &witness, refusal);

    // Another carnet with the same issuer URL; its key is not in the real issuer's JWKS.
    let impostor = Carnet::new();
    let _server =
        impostor.serve(&issuer.url, "127.0.0.1:0", &[]).unwrap_or_else(|failure| panic!("{failure}"));
    add_feed(&impostor, "a", &witness.url, &[]);
    let table = impostor.run(&["feed", "check", "default/a", "--ca-file", certificate.to_str().unwrap()]);
    let output = impostor.run(&[
        "feed",
        "check",
        "default/a",
        "--output=json",
        "--ca-file",
        certificate.to_str().unwrap(),
    ]);
    let response: Value = serde_json::from_str(&output.stdout).unwrap();
    snapshots::compare("seaweedfs-other-key", &table.stdout, &response);
    let failed = response["steps"].as_array().unwrap().last().unwrap();
    assert_eq!(failed["step"], "jwks", "found before SeaweedFS is asked: {failed:#}");
    assert!(failed["causes"][0]["cause"].as_str().unwrap().contains("another database"), "{failed:#}");

    add_feed(&issuer.carnet, "b", &witness.url, &[]);
    let refusal = (403, "AccessDenied", ":sub = space:default:feed:b");
    let failed = shown("seaweedfs-subject", &issuer.carnet, "b", &ca, &witness, refusal);
    assert_eq!(failed["causes"][0]["command"], "carnet feed setup default/b");
    let setup = issuer.carnet.ok(&["feed", "setup", "default/b", "--format=json"]);
    let setup: Value = serde_json::from_str(&setup).unwrap();
    let conditions = &setup["role"]["AssumeRolePolicyDocument"]["Statement"][0]["Condition"]["StringEquals"];
    let condition = |claim: &str| {
        let (_, value) =
            conditions.as_object().unwrap().iter().find(|(key, _)| key.ends_with(claim)).unwrap();
        value.as_str().unwrap()
    };
    drop(seaweedfs);
    let trust = Trust { audience: condition(":aud"), subject: condition(":sub"), ..trust };
    let fixed = SeaweedFs::start(&trust);
    issuer.carnet.ok(&["feed", "update", "default/b", "--endpoint", &format!("sts={}", fixed.sts())]);
    let check = ["feed", "check", "default/b", "--output=json", "--ca-file", certificate.to_str().unwrap()];
    let response: Value = serde_json::from_str(&issuer.carnet.run(&check).stdout).unwrap();
    let sts = &response["steps"][3];
    assert_eq!(
        (&sts["step"], &sts["ok"]),
        (&json!("sts:AssumeRoleWithWebIdentity"), &json!(true)),
        "{response:#}"
    );
}

#[test]
fn a_token_that_seaweedfs_considers_expired_is_reported() {
    let ca = Ca::new();
    // Its clock is in the past: for itself, its tokens are valid.
    let issuer = Issuer::https_of(&ca, || Carnet::with_clock_off_by("-2h"));
    let certificate = ca.certificate();
    let trust = Trust { issuer: &issuer.url, audience: AUDIENCE, subject: SUBJECT, ca: &certificate };
    let seaweedfs = SeaweedFs::start(&trust);
    let witness = Witness::before(&seaweedfs.sts());
    add_feed(&issuer.carnet, "a", &witness.url, &[]);
    let refusal = (400, "ExpiredTokenException", "this machine's clock");
    let failed = shown("seaweedfs-expired", &issuer.carnet, "a", &ca, &witness, refusal);
    assert_eq!(failed["causes"][0]["command"], "timedatectl set-ntp true");
}
