//! Hostile requests. Each is refused, and the server works afterwards as before.

use std::io::Write as _;
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::api::world::{ROLE, World, credentials_of, refusal, success};
use crate::support::http::HttpResponse;

const FEED: &str = "default/a";

fn world() -> World {
    let world = World::new("");
    world.add_feed(FEED, &[]);
    world
}

/// Checks that the server responds, works and has not grown by more than `megabytes` over `before`.
#[track_caller]
fn is_well(world: &World, before: usize, megabytes: usize) {
    assert_eq!(world.api.connect().get("/healthz").status, 200);
    success(&world.credentials(&world.admin, FEED, &json!({})));
    let grown = world.issuer.server.process.resident_bytes().saturating_sub(before) / (1024 * 1024);
    assert!(grown <= megabytes, "it has grown by {grown} MB");
}

impl World {
    fn resident(&self) -> usize {
        success(&self.credentials(&self.admin, FEED, &json!({})));
        self.issuer.server.process.resident_bytes()
    }

    fn raw(&self, path: &str, headers: &str, body: &[u8]) -> HttpResponse {
        self.api.send("POST", path, Some(&self.admin.token), headers, Some(body))
    }
}

const JSON: &str = "Content-Type: application/json\r\n";

#[test]
fn invalid_bodies_are_refused_by_kind() {
    let world = world();
    let before = world.resident();
    let (credentials, grants) = (credentials_of(FEED), "/grants");
    let deep = |open: &str, close: &str| {
        let body = format!("{{\"actions\": {}{}}}", open.repeat(20_000), close.repeat(20_000));
        body.into_bytes()
    };
    let long = format!("{{\"repositories\": [\"{}\"]}}", "a".repeat(70_000)).into_bytes();
    let many = format!("{{\"repositories\": [{}\"a\"]}}", "\"a\",".repeat(10_000)).into_bytes();
    for (what, path, body, refused) in [
        ("too long", &*credentials, long, &[(413, "too-large")][..]),
        ("deep arrays", &credentials, deep("[", "]"), &[(400, "malformed-request"), (422, "invalid-field")]),
        ("deep objects", &credentials, deep("{\"a\":", ""), &[(413, "too-large")]),
        ("many", &credentials, many, &[(422, "scope-refused")]),
        ("cut off", &credentials, b"{\"actions\": [".to_vec(), &[(400, "malformed-request")]),
        ("two values", &credentials, b"{} {}".to_vec(), &[(400, "malformed-request")]),
        ("a list", &credentials, b"[]".to_vec(), &[(400, "malformed-request")]),
        ("null", grants, b"null".to_vec(), &[(400, "malformed-request")]),
        ("not UTF-8", &credentials, b"{\"actions\": [\"\xff\"]}".to_vec(), &[(400, "malformed-request")]),
        (
            "half a surrogate",
            &credentials,
            br#"{"actions": ["\ud800"]}"#.to_vec(),
            &[(400, "malformed-request")],
        ),
        ("UTF-16", &credentials, b"{\0}\0".to_vec(), &[(400, "malformed-request")]),
        ("a byte order mark", &credentials, b"\xef\xbb\xbf{}".to_vec(), &[(400, "malformed-request")]),
        ("NUL", &credentials, b"\0".to_vec(), &[(400, "malformed-request")]),
        ("an unknown member", &credentials, br#"{"contxt": {}}"#.to_vec(), &[(422, "invalid-field")]),
        (
            "a member twice",
            &credentials,
            br#"{"actions": ["pull"], "actions": ["push"]}"#.to_vec(),
            &[(400, "malformed-request"), (422, "invalid-field")],
        ),
        (
            "a key twice",
            &credentials,
            br#"{"context": {"tenant": "a", "tenant": "b"}}"#.to_vec(),
            &[(422, "invalid-field")],
        ),
        (
            "a role twice",
            grants,
            br#"{"role": "viewer", "role": "admin", "name": "n"}"#.to_vec(),
            &[(400, "malformed-request"), (422, "invalid-field")],
        ),
        (
            "a rule twice",
            grants,
            br#"{"role": "viewer", "name": "n", "context": {"tenant": "a", "tenant": "*"}}"#.to_vec(),
            &[(422, "invalid-field")],
        ),
        (
            "an endpoint twice",
            "/spaces/default/feeds",
            br#"{"slug": "b", "type": "aws-ecr", "endpoints": {"sts": "https://a", "sts": "https://b"}}"#
                .to_vec(),
            &[(422, "invalid-field")],
        ),
        (
            "a number too large",
            &credentials,
            br#"{"min_remaining_seconds": 1e400}"#.to_vec(),
            &[(400, "malformed-request"), (422, "invalid-field")],
        ),
        ("nothing", grants, Vec::new(), &[(400, "malformed-request")]),
    ] {
        let response = world.raw(path, JSON, &body);
        assert!(response.status >= 400, "{what}: {response:?}");
        let (status, kind) = refusal(&response);
        assert!(refused.contains(&(status, &kind)), "{what}: {response:?}");
        assert!(response.body.len() < 2_000, "{what}: {} bytes", response.body.len());
    }
    is_well(&world, before, 16);
}

#[test]
fn hosts_of_feeds_that_are_never_connected_to_are_refused_by_field_and_rule() {
    let world = world();
    let new = |registry: &str, sts: &str| {
        json!({
            "slug": "b", "type": "aws-ecr", "role_arn": ROLE, "registry": registry,
            "endpoints": {"sts": sts, "ecr": "https://ecr.example"},
        })
    };
    for (registry, sts, field, rule) in [
        ("r.example", "https://169.254.169.254/latest", "endpoints.sts", "link-local"),
        ("r.example", "https://[fd00:ec2::254]", "endpoints.sts", "a cloud's metadata service"),
        ("r.example", "https://metadata.google.internal", "endpoints.sts", "a cloud's metadata service"),
        ("169.254.169.254:5000", "https://sts.example", "registry", "link-local"),
    ] {
        let new = new(registry, sts);
        let change = json!({"registry": registry, "endpoints": new["endpoints"]});
        for (method, path, body) in
            [("POST", "/spaces/default/feeds", &new), ("PATCH", "/spaces/default/feeds/a", &change)]
        {
            let response = world.api.call(method, path, Some(&world.admin.token), Some(body));
            assert_eq!(refusal(&response), (422, "invalid-field".to_owned()), "{response:?}");
            let problem: Value = response.json();
            assert_eq!(problem["field"], field, "{problem}");
            assert!(problem["detail"].as_str().unwrap().contains(rule), "{problem}");
        }
    }
}

#[test]
fn a_body_that_does_not_say_that_it_is_json_is_not_read_as_json() {
    let world = world();
    for headers in [
        "",
        "Content-Type: text/plain\r\n",
        "Content-Type: application/x-www-form-urlencoded\r\n",
        "Content-Type: application/xml\r\n",
        "Content-Type: application/jsonp\r\n",
        "Content-Type: \r\n",
    ] {
        for (path, body) in [(credentials_of(FEED), "{}"), ("/grants".to_owned(), "{\"role\": \"viewer\"}")] {
            let response = world.raw(&path, headers, body.as_bytes());
            assert_eq!(refusal(&response), (415, "unsupported-media-type".to_owned()), "{headers:?} {path}");
        }
    }
    let charset = world.raw(&credentials_of(FEED), "Content-Type: application/json;charset=utf-8\r\n", b"{}");
    success(&charset);
}

#[test]
fn paths_are_taken_literally() {
    let world = world();
    let before = world.resident();
    for segment in [
        "%2F",
        "%2e%2e",
        "..",
        ".",
        "%00",
        "a%00",
        "%FF",
        "%C3%28",
        "%",
        "%zz",
        "a%2Fb",
        "a%5Cb",
        "A",
        "-a",
        "%20",
        "a%0D%0AX-Evil:%201",
        "\u{e4}",
        "*",
        "{feed}",
        "%7Bfeed%7D",
        &"a".repeat(51),
        &"a".repeat(8_000),
    ] {
        for path in [
            format!("/spaces/default/feeds/{segment}"),
            format!("/spaces/{segment}/feeds"),
            format!("/spaces/{segment}/feeds/a"),
        ] {
            let response = world.api.get(&world.admin, &path);
            assert_eq!(refusal(&response), (404, "not-found".to_owned()), "{path}");
            assert!(response.header("x-evil").is_none(), "{path}");
        }
        for (method, path) in [
            ("POST", format!("/spaces/default/feeds/{segment}/credentials")),
            ("POST", format!("/registries/{segment}/credentials")),
            ("POST", format!("/signing-keys/{segment}/revoke")),
            ("DELETE", format!("/grants/{segment}")),
        ] {
            let response = world.api.call(method, &path, Some(&world.admin.token), None);
            assert_eq!(refusal(&response), (404, "not-found".to_owned()), "{path}");
        }
    }
    // The same name in another encoding.
    success(&world.api.get(&world.admin, "/spaces/default/feeds/%61"));
    is_well(&world, before, 16);
}

#[test]
fn oversized_and_malformed_heads_end_the_connection() {
    let world = world();
    let before = world.resident();
    let token = &world.admin.token;
    let request = |line: &str, headers: &str| {
        let mut connection = world.api.connect();
        connection.write(
            format!("{line}\r\nHost: carnet.test\r\nAuthorization: Bearer {token}\r\n{headers}\r\n")
                .as_bytes(),
        );
        connection.try_answer("GET").map_or(0, |response| response.status)
    };
    let query: String = (0..20_000).map(|number| format!("a{number}=1&")).collect();
    let lines: String = (0..5_000).map(|number| format!("X-{number}: 1\r\n")).collect();
    let audit = "GET /api/v1/audit HTTP/1.1";
    for (what, status) in [
        ("a long header", request(audit, &format!("X-Long: {}\r\n", "a".repeat(1 << 20)))),
        ("a long token", request(audit, &format!("Authorization: Bearer {}\r\n", "a".repeat(1 << 20)))),
        ("many headers", request(audit, &lines)),
        ("many parameters", request(&format!("GET /api/v1/audit?{query} HTTP/1.1"), "")),
        ("a long path", request(&format!("GET /api/v1/{} HTTP/1.1", "a/".repeat(100_000)), "")),
        ("no HTTP", request("GET /api/v1/audit", "")),
        ("another HTTP", request("GET /api/v1/audit HTTP/3.0", "")),
        ("a folded header", request(audit, "X-A: 1\r\n 2\r\n")),
        ("a bare NUL", request(audit, "X-A: \0\r\n")),
        ("two tokens", request(audit, &format!("Authorization: Bearer {token}\r\n"))),
        ("two lengths", request(audit, "Content-Length: 0\r\nContent-Length: 5\r\n")),
    ] {
        assert!([0, 400, 401, 404, 414, 431].contains(&status), "{what}: {status}");
    }
    // 1000 harmless parameters are refused because they are unknown.
    let some: String = (0..1000).map(|number| format!("a{number}=1&")).collect();
    assert_eq!(request(&format!("GET /api/v1/audit?{some} HTTP/1.1"), ""), 400);
    is_well(&world, before, 16);
}

#[test]
fn malformed_chunks_and_incomplete_bodies_end_the_request() {
    let world = world();
    let before = world.resident();
    let path = format!("/api/v1{}", credentials_of(FEED));
    let head = |more: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: carnet.test\r\nAuthorization: Bearer {}\r\n{JSON}{more}\r\n",
            world.admin.token
        )
    };
    for (what, more, body, statuses) in [
        ("rubbish", "Transfer-Encoding: chunked\r\n", "zzz\r\n{}\r\n0\r\n\r\n", &[0, 400][..]),
        ("a negative chunk", "Transfer-Encoding: chunked\r\n", "-1\r\n{}\r\n0\r\n\r\n", &[0, 400]),
        ("a huge chunk", "Transfer-Encoding: chunked\r\n", "ffffffffffffffff\r\n{}", &[0, 400, 413]),
        ("a chunk beyond numbers", "Transfer-Encoding: chunked\r\n", "fffffffffffffffff\r\n{}", &[0, 400]),
        ("another coding", "Transfer-Encoding: gzip\r\n", "{}", &[0, 400, 501]),
        (
            "both",
            "Transfer-Encoding: chunked\r\nContent-Length: 2\r\n",
            "2\r\n{}\r\n0\r\n\r\n",
            &[0, 200, 400],
        ),
        ("a length that is none", "Content-Length: two\r\n", "{}", &[0, 400]),
        ("a length beyond numbers", "Content-Length: 99999999999999999999\r\n", "{}", &[0, 400, 413]),
        ("a length beyond the limit", "Content-Length: 9999999999\r\n", "{}", &[0, 400, 413]),
    ] {
        let mut connection = world.api.connect();
        connection.write(format!("{}{body}", head(more)).as_bytes());
        // The client half-closes: the missing bytes will never come.
        connection.finish();
        let status = connection.try_answer("POST").map_or(0, |response| response.status);
        assert!(statuses.contains(&status), "{what}: {status}");
    }
    // Well-formed chunks are a valid body.
    let mut connection = world.api.connect();
    connection.write(format!("{}2\r\n{{}}\r\n0\r\n\r\n", head("Transfer-Encoding: chunked\r\n")).as_bytes());
    success(&connection.response("POST"));
    let mut connection = world.api.connect();
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    connection
        .write(format!("{}{}0\r\n\r\n", head("Transfer-Encoding: chunked\r\n"), chunk.repeat(4)).as_bytes());
    assert_eq!(refusal(&connection.response("POST")), (413, "too-large".to_owned()));
    is_well(&world, before, 16);
}

#[test]
fn two_thousand_callers_at_once_without_a_grant_do_no_harm() {
    let world = world();
    let before = world.resident();
    let address = world.api.listening.strip_prefix("http://").unwrap();
    let answered: usize = std::thread::scope(|scope| {
        let flood = |worker: usize| {
            let streams: Vec<TcpStream> = (0..100)
                .map(|number| {
                    let mut stream = TcpStream::connect(address).unwrap();
                    let token = format!("carnet_{:0>71}", worker * 100 + number);
                    let request = format!(
                        "POST /api/v1{} HTTP/1.1\r\nHost: carnet.test\r\nAuthorization: Bearer {token}\r\n\
                         Connection: close\r\n\r\n",
                        credentials_of(FEED)
                    );
                    stream.write_all(request.as_bytes()).unwrap();
                    stream
                })
                .collect();
            streams.into_iter().filter(is_refused).count()
        };
        let workers: Vec<_> = (0..20).map(|worker| scope.spawn(move || flood(worker))).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).sum()
    });
    assert_eq!(answered, 2_000);
    is_well(&world, before, 64);
}

/// Returns whether the response is 401, or the connection was refused as one too many.
fn is_refused(stream: &TcpStream) -> bool {
    let mut response = String::new();
    let _ = std::io::Read::read_to_string(&mut &*stream, &mut response);
    ["401", "429", "503"].iter().any(|status| response.starts_with(&format!("HTTP/1.1 {status} ")))
}
