//! Rates: of one grant, of one address, and what the log keeps of those who have no grant.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::carnet::{Announced, Carnet};
use crate::world::{Api, grant, refusal, success};

const ISSUER: &str = "http://127.0.0.1:1";

fn serve(carnet: &Carnet, more: &[&str]) -> Announced {
    carnet.serve(ISSUER, "127.0.0.1:0", more).unwrap()
}

#[test]
fn a_grant_has_its_rate_and_another_one_its_own() {
    let carnet = Carnet::new();
    let server = serve(&carnet, &["--grant-rate=1", "--grant-burst=3"]);
    let api = Api::of(&server);
    let (one, other) = (grant(&carnet, &["--role=viewer"]), grant(&carnet, &["--role=viewer"]));
    let answers: Vec<_> = (0..20).map(|_| api.get(&one, "/signing-keys")).collect();
    let (let_in, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
    // Three at once, and one for each second that this takes.
    assert!(let_in.len() >= 3 && !refused.is_empty(), "{} were let in", let_in.len());
    for answer in refused {
        assert_eq!(refusal(answer), (429, "rate-limited".to_owned()));
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    assert_eq!(api.get(&other, "/signing-keys").status, 200);
    // Who refuses an address or a grant still says that he is well.
    assert_eq!(api.connect().get("/healthz").status, 200);
}

#[test]
fn an_address_has_its_rate_whatever_grants_it_presents() {
    let carnet = Carnet::new();
    let server = serve(&carnet, &["--address-rate=1", "--address-burst=4", "--trusted-proxies=127.0.0.1"]);
    let api = Api::of(&server);
    let grant = grant(&carnet, &["--role=viewer"]);
    let ask = |token: &str, address: &str| {
        let headers = format!("X-Forwarded-For: {address}\r\n");
        api.send("GET", "/signing-keys", Some(token), &headers, None)
    };
    let statuses: Vec<u16> = (0..20).map(|_| ask("garbage", "192.0.2.1").status).collect();
    assert!(statuses.iter().all(|status| [401, 429].contains(status)) && statuses.contains(&429));
    let refused = (0..20).map(|_| ask(&grant.token, "192.0.2.1")).find(|answer| answer.status == 429);
    let refused = refused.expect("a valid grant does not lift the address's limit");
    assert_eq!(refusal(&refused), (429, "rate-limited".to_owned()));
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(ask(&grant.token, "192.0.2.2").status, 200);
    // A whole /64 is one client.
    let of_network = (1..20).map(|host| ask("garbage", &format!("2001:db8::{host:x}")).status);
    assert!(of_network.collect::<Vec<_>>().contains(&429));
    assert_eq!(ask(&grant.token, "2001:db8:0:1::1").status, 200);
}

#[test]
fn refusals_of_the_unknown_are_counted_in_the_log_and_not_listed() {
    let carnet = Carnet::new();
    let mut server = serve(&carnet, &["--address-burst=50", "--address-rate=1"]);
    let (api, admin) = (Api::of(&server), grant(&carnet, &["--role=admin"]));
    for number in 0..100 {
        let answer = api.call("GET", "/audit", Some(&format!("carnet_{number}")), None);
        assert!([401, 429].contains(&answer.status));
    }
    // Written once a minute, and at the end.
    assert!(server.process.terminate(Duration::from_secs(30)));
    let server = serve(&carnet, &[]);
    let page = success(&Api::of(&server).get(&admin, "/audit?actor=anonymous&kind=request"));
    let rows = page["records"].as_array().unwrap();
    assert!(rows.len() <= 2, "{page}");
    let count = |of: &[Value]| of.iter().map(|row| row["count"].as_u64().unwrap()).sum::<u64>();
    assert_eq!(count(rows), 100, "{page}");
    for row in rows {
        assert_eq!((&row["outcome"], &row["client"]), (&json!("refused"), &json!("127.0.0.1")), "{page}");
        assert!(["unauthorized", "rate-limited"].contains(&row["detail"].as_str().unwrap()), "{page}");
    }
    // Who is known is listed by name.
    let forbidden = grant(&carnet, &["--role=deployer", "--space=a"]);
    for _ in 0..3 {
        assert_eq!(refusal(&Api::of(&server).get(&forbidden, "/audit")).0, 403);
    }
    let listed = success(&Api::of(&server).get(&admin, &format!("/audit?actor=grant:{}", forbidden.id)));
    assert_eq!(listed["records"].as_array().unwrap().len(), 3, "{listed}");
}
