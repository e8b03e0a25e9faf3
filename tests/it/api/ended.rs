//! A grant that is revoked during a request: the request changes nothing and gets no data.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use serde_json::{Value, json};

use crate::api::world::{Grant, REGISTRY, ROLE, World, refusal, success};
use crate::support::http::Connection;
use crate::support::process::wait_until;

/// After this time no response begins that accepts a revoked grant.
const ENDED_AFTER: Duration = Duration::from_secs(1);

/// A request whose caller was authenticated, and whose body is incomplete.
struct Begun {
    what: &'static str,
    method: &'static str,
    connection: Connection,
    rest: Vec<u8>,
}

impl World {
    /// Sends all but the last byte of a request, and waits until the server has authenticated the caller.
    fn begin(&self, by: &Grant, what: &'static str, path: &str, body: &Value) -> Begun {
        let (method, _) = what.split_once(' ').unwrap();
        let body = body.to_string().into_bytes();
        let mut connection = self.api.connect();
        connection.write(
            format!(
                "{method} /api/v1{path} HTTP/1.1\r\nHost: carnet.test\r\nAuthorization: Bearer {}\r\n\
                 Content-Type: application/json\r\nContent-Length: {}\r\nExpect: 100-continue\r\n\r\n",
                by.token,
                body.len()
            )
            .as_bytes(),
        );
        // The server requests the body when the handler waits for it, after it accepted the grant.
        assert_eq!(connection.response("HEAD").status, 100, "{what}");
        let (first, last) = body.split_at(body.len() - 1);
        connection.write(first);
        Begun { what, method, connection, rest: last.to_vec() }
    }

    fn revoke(&self, grant: &Grant) {
        assert_eq!(self.api.delete(&self.admin, &format!("/grants/{}", grant.id)).status, 204);
    }
}

impl Begun {
    #[track_caller]
    fn expect_refusal(mut self) {
        self.connection.write(&self.rest);
        let response = self.connection.response(self.method);
        assert_eq!(refusal(&response), (401, "unauthorized".to_owned()), "{}: {response:?}", self.what);
        assert!(response.header("www-authenticate").is_some(), "{}: {response:?}", self.what);
    }
}

fn new_feed(slug: &str) -> Value {
    json!({"slug": slug, "type": "aws-ecr", "registry": REGISTRY, "role_arn": ROLE})
}

/// Begins a request on every route that changes something and has a body.
fn changes(world: &World, by: &Grant) -> Vec<Begun> {
    let grant = json!({"role": "viewer", "name": "n"});
    vec![
        world.begin(by, "POST a feed", "/spaces/a/feeds", &new_feed("made")),
        world.begin(by, "PATCH a feed", "/spaces/a/feeds/one", &json!({"name": "changed"})),
        world.begin(by, "POST a grant", "/grants", &grant),
        world.begin(by, "POST a rotation", "/signing-keys/rotate", &json!({"force": true})),
    ]
}

fn state(world: &World) -> [String; 3] {
    ["/spaces/a/feeds", "/grants", "/signing-keys"].map(|path| {
        let mut list = success(&world.api.get(&world.admin, path));
        for item in list.as_array_mut().unwrap() {
            let item = item.as_object_mut().unwrap();
            // Not under test: times of use and revocation, and the clients that fetched keys.
            for noise in ["last_used_at", "revoked_at", "state", "seen_by"] {
                item.remove(noise);
            }
        }
        list.to_string()
    })
}

#[test]
fn a_grant_revoked_while_the_body_arrives_changes_nothing() {
    let world = World::new("");
    world.add_feed("a/one", &[]);
    let admin = world.grant(&["--role=admin", "--expires-in=never"]);
    let before = state(&world);
    let begun = changes(&world, &admin);
    world.revoke(&admin);
    // Immediately: the changing transaction checks again, regardless of earlier checks.
    begun.into_iter().for_each(Begun::expect_refusal);
    assert_eq!(state(&world), before);
}

#[test]
fn no_route_accepts_a_grant_one_second_after_its_revocation() {
    let world = World::new("");
    world.add_feed("a/one", &[]);
    let admin = world.grant(&["--role=admin", "--expires-in=never"]);
    let mut begun = changes(&world, &admin);
    for (what, path) in [
        ("POST credentials", "/spaces/a/feeds/one/credentials".to_owned()),
        ("POST credentials of a registry", format!("/registries/{REGISTRY}/credentials")),
        ("POST a check", "/spaces/a/feeds/one/check".to_owned()),
    ] {
        begun.push(world.begin(&admin, what, &path, &json!({})));
    }
    world.revoke(&admin);
    assert!(wait_until(ENDED_AFTER, || None::<()>).is_none());
    begun.into_iter().for_each(Begun::expect_refusal);
    let minted = world.api.get(&world.admin, "/audit?kind=token.mint").json();
    assert_eq!(minted["records"], json!([]), "nothing was even minted");
}

/// A provider that responds on demand.
struct Held {
    port: u16,
    arrived: Receiver<()>,
    release: Sender<()>,
}

impl Held {
    /// Relays one connection to `upstream`, once it is released.
    fn before(upstream: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (announce, arrived) = channel();
        let (release, released) = channel();
        std::thread::spawn(move || {
            let (mut client, _) = listener.accept().unwrap();
            announce.send(()).unwrap();
            released.recv().unwrap();
            let mut upstream = TcpStream::connect(upstream).unwrap();
            let (mut from, mut to) = (client.try_clone().unwrap(), upstream.try_clone().unwrap());
            let requests = std::thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(Shutdown::Write);
            });
            let mut bytes = [0; 4096];
            while let Ok(read @ 1..) = upstream.read(&mut bytes) {
                if client.write_all(&bytes[..read]).is_err() {
                    break;
                }
            }
            let _ = client.shutdown(Shutdown::Both);
            let _ = requests.join();
        });
        Self { port, arrived, release }
    }
}

#[test]
fn a_credential_that_a_provider_gave_after_the_revocation_is_not_handed_out() {
    let world = World::new("");
    let sts = world.sandbox.announced("/endpoints/aws/sts").to_owned();
    let (authority, _) = sts.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let held = Held::before(authority.to_owned());
    let through = sts.replace(authority, &format!("127.0.0.1:{}", held.port));
    world.add_feed("a/one", &[]);
    let ecr = world.sandbox.announced("/endpoints/aws/ecr");
    let update =
        ["feed", "update", "a/one", &format!("--endpoint=sts={through}"), &format!("--endpoint=ecr={ecr}")];
    world.issuer.carnet.ok(&update);
    let deployer = world.grant(&["--role=deployer", "--space=a"]);
    let response = std::thread::scope(|scope| {
        let asked = scope.spawn(|| world.credentials(&deployer, "a/one", &json!({})));
        held.arrived.recv_timeout(Duration::from_secs(30)).unwrap();
        world.revoke(&deployer);
        assert!(wait_until(ENDED_AFTER, || None::<()>).is_none());
        held.release.send(()).unwrap();
        asked.join().unwrap()
    });
    assert_eq!(refusal(&response), (401, "unauthorized".to_owned()), "{response:?}");
    let rows =
        world.api.get(&world.admin, &format!("/audit?kind=credential&actor=grant:{}", deployer.id)).json();
    assert_eq!(rows["records"], json!([]), "no credential is recorded as handed out");
}
