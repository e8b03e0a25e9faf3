//! Tokens on stdin.

use super::*;

#[test]
fn inspect_refuses_an_invalid_token() {
    let carnet = carnet();
    let inspect = |token: &[u8]| Output::of(&mut carnet.command(&["token", "inspect"]), token);
    let token = carnet.ok(&["token", "mint", "default/prod"]);
    let compact = "three base64url parts";
    for (what, input, rule) in [
        ("nothing", Vec::new(), compact),
        ("words", b"not a token".to_vec(), compact),
        ("parts that are no base64url", b"a.b.c".to_vec(), compact),
        ("a header that is no JSON", b"aGVsbG8.e30.c2ln".to_vec(), compact),
        ("two tokens", token.repeat(2).into_bytes(), compact),
        ("binary", vec![0xff; 64], "UTF-8"),
        ("a flood", vec![b'a'; 1 << 20], "20000 bytes"),
        ("a flood of dots", vec![b'.'; 20_000], compact),
        (
            "as many dots with line ends around them",
            ["\n", &".".repeat(20_000), "\r\n"].concat().into(),
            compact,
        ),
        ("one more dot", vec![b'.'; 20_001], "20000 bytes"),
        ("a flood of spaces", vec![b' '; 1 << 20], "20000 bytes"),
    ] {
        assert_refused(what, &inspect(&input), FAILED, &["stdin", rule]);
    }
}

#[test]
fn inspect_shows_a_token_that_is_not_valid_but_fails() {
    let carnet = carnet();
    let inspect = |token: &str| {
        let output =
            Output::of(&mut carnet.command(&["token", "inspect", "--output=json"]), token.trim().as_bytes());
        (output.status, output.stdout.contains("\"verified\": true"), output.stderr)
    };
    let good = carnet.ok(&["token", "mint", "default/prod"]);
    assert_eq!(inspect(&good), (0, true, String::new()));

    let other = Carnet::new();
    other.ok(&feed_add(&["--slug=prod"]).iter().map(String::as_str).collect::<Vec<_>>());
    let foreign = other.ok(&["token", "mint", "default/prod", "--issuer", ISSUER]);
    let [header, claims, signature] = good.trim().split('.').collect::<Vec<_>>()[..] else {
        panic!("{good}")
    };
    let foreign_claims = foreign.split('.').nth(1).unwrap();
    let turned: String = signature.chars().rev().collect();
    for (what, token) in [
        ("another issuer's key", foreign.clone()),
        ("other claims", format!("{header}.{foreign_claims}.{signature}")),
        ("another signature", format!("{header}.{claims}.{turned}")),
        ("no signature", format!("{header}.{claims}.")),
        ("alg none", format!("eyJhbGciOiJub25lIn0.{claims}.")),
    ] {
        let (status, verified, stderr) = inspect(&token);
        assert_eq!((status, verified), (FAILED, false), "{what}");
        assert!(stderr.contains("error: the token is not valid"), "{what}: {stderr}");
    }

    carnet.ok(&["feed", "update", "default/prod", "--token-lifetime=1"]);
    let short = carnet.ok(&["token", "mint", "default/prod"]);
    let refusal =
        wait_until(Duration::from_secs(30), || Some(inspect(&short)).filter(|(status, ..)| *status != 0));
    let (status, verified, stderr) = refusal.expect("the token lives for ever");
    assert_eq!((status, verified), (FAILED, false));
    assert!(stderr.contains("it has expired"), "{stderr}");
}
