//! Terminal output: no text from outside reaches the terminal with characters that it obeys or hides.

use std::io::{BufReader, Write as _};
use std::net::TcpListener;

use crate::support::carnet::{Carnet, Issuer, Output};
use crate::support::database;
use crate::support::recording_proxy::read_request;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

const REGISTRY: &str = "123456789012.dkr.ecr.eu-central-1.amazonaws.com";
const ROLE: &str = "arn:aws:iam::123456789012:role/pull";

/// Clears the screen, sets the title and colours, reverses direction, hides text, and imitates a line of
/// carnet's.
const HOSTILE: &str = "\u{1b}[2J\u{1b}]0;t\u{7}\u{9b}31m\u{202e}live\u{2066}\u{200b}\u{200f}\u{61c}\u{2028}\u{feff}\u{7f}\u{e0041}\r\nhint: run this";
/// Characters that earlier versions accepted in a name.
const HIDDEN: &str = "\u{202e}live\u{2066}\u{200b}\u{200f}\u{61c}\u{2028}\u{feff}\u{e0041}";

/// Checks that stdout and stderr have only lines of visible characters.
#[track_caller]
fn assert_harmless(output: &Output, what: &str) {
    for text in [&output.stdout, &output.stderr] {
        let hidden: Vec<char> = text
            .chars()
            .filter(|c| {
                (c.is_control() && *c != '\n')
                    || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e0fff}')
            })
            .collect();
        assert!(hidden.is_empty(), "{what} prints {hidden:?}:\n{}", text.escape_debug());
        assert!(!text.lines().any(|line| line.starts_with("hint: run this")), "{what}:\n{text}");
    }
}

/// Runs `carnet ARGUMENTS` with full logs in both formats, and checks that the text is shown, escaped and
/// harmless.
#[track_caller]
fn run(carnet: &Carnet, arguments: &[&str], stdin: &str) -> Output {
    let mut shown = None;
    for log in [&["--log=warn"][..], &["--log=trace"], &["--log=trace", "--log-format=json"]] {
        let output = Output::of(&mut carnet.command(&[arguments, log].concat()), stdin.as_bytes());
        assert_harmless(&output, &arguments.join(" "));
        shown.get_or_insert(output);
    }
    shown.unwrap()
}

#[track_caller]
fn shows(output: &Output, escaped: &str) {
    assert!(format!("{}{}", output.stdout, output.stderr).contains(escaped), "no {escaped} in {output:?}");
}

/// Starts an HTTP server that sends this response to every request.
fn answering(status: &'static str, headers: &'static str, body: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = read_request(&mut BufReader::new(stream.try_clone().unwrap()));
            let length = body.len();
            let head = format!(
                "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
            );
            let _ = stream.write_all(&[head.as_bytes(), body.as_bytes()].concat());
        }
    });
    url
}

/// Returns a carnet of `issuer` with the feed `default/prod`.
fn founded(issuer: &str) -> Carnet {
    let carnet = Carnet::new();
    add_feed(&carnet, "https://sts.example");
    carnet.ok(&["key", "list", "--issuer", issuer]);
    carnet
}

fn add_feed(carnet: &Carnet, endpoint: &str) {
    let (sts, ecr) = (format!("--endpoint=sts={endpoint}"), format!("--endpoint=ecr={endpoint}"));
    let fields = ["--space=default", "--slug=prod", "--registry", REGISTRY, "--role-arn", ROLE, &sts, &ecr];
    carnet.ok(&[&["feed", "add", "aws-ecr"], &fields[..]].concat());
}

/// Returns the statement with `text` as an SQL literal.
fn sql(statement: &str, text: &str) -> &'static str {
    statement.replace('?', &format!("'{}'", text.replace('\'', "''"))).leak()
}

#[test]
fn token_inspect_shows_hostile_claims_escaped_and_json_keeps_their_value() {
    let carnet = founded("https://issuer.example");
    let header = json!({ "alg": "ES256", "kid": HOSTILE });
    let claims = json!({ "iss": HOSTILE, "sub": HOSTILE, "exp": 1, HOSTILE: HOSTILE, "list": [HOSTILE, {"a": HOSTILE}] });
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let token = format!("{}.{}.AAAA", part(&header), part(&claims));
    let table = run(&carnet, &["token", "inspect"], &token);
    shows(&table, "\\u{1b}[2J\\u{1b}]0;t\\u{7}\\u{9b}31m\\u{202e}live");
    let printed = run(&carnet, &["token", "inspect", "--output=json"], &token);
    let printed: Value = serde_json::from_str(&printed.stdout).unwrap();
    assert_eq!((&printed["header"], &printed["claims"]), (&header, &claims));
    run(&carnet, &["token", "inspect"], HOSTILE);
}

#[test]
fn rows_that_hold_hostile_text_are_listed_harmlessly() {
    let carnet = founded("https://issuer.example");
    carnet.ok(&["grant", "create", "--role=viewer"]);
    let on = carnet.database();
    // As an attacker with write access writes it, and as an earlier version accepted it.
    database::execute(&on, sql("UPDATE audit SET detail = ?, actor = ?", HOSTILE));
    database::execute(&on, sql("UPDATE grants SET id = ?", HOSTILE));
    database::execute(&on, sql("UPDATE feeds SET name = ?", HIDDEN));
    for arguments in [
        &["audit", "list"][..],
        &["audit", "list", "--output=json"],
        &["audit", "list", "--output=jsonl"],
        &["audit", "verify"],
        &["audit", "verify", "--output=json"],
        &["grant", "list"],
        &["grant", "list", "--output=json"],
        &["doctor"],
        &["doctor", "--output=json"],
    ] {
        run(&carnet, arguments, "");
    }
    shows(&run(&carnet, &["audit", "list"], ""), "\\u{1b}[2J");
    shows(&run(&carnet, &["feed", "show", "default/prod"], ""), "\\u{202e}live\\u{2066}");
    shows(&run(&carnet, &["feed", "list"], ""), "default/prod");
    let shown = run(&carnet, &["feed", "show", "default/prod", "--output=json"], "");
    assert_eq!(serde_json::from_str::<Value>(&shown.stdout).unwrap()["name"], HIDDEN);
    run(&carnet, &["feed", "setup", "default/prod"], "");
    run(&carnet, &["feed", "setup", "default/prod", "--format=terraform"], "");
    run(&carnet, &["feed", "remove", "default/prod"], "");
}

#[test]
fn hostile_responses_of_clouds_registries_and_servers_are_printed_harmlessly() {
    let issuer = Issuer::http();
    let refusal = format!(
        "<ErrorResponse><Error><Code>{0}</Code><Message>{0}</Message></Error><RequestId>{0}</RequestId></ErrorResponse>",
        HOSTILE.replace(|c: char| c < ' ' && c != '\n', "")
    );
    let cloud = answering("403 Forbidden", "x-amzn-requestid: \u{9b}\u{202e}\r\n", refusal);
    add_feed(&issuer.carnet, &cloud);
    for arguments in [
        &["feed", "check", "default/prod"][..],
        &["feed", "check", "default/prod", "--output=json"],
        &["feed", "credentials", "default/prod"],
    ] {
        let output = run(&issuer.carnet, arguments, "");
        assert_eq!(output.status, 1, "{output:?}");
        shows(&output, "202e");
    }

    let problem = json!({
        "type": "urn:carnet:problem:nonsense", "title": HOSTILE, "status": 403, "detail": HOSTILE, "hint": HOSTILE,
        "request_id": HOSTILE, "feeds": [HOSTILE],
        "upstream": {"provider": HOSTILE, "step": HOSTILE, "status": 400, "code": HOSTILE, "message": HOSTILE, "request_id": HOSTILE},
        "presented": {"iss": HOSTILE, "sub": HOSTILE, "aud": HOSTILE, "kid": HOSTILE, "alg": HOSTILE},
    });
    let credential = json!({
        "feed": HOSTILE, "registry": "r.example", "username": "u", "password": "p\u{202e}", "source": HOSTILE,
        "issued_at": "2026-01-01T00:00:00Z", "expires_at": "2126-01-01T12:00:00Z", "expiries": [],
        "jti": "00000000-0000-0000-0000-000000000000",
    });
    for (status, body) in [
        ("403 Forbidden", problem),
        ("200 OK", credential.clone()),
        ("200 OK", {
            let mut other = credential;
            other["username"] = HOSTILE.into();
            other
        }),
    ] {
        let server = answering(status, "Content-Type: application/problem+json\r\n", body.to_string());
        for format in ["json", "env", "docker-config", "k8s-secret", "password"] {
            let mut command = issuer.carnet.bare_command();
            command.args(["feed", "credentials", "default/prod", "--log=trace", "--format", format]);
            command.env("CARNET_URL", &server).env("CARNET_TOKEN", "carnet_token");
            assert_harmless(&Output::of(&mut command, b""), format);
        }
    }
}

#[test]
fn a_hostile_response_at_the_issuer_url_is_printed_harmlessly_by_doctor() {
    let document =
        json!({ "issuer": HOSTILE, "jwks_uri": HOSTILE, "keys": [{"kid": HOSTILE, "kty": HOSTILE}] });
    let url = answering("200 OK", "Content-Type: text/\u{202e}\r\n", document.to_string());
    let carnet = founded(&url);
    for format in ["table", "json"] {
        let output = run(&carnet, &["doctor", "--allow-private", "--output", format], "");
        assert_eq!(output.status, 1, "{output:?}");
    }
}

#[test]
fn errors_about_arguments_are_printed_harmlessly() {
    let carnet = founded("https://issuer.example");
    let flag = format!("--{HOSTILE}");
    let file = format!("--ca-file=/nowhere/{HOSTILE}");
    let target = format!("/nowhere/{HIDDEN}");
    for arguments in [
        &[HOSTILE][..],
        &["feed", HOSTILE],
        &["feed", "show", HOSTILE],
        &["feed", "list", &flag],
        &["key", "revoke", HOSTILE],
        &["feed", "credentials", "a/b", &file],
        &["publish", &target],
        &["audit", "list", "--kind", HOSTILE],
    ] {
        let output = run(&carnet, arguments, "");
        assert_ne!(output.status, 0, "{output:?}");
    }
}
