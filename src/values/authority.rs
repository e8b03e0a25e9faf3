//! `host[:port]`, the part that issuer URLs and registries have in common.
//!
//! Each host has exactly one text. A name that another parser could read as a different host (`127.1`,
//! `0x7f.1`, a trailing dot, an international name) is refused, because credentials are sent there.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use thiserror::Error;
use url::Host;

use crate::values::excerpt::{character, excerpt};

/// A DNS name, an IPv4 address or a bracketed IPv6 address, in lower case, with an optional port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Authority {
    text: String,
    host_len: usize,
    port: Option<u16>,
    loopback: bool,
}

impl Authority {
    /// The host and the port as written, in lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The host without the port; an IPv6 address keeps its brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.text[..self.host_len]
    }

    /// The port, if one was written.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// Returns whether the host is this machine: `localhost`, 127.0.0.0/8 or `[::1]`.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.loopback
    }
}

/// The error for a text that is not `host[:port]`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{value} is not a host: {rule}")]
pub struct AuthorityError {
    /// An excerpt of the text, quoted and escaped.
    pub value: String,
    /// The rule that the text breaks.
    pub rule: AuthorityRule,
}

/// The rules of `host[:port]` (RFC 1123 names, RFC 3986 addresses). Each message says what to do.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AuthorityRule {
    /// The host is empty.
    #[error("write a name or an address")]
    Empty,
    /// The text has a user name or a password.
    #[error("leave off user name and password")]
    UserInfo,
    /// The name is international and not in its `xn--` form.
    #[error("write an international name in its “xn--” form, without {}", character(*.0))]
    International(char),
    /// A character is not allowed in hosts.
    #[error("use letters, digits, “.” and “-”, not {}", character(*.0))]
    Character(char),
    /// The name has more than 253 characters.
    #[error("use at most 253 characters")]
    TooLong,
    /// The name ends with a dot.
    #[error("leave off the “.” at the end")]
    TrailingDot,
    /// A label is empty: there is nothing before, between or after dots.
    #[error("write at least one character between dots")]
    EmptyLabel,
    /// A label has more than 63 characters.
    #[error("use at most 63 characters between dots")]
    LabelTooLong,
    /// A label begins or ends with `-`.
    #[error("no part may begin or end with “-”")]
    LabelHyphen,
    /// The name is a number that other programs read as an address.
    #[error("other programs read this as {0}: write it so")]
    Address(Ipv4Addr),
    /// An `xn--` label does not decode, or a number is not an address.
    #[error("it is neither a valid name nor an address")]
    Invalid,
    /// The IPv6 address does not parse.
    #[error("write an IPv6 address in brackets, such as [::1]")]
    Ipv6,
    /// The port is not a number from 1 to 65535 in its shortest form.
    #[error("after “:” there must be a port from 1 to 65535")]
    Port,
}

impl FromStr for Authority {
    type Err = AuthorityError;

    fn from_str(value: &str) -> Result<Self, AuthorityError> {
        parse(value).map_err(|rule| AuthorityError { value: excerpt(value), rule })
    }
}

fn parse(value: &str) -> Result<Authority, AuthorityRule> {
    if value.contains('@') {
        return Err(AuthorityRule::UserInfo);
    }
    if let Some(c) =
        value.chars().find(|c| !matches!(c, 'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '-' | ':' | '[' | ']'))
    {
        let international = c.is_alphanumeric() && !c.is_ascii();
        return Err(if international {
            AuthorityRule::International(c)
        } else {
            AuthorityRule::Character(c)
        });
    }
    let (host, port) = split(value)?;
    let port = port.map(parse_port).transpose()?;
    let (mut text, loopback) = match host {
        Split::Ipv6(address) => parse_ipv6(address)?,
        Split::Name(name) => parse_name(name.to_ascii_lowercase())?,
    };
    let host_len = text.len();
    if let Some(port) = port {
        text.push_str(&format!(":{port}"));
    }
    Ok(Authority { text, host_len, port, loopback })
}

enum Split<'a> {
    Ipv6(&'a str),
    Name(&'a str),
}

fn split(value: &str) -> Result<(Split<'_>, Option<&str>), AuthorityRule> {
    if let Some(bracketed) = value.strip_prefix('[') {
        let (address, after) = bracketed.split_once(']').ok_or(AuthorityRule::Ipv6)?;
        return match after.strip_prefix(':') {
            Some(port) => Ok((Split::Ipv6(address), Some(port))),
            None if after.is_empty() => Ok((Split::Ipv6(address), None)),
            None => Err(AuthorityRule::Ipv6),
        };
    }
    match value.split_once(':') {
        Some((_, port)) if port.contains(':') => Err(AuthorityRule::Ipv6),
        Some((name, port)) => Ok((Split::Name(name), Some(port))),
        None => Ok((Split::Name(value), None)),
    }
}

/// Parses a port. Refuses leading zeros, so that each port has one text; this also excludes port 0.
fn parse_port(text: &str) -> Result<u16, AuthorityRule> {
    if text.starts_with('0') || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(AuthorityRule::Port);
    }
    text.parse().map_err(|_| AuthorityRule::Port)
}

fn parse_ipv6(text: &str) -> Result<(String, bool), AuthorityRule> {
    let address: Ipv6Addr = text.parse().map_err(|_| AuthorityRule::Ipv6)?;
    Ok((Host::<&str>::Ipv6(address).to_string(), address.is_loopback()))
}

fn parse_name(name: String) -> Result<(String, bool), AuthorityRule> {
    if name.is_empty() {
        return Err(AuthorityRule::Empty);
    }
    if name.len() > 253 {
        return Err(AuthorityRule::TooLong);
    }
    if name.len() > 1 && name.ends_with('.') && !name.ends_with("..") {
        return Err(AuthorityRule::TrailingDot);
    }
    name.split('.').try_for_each(check_label)?;
    // HTTP clients use the WHATWG parser. If it reads a host other than the text, the text is refused.
    match Host::parse(&name) {
        Ok(Host::Domain(seen)) if seen == name => {
            let loopback = name == "localhost";
            Ok((name, loopback))
        }
        Ok(Host::Ipv4(seen)) if seen.to_string() == name => Ok((name, seen.is_loopback())),
        Ok(Host::Ipv4(seen)) => Err(AuthorityRule::Address(seen)),
        Ok(_) | Err(_) => Err(AuthorityRule::Invalid),
    }
}

fn check_label(label: &str) -> Result<(), AuthorityRule> {
    match label {
        "" => Err(AuthorityRule::EmptyLabel),
        _ if label.contains(['[', ']']) => Err(AuthorityRule::Ipv6),
        _ if label.len() > 63 => Err(AuthorityRule::LabelTooLong),
        _ if label.starts_with('-') || label.ends_with('-') => Err(AuthorityRule::LabelHyphen),
        _ => Ok(()),
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_and_addresses_are_taken_in_lower_case() {
        let name63 = "x".repeat(63);
        let name253 = format!("{name63}.{name63}.{name63}.{}", "x".repeat(61));
        let table = [
            ("Registry.Example", "registry.example", "registry.example", None, false),
            ("registry:5000", "registry:5000", "registry", Some(5000), false),
            ("registry.example:443", "registry.example:443", "registry.example", Some(443), false),
            ("LOCALHOST:65535", "localhost:65535", "localhost", Some(65535), true),
            ("localhost.example", "localhost.example", "localhost.example", None, false),
            ("127.0.0.1", "127.0.0.1", "127.0.0.1", None, true),
            ("127.255.0.9:1", "127.255.0.9:1", "127.255.0.9", Some(1), true),
            ("10.0.0.1", "10.0.0.1", "10.0.0.1", None, false),
            ("[::1]", "[::1]", "[::1]", None, true),
            ("[0:0:0:0:0:0:0:1]:5000", "[::1]:5000", "[::1]", Some(5000), true),
            ("[2001:DB8::1]", "[2001:db8::1]", "[2001:db8::1]", None, false),
            ("[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::ffff:7f00:1]", None, false),
            ("xn--bcher-kva.example", "xn--bcher-kva.example", "xn--bcher-kva.example", None, false),
            ("0.example", "0.example", "0.example", None, false),
            (&name63, &name63, &name63, None, false),
            (&name253, &name253, &name253, None, false),
        ];
        for (text, canonical, host, port, loopback) in table {
            let authority: Authority = text.parse().unwrap();
            assert_eq!(authority.as_str(), canonical);
            assert_eq!(authority.to_string(), canonical);
            assert_eq!(authority.host(), host, "{text}");
            assert_eq!(authority.port(), port, "{text}");
            assert_eq!(authority.is_loopback(), loopback, "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused_by_the_rule_it_breaks() {
        use AuthorityRule as Rule;
        let long_label = "x".repeat(64);
        let long = format!("{}x", "x.".repeat(127));
        let table = [
            ("", Rule::Empty),
            (":80", Rule::Empty),
            ("user@host", Rule::UserInfo),
            ("user:hunter2@host", Rule::UserInfo),
            ("bücher.example", Rule::International('ü')),
            ("１.example", Rule::International('１')),
            ("a。b", Rule::Character('。')),
            ("a\u{ad}b", Rule::Character('\u{ad}')),
            ("a b", Rule::Character(' ')),
            (" host", Rule::Character(' ')),
            ("host\n", Rule::Character('\n')),
            ("host\t", Rule::Character('\t')),
            ("host\0", Rule::Character('\0')),
            ("a_b", Rule::Character('_')),
            ("a/b", Rule::Character('/')),
            (r"a\b", Rule::Character('\\')),
            ("a%2eb", Rule::Character('%')),
            ("*.example", Rule::Character('*')),
            ("a?b", Rule::Character('?')),
            ("a#b", Rule::Character('#')),
            ("a,b", Rule::Character(',')),
            ("host.", Rule::TrailingDot),
            ("host.:80", Rule::TrailingDot),
            ("host..", Rule::EmptyLabel),
            (".", Rule::EmptyLabel),
            (".host", Rule::EmptyLabel),
            ("a..b", Rule::EmptyLabel),
            ("-a.example", Rule::LabelHyphen),
            ("a-.example", Rule::LabelHyphen),
            (&long_label, Rule::LabelTooLong),
            (&long, Rule::TooLong),
            ("127.1", Rule::Address([127, 0, 0, 1].into())),
            ("0x7f.1", Rule::Address([127, 0, 0, 1].into())),
            ("2130706433", Rule::Address([127, 0, 0, 1].into())),
            ("127.0.0.01", Rule::Address([127, 0, 0, 1].into())),
            ("256.0.0.1", Rule::Invalid),
            ("1.2.3.4.5", Rule::Invalid),
            ("example.1", Rule::Invalid),
            ("xn--a", Rule::Invalid),
            ("::1", Rule::Ipv6),
            ("[::1", Rule::Ipv6),
            ("[::1]x", Rule::Ipv6),
            ("[::1]]", Rule::Ipv6),
            ("[]", Rule::Ipv6),
            ("[127.0.0.1]", Rule::Ipv6),
            ("::1]", Rule::Ipv6),
            ("a]", Rule::Ipv6),
            ("host:", Rule::Port),
            ("host:0", Rule::Port),
            ("host:0443", Rule::Port),
            ("host:65536", Rule::Port),
            ("host:99999999999", Rule::Port),
            ("host:-1", Rule::Port),
            ("host:http", Rule::Port),
            ("[::1]:", Rule::Port),
            ("host:1:2", Rule::Ipv6),
        ];
        for (text, rule) in table {
            assert_eq!(text.parse::<Authority>().unwrap_err().rule, rule, "{text}");
        }
    }

    #[test]
    fn passwords_are_not_repeated() {
        let message = "user:hunter2@host".parse::<Authority>().unwrap_err().to_string();
        assert_eq!(message, r#""…@host" is not a host: leave off user name and password"#);
    }

    proptest! {
        #[test]
        fn http_clients_see_the_same_host_and_port(
            text in r"[a-zA-Z0-9.x-]{1,12}(:[0-9]{1,5})?|\[[0-9a-f:]{2,9}\](:[0-9]{1,5})?|[0-9x.]{1,9}|\PC{1,8}",
        ) {
            if let Ok(authority) = text.parse::<Authority>() {
                let url = url::Url::parse(&format!("https://{authority}/")).unwrap();
                prop_assert_eq!(url.host_str(), Some(authority.host()));
                prop_assert_eq!(url.port_or_known_default(), Some(authority.port().unwrap_or(443)));
                prop_assert_eq!(url.username(), "");
                prop_assert_eq!(url.path(), "/");
                prop_assert_eq!(&authority.to_string().parse::<Authority>().unwrap(), &authority);
            }
        }
    }
}
