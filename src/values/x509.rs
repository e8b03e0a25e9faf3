//! The end of a certificate's validity (RFC 5280 section 4.1).
//!
//! For display and metrics only: no decision depends on it. Therefore the parser reads only the fields before
//! it and understands nothing else of the certificate.

use jiff::Timestamp;

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// The explicit tag `[0]`.
const VERSION: u8 = 0xa0;

/// Returns the end of the validity of a certificate in DER; `None` if the certificate is malformed.
#[must_use]
pub fn not_after(certificate: &[u8]) -> Option<Timestamp> {
    let (certificate, _) = expect(SEQUENCE, certificate)?;
    let (to_be_signed, _) = expect(SEQUENCE, certificate)?;
    let rest = match element(to_be_signed)? {
        (VERSION, _, rest) => rest,
        _ => to_be_signed,
    };
    let (_serial, rest) = expect(INTEGER, rest)?;
    let (_signature_algorithm, rest) = expect(SEQUENCE, rest)?;
    let (_issuer, rest) = expect(SEQUENCE, rest)?;
    let (validity, _) = expect(SEQUENCE, rest)?;
    let (_, _not_before, rest) = element(validity)?;
    let (kind, not_after, _) = element(rest)?;
    time(kind, std::str::from_utf8(not_after).ok()?)
}

/// Reads the first element of `der` if it has this tag; returns its content and the rest.
fn expect(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = element(der)?;
    (found == tag).then_some((content, rest))
}

/// Reads the first element of `der`; returns its tag, its content and the rest.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first - 0x80))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}

/// Parses `YYMMDDHHMMSSZ` of the years 1950 to 2049, or `YYYYMMDDHHMMSSZ`.
fn time(kind: u8, text: &str) -> Option<Timestamp> {
    let digits = text.strip_suffix('Z').filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    let whole = match (kind, digits.len()) {
        (UTC_TIME, 12) => format!("{}{digits}", if digits < "50" { "20" } else { "19" }),
        (GENERALIZED_TIME, 14) => digits.to_owned(),
        _ => return None,
    };
    let part = |from: usize, to: usize| whole.get(from..to).unwrap_or_default();
    let (date, clock) = ([part(0, 4), part(4, 6), part(6, 8)], [part(8, 10), part(10, 12), part(12, 14)]);
    format!("{}T{}Z", date.join("-"), clock.join(":")).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificates_expiry_is_found_in_every_form() {
        for (year, expected) in [
            (2026, "2026-03-04T00:00:00Z"),
            (2049, "2049-03-04T00:00:00Z"),
            (2050, "2050-03-04T00:00:00Z"),
            (9999, "9999-03-04T00:00:00Z"),
        ] {
            let key = rcgen::KeyPair::generate().unwrap();
            let mut parameters = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
            parameters.not_after = rcgen::date_time_ymd(year, 3, 4);
            let certificate = parameters.self_signed(&key).unwrap();
            assert_eq!(not_after(certificate.der()), Some(expected.parse().unwrap()), "{year}");
            for end in 0..60 {
                assert_eq!(not_after(&certificate.der()[..end]), None);
            }
        }
    }

    #[test]
    fn times_are_read_as_x_509_writes_them() {
        for (kind, text, expected) in [
            (UTC_TIME, "260304050607Z", Some("2026-03-04T05:06:07Z")),
            (UTC_TIME, "500101000000Z", Some("1950-01-01T00:00:00Z")),
            (UTC_TIME, "491231235959Z", Some("2049-12-31T23:59:59Z")),
            (GENERALIZED_TIME, "20500101000000Z", Some("2050-01-01T00:00:00Z")),
            (UTC_TIME, "20500101000000Z", None),
            (GENERALIZED_TIME, "500101000000Z", None),
            (UTC_TIME, "261304050607Z", None),
            (UTC_TIME, "2603040506Z", None),
            (UTC_TIME, "260304050607+0100", None),
            (UTC_TIME, "", None),
        ] {
            assert_eq!(time(kind, text), expected.map(|text| text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn nonsense_is_not_read() {
        for der in [
            &b""[..],
            b"\x30",
            b"\x30\x85\x01\x01\x01\x01\x01",
            b"\x30\x80\x00\x00",
            b"\x30\x84\xff\xff\xff\xff",
        ] {
            assert_eq!(not_after(der), None);
        }
    }
}
