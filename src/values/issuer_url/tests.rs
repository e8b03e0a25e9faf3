use proptest::prelude::*;
use url::Url;

use super::*;

#[test]
fn one_issuer_has_one_text() {
    #[rustfmt::skip]
    let table = [
        ("https://id.example", "https://id.example", "", None, false),
        ("https://id.example/", "https://id.example", "", None, false),
        ("HTTPS://ID.Example:443/", "https://id.example", "", None, false),
        ("https://id.example/a/b", "https://id.example/a/b", "/a/b", None, false),
        ("https://id.example/Oidc/v1.0_x~y-z/", "https://id.example/Oidc/v1.0_x~y-z", "/Oidc/v1.0_x~y-z", None, false),
        ("https://id.example/...", "https://id.example/...", "/...", None, false),
        ("https://id.example:8443/a", "https://id.example:8443/a", "/a", Some(8443), false),
        ("https://id.example:80", "https://id.example:80", "", Some(80), false),
        ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example", "", None, false),
        ("https://192.0.2.1", "https://192.0.2.1", "", None, false),
        ("https://localhost:8443", "https://localhost:8443", "", Some(8443), true),
        ("http://localhost:8080", "http://localhost:8080", "", Some(8080), true),
        ("http://LOCALHOST:80/x/", "http://localhost/x", "/x", None, true),
        ("http://localhost:443", "http://localhost:443", "", Some(443), true),
        ("http://127.9.8.7:1", "http://127.9.8.7:1", "", Some(1), true),
        ("http://[::1]:8080/a", "http://[::1]:8080/a", "/a", Some(8080), true),
        ("http://[0::1]", "http://[::1]", "", None, true),
    ];
    for (text, canonical, path, port, loopback) in table {
        let url: IssuerUrl = text.parse().expect(text);
        assert_eq!(url.as_str(), canonical);
        assert_eq!(url.to_string(), canonical);
        assert_eq!(url.path(), path, "{text}");
        assert_eq!(url.explicit_port(), port, "{text}");
        assert_eq!(url.is_loopback(), loopback, "{text}");
        assert_eq!(url.discovery_url(), format!("{canonical}/.well-known/openid-configuration"));
        assert_eq!(url.jwks_uri(), format!("{canonical}/.well-known/jwks"));
    }
}

#[test]
fn urls_that_parsers_may_read_differently_are_refused_by_rule() {
    use AuthorityRule as Host;
    use IssuerUrlRule as Rule;
    let table = [
        ("", Rule::Scheme),
        ("id.example", Rule::Scheme),
        ("//id.example", Rule::Scheme),
        ("https:id.example", Rule::Scheme),
        ("https:/id.example", Rule::Scheme),
        (r"https:\\id.example", Rule::Scheme),
        ("ftp://id.example", Rule::Scheme),
        ("file:///etc", Rule::Scheme),
        (" https://id.example", Rule::Scheme),
        ("\nhttps://id.example", Rule::Scheme),
        ("ht\ttps://id.example", Rule::Scheme),
        ("https\n://id.example", Rule::Scheme),
        ("http://id.example", Rule::Http),
        ("http://192.0.2.1", Rule::Http),
        ("http://localhost.evil.example", Rule::Http),
        ("http://127.0.0.1.evil.example", Rule::Http),
        ("http://[::]", Rule::Http),
        ("http://0.0.0.0", Rule::Http),
        ("https://user@id.example", Rule::UserInfo),
        ("https://user:hunter2@id.example", Rule::UserInfo),
        ("https://@id.example", Rule::UserInfo),
        ("http://localhost@evil.example", Rule::UserInfo),
        (r"http://localhost\@evil.example", Rule::UserInfo),
        ("https://id.example/a@b", Rule::UserInfo),
        ("https://id.example?", Rule::Query),
        ("https://id.example/?a=b", Rule::Query),
        ("https://id.example/a?b#c", Rule::Query),
        ("https://id.example#", Rule::Fragment),
        ("https://id.example/a#b?c", Rule::Fragment),
        ("https://", Rule::Host(Host::Empty)),
        ("https:///a", Rule::Host(Host::Empty)),
        ("https://:443", Rule::Host(Host::Empty)),
        ("https://id.example.", Rule::Host(Host::TrailingDot)),
        ("https://id..example", Rule::Host(Host::EmptyLabel)),
        ("https://bücher.example", Rule::Host(Host::International('ü'))),
        ("https://id.ex\u{430}mple", Rule::Host(Host::International('\u{430}'))),
        ("https://id\u{200b}.example", Rule::Host(Host::Character('\u{200b}'))),
        ("https://id.example ", Rule::Host(Host::Character(' '))),
        ("https://id.example\n", Rule::Host(Host::Character('\n'))),
        ("https://id.\texample", Rule::Host(Host::Character('\t'))),
        ("https://id%2eexample", Rule::Host(Host::Character('%'))),
        (r"https://id.example\a", Rule::Host(Host::Character('\\'))),
        ("https://127.1", Rule::Host(Host::Address([127, 0, 0, 1].into()))),
        ("http://0x7f000001", Rule::Host(Host::Address([127, 0, 0, 1].into()))),
        ("https://id.example:", Rule::Host(Host::Port)),
        ("https://id.example:0443", Rule::Host(Host::Port)),
        ("https://id.example:65536", Rule::Host(Host::Port)),
        ("https://id.example//", Rule::EmptySegment),
        ("https://id.example//a", Rule::EmptySegment),
        ("https://id.example/a//b", Rule::EmptySegment),
        ("https://id.example/a//", Rule::EmptySegment),
        ("https://id.example/.", Rule::DotSegment),
        ("https://id.example/a/../b", Rule::DotSegment),
        ("https://id.example/a/./b", Rule::DotSegment),
        ("https://id.example/a%2fb", Rule::PathCharacter('%')),
        ("https://id.example/%2e%2e", Rule::PathCharacter('%')),
        ("https://id.example/a b", Rule::PathCharacter(' ')),
        ("https://id.example/a\n", Rule::PathCharacter('\n')),
        ("https://id.example/a\r", Rule::PathCharacter('\r')),
        ("https://id.example/a\0", Rule::PathCharacter('\0')),
        (r"https://id.example/a\b", Rule::PathCharacter('\\')),
        ("https://id.example/ä", Rule::PathCharacter('ä')),
        ("https://id.example/{a}", Rule::PathCharacter('{')),
        ("https://id.example/a;b", Rule::PathCharacter(';')),
        ("https://id.example/a'b", Rule::PathCharacter('\'')),
        ("https://id.example/.well-known/openid-configuration", Rule::WellKnown),
        ("https://id.example/a/.well-known/openid-configuration/", Rule::WellKnown),
        ("https://id.example/.Well-Known/jwks", Rule::WellKnown),
        ("https://id.example/.well-known", Rule::WellKnown),
    ];
    for (text, rule) in table {
        assert_eq!(text.parse::<IssuerUrl>().map_err(|error| error.rule), Err(rule), "{text}");
    }
}

#[test]
fn the_limit_counts_the_canonical_text() {
    let longest = format!("https://id.example/{}", "x".repeat(255 - 19));
    assert_eq!(longest.len(), 255);
    assert_eq!(format!("{longest}/").parse::<IssuerUrl>().unwrap().as_str(), longest);
    let error = format!("{longest}x").parse::<IssuerUrl>().unwrap_err();
    assert_eq!(error.rule, IssuerUrlRule::TooLong(256));
    assert!(error.to_string().ends_with("use at most 255 characters, not 256"), "{error}");
}

#[test]
fn refusals_say_the_rule_and_repeat_no_secret() {
    let table = [
        (
            "http://id.example",
            r#""http://id.example" is not an issuer URL: use https (http is for localhost, 127.0.0.0/8 and [::1] only)"#,
        ),
        (
            "https://user:hunter2@id.example",
            r#""…@id.example" is not an issuer URL: leave off user name and password"#,
        ),
        (
            "https://id.example/?code=hunter2",
            r#""https://id.example/" is not an issuer URL: leave off “?” and what follows it"#,
        ),
        (
            "https://bücher.example",
            r#""https://bücher.example" is not an issuer URL: the host is not valid: write an international name in its “xn--” form, without 'ü' (U+00FC)"#,
        ),
        (
            "https://id.example/.well-known/openid-configuration",
            r#""https://id.example/.well-known/openid-configuration" is not an issuer URL: leave off “/.well-known” and what follows it"#,
        ),
    ];
    for (text, message) in table {
        assert_eq!(text.parse::<IssuerUrl>().unwrap_err().to_string(), message);
    }
}

#[test]
fn json_holds_a_string_and_checks_it() {
    let url: IssuerUrl = serde_json::from_str(r#""https://ID.example/""#).unwrap();
    assert_eq!(serde_json::to_string(&url).unwrap(), r#""https://id.example""#);
    assert!(serde_json::from_str::<IssuerUrl>(r#""http://id.example""#).is_err());
}

proptest! {
    #[test]
    fn url_parsers_change_nothing_and_parsing_again_changes_nothing(
        text in "(https|http|HTTPS)://(localhost|[a-zA-Z0-9.x-]{1,12}|127\\.0\\.0\\.1|\\[::1\\])(:[0-9]{1,5})?(/[a-zA-Z0-9._~%-]{0,6}){0,4}",
    ) {
        if let Ok(url) = text.parse::<IssuerUrl>() {
            prop_assert_eq!(&url.as_str().parse::<IssuerUrl>().unwrap(), &url);
            prop_assert!(!url.as_str().ends_with('/'));
            let seen = Url::parse(url.as_str()).unwrap();
            let expected = if url.path().is_empty() { format!("{url}/") } else { url.to_string() };
            prop_assert_eq!(seen.as_str(), expected);
            prop_assert_eq!(seen.port(), url.explicit_port());
            prop_assert_eq!(Url::parse(&url.discovery_url()).unwrap().to_string(), url.discovery_url());
        }
    }

    #[test]
    fn no_text_makes_it_panic_or_pass_unchecked(text in r"(https://)?\PC{0,20}") {
        if let Ok(url) = text.parse::<IssuerUrl>() {
            prop_assert!(url.as_str().is_ascii());
            prop_assert!(url.as_str().len() <= IssuerUrl::MAX_LEN);
        }
    }
}
