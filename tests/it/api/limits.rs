//! Rate limits: of one grant, of one address, and the log of requests without a grant.

use std::time::Duration;

use serde_json::{Value, json};

use crate::api::world::{Api, grant, refusal, success};
use crate::support::carnet::{Announced, Carnet};

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
    let responses: Vec<_> = (0..20).map(|_| api.get(&one, "/signing-keys")).collect();
    let (let_in, refused): (Vec<_>, Vec<_>) = responses.iter().partition(|response| response.status == 200);
    // The burst of three, and one for each second of the test.
    assert!(let_in.len() >= 3 && !refused.is_empty(), "{} were let in", let_in.len());
    for response in refused {
        assert_eq!(refusal(response), (429, "rate-limited".to_owned()));
        assert_eq!(response.header("retry-after"), Some("1"));
    }
    assert_eq!(api.get(&other, "/signing-keys").status, 200);
    // The limit on an address or a grant does not affect health checks.
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
    let refused = (0..20).map(|_| ask(&grant.token, "192.0.2.1")).find(|response| response.status == 429);
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
        let response = api.call("GET", "/audit", Some(&format!("carnet_{number}")), None);
        assert!([401, 429].contains(&response.status));
    }
    // Counts are written once a minute, and at shutdown.
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
}

/// Refusals of a grant are recorded under its name: the first of a kind in full, the rest as a count.
#[test]
fn refusals_of_a_grant_are_two_rows_for_each_route_and_reason_and_keep_its_name() {
    let carnet = Carnet::new();
    let mut server = serve(&carnet, &[]);
    let (api, admin) = (Api::of(&server), grant(&carnet, &["--role=admin"]));
    let forbidden = grant(&carnet, &["--role=deployer", "--space=a"]);
    let rows = |api: &Api| {
        let page = success(&api.get(&admin, &format!("/audit?actor=grant:{}&kind=request", forbidden.id)));
        page["records"].as_array().unwrap().clone()
    };
    let headers = "X-Request-Id: the-first\r\n";
    assert_eq!(refusal(&api.send("GET", "/audit", Some(&forbidden.token), headers, None)).0, 403);
    // The first refusal is visible at once, in full.
    let first = rows(&api);
    assert_eq!((first.len(), &first[0]["request_id"]), (1, &json!("the-first")), "{first:?}");
    for number in 0..300 {
        assert_eq!(refusal(&api.get(&forbidden, "/audit")).0, 403);
        assert_eq!(refusal(&api.get(&forbidden, &format!("/spaces/s{number}/feeds"))).0, 403);
        // Methods can be invented, too.
        let method = format!("M{number}");
        assert_eq!(api.call(&method, "/audit", Some(&forbidden.token), None).status, 405);
    }
    assert!(server.process.terminate(Duration::from_secs(30)));
    let log = server.process.stderr();
    let server = serve(&carnet, &[]);
    let rows = rows(&Api::of(&server));
    let counts: u64 = rows.iter().map(|row| row["count"].as_u64().unwrap()).sum();
    // A method that is not allowed is refused before the grant is checked.
    assert!(rows.len() <= 6 && counts >= 601, "{counts} in {rows:#?}");
    let of = |what: &str| -> Vec<u64> {
        let named = rows.iter().filter(|row| row["detail"] == what);
        named.map(|row| row["count"].as_u64().unwrap()).collect()
    };
    assert_eq!(of("GET /api/v1/audit: forbidden"), [300, 1], "{rows:#?}");
    assert_eq!(of("GET /api/v1/spaces/{space}/feeds: forbidden"), [299, 1], "{rows:#?}");
    assert!(rows.iter().all(|row| row["actor"] == format!("grant:{}", forbidden.id)), "{rows:#?}");
    assert!(log.lines().count() < 40, "{log}");
}

/// Clouds and deployments behind one undeclared proxy, and a flood among them.
#[test]
fn a_flood_through_an_unnamed_proxy_takes_nothing_from_callers_with_a_grant() {
    let carnet = Carnet::new();
    let mut server = serve(&carnet, &["--address-burst=50", "--address-rate=1", "--grant-burst=50"]);
    let api = Api::of(&server);
    let grant = grant(&carnet, &["--role=viewer"]);
    let ask = |token: Option<&str>, client: &str| {
        let headers = format!("X-Forwarded-For: {client}\r\n");
        api.send("GET", "/signing-keys", token, &headers, None).status
    };
    // No token, garbage, and a token that is well-formed but unknown.
    let strange = format!("{}x", &grant.token[..grant.token.len() - 1]);
    for number in 0..300 {
        let token = [None, Some("garbage"), Some(strange.as_str())][number % 3];
        assert!([401, 429].contains(&ask(token, &format!("192.0.2.{}", number % 250))));
    }
    assert_eq!(ask(None, "192.0.2.1"), 429, "the flood's own budget is used up");
    for _ in 0..40 {
        assert_eq!(ask(Some(&grant.token), "198.51.100.7"), 200);
    }
    let ready = api.connect().get("/readyz").json();
    assert_eq!(ready["checks"]["undeclared_proxy"], "127.0.0.1", "{ready}");
    assert!(server.process.terminate(Duration::from_secs(30)));
    let log = server.process.stderr();
    assert_eq!(log.matches("not among --trusted-proxies").count(), 1, "{log}");
    assert!(log.lines().count() < 40, "one line for each reason, then a count:\n{log}");
}

/// A caller with a grant that uses up the budget of its address.
#[test]
fn a_grant_keeps_a_reserve_when_another_one_exhausts_the_address_limit() {
    let carnet = Carnet::new();
    let server = serve(&carnet, &["--address-burst=100", "--address-rate=50"]);
    let api = Api::of(&server);
    let (greedy, other) = (grant(&carnet, &["--role=viewer"]), grant(&carnet, &["--role=viewer"]));
    let statuses: Vec<u16> = (0..400).map(|_| api.get(&greedy, "/signing-keys").status).collect();
    assert!(statuses.contains(&429));
    assert_eq!(api.get(&other, "/signing-keys").status, 200);
}
