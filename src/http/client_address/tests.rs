use http::HeaderValue;
use proptest::prelude::*;

use super::*;

fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
    let field = |(name, value): &(&'static str, &str)| {
        (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
    };
    let mut headers = HeaderMap::new();
    for (name, value) in fields.iter().map(field) {
        headers.append(name, value);
    }
    headers
}

fn peer(text: &str) -> Peer {
    if text == UNIX { Peer::Unix } else { Peer::from(SocketAddr::new(text.parse().unwrap(), 1)) }
}

#[test]
fn the_right_most_untrusted_address_is_the_clients() {
    let trusted: TrustedProxies = "10.0.0.0/8, 127.0.0.1,fd00::/8,unix".parse().unwrap();
    for (from, forwarded, client) in [
        ("10.0.0.1", "203.0.113.7", "203.0.113.7"),
        ("::ffff:10.0.0.1", "203.0.113.7", "203.0.113.7"),
        ("fd00::1", "2001:db8::7", "2001:db8::7"),
        ("unix", "203.0.113.7", "203.0.113.7"),
        ("127.0.0.1", "203.0.113.7", "203.0.113.7"),
        // The client's own additions are on the left.
        ("10.0.0.1", "127.0.0.1, 198.51.100.1, 203.0.113.7", "203.0.113.7"),
        ("10.0.0.1", "no address, 203.0.113.7", "203.0.113.7"),
        ("10.0.0.1", "203.0.113.7, 10.2.3.4,10.0.0.9", "203.0.113.7"),
        ("10.0.0.1", "  203.0.113.7\t,, 10.2.3.4 ,", "203.0.113.7"),
        // The forms of various proxies.
        ("10.0.0.1", "203.0.113.7:51234", "203.0.113.7"),
        ("10.0.0.1", "[2001:db8::7]:443", "2001:db8::7"),
        ("10.0.0.1", "[2001:db8::7]", "2001:db8::7"),
        ("10.0.0.1", "::ffff:203.0.113.7", "203.0.113.7"),
        // Only trusted proxies: the farthest one.
        ("10.0.0.1", "10.9.9.9, 10.2.3.4", "10.9.9.9"),
        // A proxy on another machine, with a request from that machine itself.
        ("10.0.0.1", "127.0.0.2", "127.0.0.2"),
        // Malformed in a part that must be read.
        ("10.0.0.1", "203.0.113.7, unknown", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.7, unknown, 10.2.3.4", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.7; 10.2.3.4", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.07", "10.0.0.1"),
        ("10.0.0.1", "[203.0.113.7]", "10.0.0.1"),
        ("10.0.0.1", "fe80::1%eth0", "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("unix", "unknown", "unix"),
    ] {
        let found = trusted.client(peer(from), &headers(&[("x-forwarded-for", forwarded)]));
        assert_eq!(found.to_string(), client, "{from}: {forwarded}");
        assert!(matches!(found, ClientAddress::Proxied(_)), "{from}: {forwarded}");
        assert!(!found.is_loopback(), "{from}: {forwarded}");
    }
    let several = headers(&[("x-forwarded-for", "1.1.1.1, 203.0.113.7"), ("x-forwarded-for", "10.3.3.3")]);
    assert_eq!(trusted.client(peer("10.0.0.1"), &several).to_string(), "203.0.113.7");
    let both = headers(&[("forwarded", "for=127.0.0.1"), ("x-real-ip", "127.0.0.1")]);
    assert_eq!(
        trusted.client(peer("10.0.0.1"), &both),
        ClientAddress::Proxied(Some([10, 0, 0, 1].into())),
        "only X-Forwarded-For is read"
    );
}

#[test]
fn only_a_request_without_a_trace_of_a_proxy_is_loopback() {
    let nobody = TrustedProxies::default();
    let local: TrustedProxies = "127.0.0.0/8,unix".parse().unwrap();
    for (trusted, from, field, loopback) in [
        (&nobody, "127.0.0.1", None, true),
        (&nobody, "::1", None, true),
        (&nobody, "::ffff:127.0.0.1", None, true),
        (&nobody, "unix", None, true),
        (&nobody, "10.0.0.1", None, false),
        (&nobody, "127.0.0.1", Some("x-forwarded-for"), false),
        (&nobody, "unix", Some("x-forwarded-for"), false),
        (&nobody, "127.0.0.1", Some("forwarded"), false),
        (&nobody, "127.0.0.1", Some("via"), false),
        (&nobody, "10.0.0.1", Some("x-forwarded-for"), false),
        (&local, "127.0.0.1", None, false),
        (&local, "unix", None, false),
        (&local, "127.0.0.1", Some("x-forwarded-for"), false),
        (&local, "::1", None, true),
    ] {
        let headers = field.map_or_else(HeaderMap::new, |field| headers(&[(field, "127.0.0.1")]));
        let client = trusted.client(peer(from), &headers);
        assert_eq!(client.is_loopback(), loopback, "{from} {field:?}: {client:?}");
    }
}

#[test]
fn trusted_proxies_are_valid_networks() {
    for text in ["", "10.0.0.0/8", "10.1.2.3", "::1", "fd00::/8, 10.0.0.0/8", "unix", " 192.0.2.0/24 ,"] {
        assert!(text.parse::<TrustedProxies>().is_ok(), "{text}");
    }
    for (text, message) in [
        ("10.0.0.1/8", "10.0.0.1/8 has bits beyond its prefix; the network is 10.0.0.0/8"),
        ("0.0.0.0/0", "0.0.0.0/0 includes every address, so every client could claim any address"),
        ("::ffff:0:0/96", "0.0.0.0/0 includes every address, so every client could claim any address"),
        ("::ffff:10.0.0.1/104", "10.0.0.1/8 has bits beyond its prefix; the network is 10.0.0.0/8"),
        ("::/0", "::/0 includes every address, so every client could claim any address"),
        ("proxy", "\"proxy\" is not an address, a network such as 10.0.0.0/8, or \"unix\""),
        ("10.0.0.0/33", "\"10.0.0.0/33\" is not an address, a network such as 10.0.0.0/8, or \"unix\""),
    ] {
        assert_eq!(text.parse::<TrustedProxies>().unwrap_err().to_string(), message);
    }
}

#[test]
fn a_proxy_named_by_an_ipv4_mapped_address_is_trusted() {
    for (text, from, is_trusted) in [
        ("::ffff:10.0.0.1", "10.0.0.1", true),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.1", true),
        ("::ffff:10.0.0.1", "10.0.0.2", false),
        ("::ffff:a00:0/104", "10.9.9.9", true),
        ("::ffff:10.0.0.0/104", "11.0.0.1", false),
        ("::fffe:0:0/96", "0.0.0.1", false),
        ("fd00::/8", "fd00::1", true),
    ] {
        let trusted: TrustedProxies = text.parse().unwrap();
        assert_eq!(trusted.trust(peer(from)), is_trusted, "{text} {from}");
    }
}

/// Returns any possible value of a header.
fn anything() -> impl Strategy<Value = Vec<u8>> {
    let address =
        prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u16; 8]>().prop_map(IpAddr::from)];
    prop_oneof![
        proptest::collection::vec(prop_oneof![32_u8..127, 128_u8..=255], 0..60),
        proptest::collection::vec(address, 0..5).prop_map(|list| list
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", ")
            .into_bytes()),
    ]
}

proptest! {
    #[test]
    fn a_client_never_changes_the_address_that_a_trusted_proxy_reports(written in anything(), client: [u8; 4]) {
        let trusted: TrustedProxies = "10.0.0.0/8".parse().unwrap();
        let client = IpAddr::from(client);
        prop_assume!(!trusted.trust(Peer::Ip(client)));
        let value = [written, format!(", {client}").into_bytes()].concat();
        let mut headers = HeaderMap::new();
        headers.append(X_FORWARDED_FOR, HeaderValue::from_bytes(&value).unwrap());
        let found = trusted.client(Peer::Ip([10, 0, 0, 1].into()), &headers);
        prop_assert_eq!(found, ClientAddress::Proxied(Some(client)));
    }

    #[test]
    fn an_untrusted_peer_is_identified_by_its_socket(written in anything(), address: [u8; 4]) {
        let trusted: TrustedProxies = "10.0.0.0/8".parse().unwrap();
        let address = IpAddr::from(address);
        prop_assume!(!trusted.trust(Peer::Ip(address)));
        let mut headers = HeaderMap::new();
        headers.append(X_FORWARDED_FOR, HeaderValue::from_bytes(&written).unwrap());
        let found = trusted.client(Peer::Ip(address), &headers);
        prop_assert_eq!(found.ip(), Some(address));
        prop_assert!(!found.is_loopback());
    }
}
