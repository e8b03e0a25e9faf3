//! This machine's clock, compared with the issuer URL's `Date` and with the database's times.

use std::time::Duration;

use jiff::SignedDuration;
use jiff::fmt::rfc2822::DateTimeParser;

use super::Finding;
use super::fetch::Fetched;
use crate::clock_watch::database_clock::ClockView;

const CLOCK: &str = "clock";
const HIGH_WATER: &str = "clock-high-water";

/// Tokens are backdated by this much. A clock that is ahead by more mints tokens from the future.
const BACKDATED_BY: SignedDuration = SignedDuration::from_secs(5);

/// Compares the clock with the `Date` of responses (RFC 9110 section 6.6.1). If the responses came from this
/// machine (`on_this_machine`), agreement proves nothing.
#[must_use]
pub fn check(responses: &[&Fetched], leeway: Duration, on_this_machine: bool) -> Option<Finding> {
    let skew = responses.iter().filter_map(|fetched| skew(fetched)).max_by_key(|skew| skew.unsigned_abs())?;
    let seconds = skew.as_secs().unsigned_abs();
    let direction = if skew.is_negative() { "behind" } else { "ahead of" };
    let summary = format!("this machine's clock is {seconds} s {direction} the issuer URL's `Date`");
    let why = "Clouds compare a token's iat, nbf and exp with their own clocks: Google requires iat in the \
               past, AWS responds with ExpiredTokenException, Entra with AADSTS700024.";
    let hint = "synchronize the clocks of this machine and of the server at the issuer URL with NTP";
    let (tolerable, leeway) =
        (skew.abs() <= BACKDATED_BY, SignedDuration::try_from(leeway).unwrap_or_default());
    Some(match () {
        () if tolerable && on_this_machine => Finding::ok(
            CLOCK,
            "agrees with the issuer URL's `Date`, but this machine wrote it, so nothing was compared",
        ),
        () if tolerable && skew.is_zero() => Finding::ok(CLOCK, "agrees with the issuer URL's `Date`"),
        () if tolerable => Finding::ok(CLOCK, summary),
        () if skew.abs() <= leeway => Finding::warning(CLOCK, summary).detail(why).hint(hint),
        () => Finding::failed(CLOCK, summary).detail(why).hint(hint),
    })
}

/// Returns the minimum by which the clock is ahead, negative if it is behind. Zero if the second that `Date`
/// names, or the time that the response took, explains the difference.
fn skew(fetched: &Fetched) -> Option<SignedDuration> {
    let response = fetched.outcome.as_ref().ok()?;
    let header = |name: http::HeaderName| response.headers.get(name)?.to_str().ok();
    let date = DateTimeParser::new().parse_timestamp(header(http::header::DATE)?).ok()?;
    // A cache sends the origin's `Date` and its age in seconds.
    let age = header(http::header::AGE).and_then(|age| age.parse().ok()).unwrap_or(0);
    let earliest = date.checked_add(SignedDuration::from_secs(age)).ok()?;
    let latest = earliest.checked_add(SignedDuration::from_secs(1)).ok()?;
    Some(if fetched.answered_at < earliest {
        fetched.answered_at.duration_since(earliest)
    } else if fetched.began_at > latest {
        fetched.began_at.duration_since(latest)
    } else {
        SignedDuration::ZERO
    })
}

/// Compares the clock with the times in the database, as a server that starts now would.
#[must_use]
pub fn check_high_water(view: &ClockView) -> Finding {
    match view.reading.check() {
        Err(doubt) => Finding::failed(HIGH_WATER, doubt.to_string())
            .detail(
                "While the clock is in doubt, carnet mints no tokens, rotates no keys and prunes nothing.",
            )
            .hint(format!("{}; `carnet key clock` shows both", doubt.fix())),
        Ok(()) if view.has_later_times() => Finding::warning(
            HIGH_WATER,
            format!("{} keys and {} grants have times in the future", view.later_keys, view.later_grants),
        )
        .detail(
            "They were recorded with a wrong clock: such a key rotates too late, and such a grant is valid \
             for too long.",
        )
        .hint("once every machine's clock is right, `carnet key clock --set-back` corrects them"),
        Ok(()) => Finding::ok(HIGH_WATER, "fits the latest time known to the database"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue};
    use jiff::Timestamp;

    use super::*;
    use crate::clock_watch::ClockWatch;
    use crate::doctor::Status;
    use crate::doctor::fetch::FetchedResponse;
    use crate::jose::key_pair::RsaBits;
    use crate::signing_keys::policy::RotationPolicy;
    use crate::store::issuer::KeySettings;
    use crate::values::clock::SimulatedClock;

    const LEEWAY: Duration = Duration::from_secs(300);

    fn response(date: &str, age: Option<&str>, began_at: &str, answered_at: &str) -> Fetched {
        let mut headers = HeaderMap::new();
        headers.insert("date", HeaderValue::from_str(date).unwrap());
        if let Some(age) = age {
            headers.insert("age", HeaderValue::from_str(age).unwrap());
        }
        Fetched {
            url: String::new(),
            began_at: began_at.parse().unwrap(),
            answered_at: answered_at.parse().unwrap(),
            took: Duration::ZERO,
            outcome: Ok(FetchedResponse {
                status: 200,
                headers,
                body: Bytes::new(),
                certificate_expires_at: None,
            }),
        }
    }

    #[test]
    fn the_clock_is_judged_by_differences_that_network_delay_cannot_explain() {
        for (began, answered, age, expected, words) in [
            ("08:49:37.5", "08:49:37.6", None, Status::Ok, "agrees"),
            ("08:49:36", "08:49:40", None, Status::Ok, "agrees"),
            ("08:49:30", "08:49:31", None, Status::Warning, "6 s behind"),
            ("08:49:32", "08:49:33", None, Status::Ok, "4 s behind"),
            ("08:49:45", "08:49:46", None, Status::Warning, "7 s ahead of"),
            ("08:49:45", "08:49:46", Some("8"), Status::Ok, "agrees"),
            ("08:40:00", "08:40:01", None, Status::Failed, "576 s behind"),
            ("08:59:38", "08:59:39", None, Status::Failed, "600 s ahead of"),
        ] {
            let [began, answered] = [began, answered].map(|time| format!("1994-11-06T{time}Z"));
            let response = response("Sun, 06 Nov 1994 08:49:37 GMT", age, &began, &answered);
            let finding = check(&[&response], LEEWAY, false).unwrap();
            assert_eq!(finding.status, expected, "{began} {answered}: {}", finding.summary);
            assert!(finding.summary.contains(words), "{}", finding.summary);
        }
        let nonsense = response("yesterday", None, "1994-11-06T00:00:00Z", "1994-11-06T00:00:00Z");
        assert_eq!(check(&[&nonsense], LEEWAY, false), None);
    }

    #[test]
    fn a_clock_that_does_not_fit_the_databases_times_fails_and_times_in_the_future_are_a_warning() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let day = 24 * 3600;
        for (ahead, later_grants, expected) in [
            (-1, 0, Status::Ok),
            (300, 0, Status::Ok),
            (301, 0, Status::Failed),
            (-30 * day, 0, Status::Ok),
            (-30 * day - 1, 0, Status::Failed),
            (-1, 1, Status::Warning),
        ] {
            let high_water = now + SignedDuration::from_secs(ahead);
            let settings = KeySettings {
                generation: 1,
                publications: 0,
                policy: RotationPolicy::default(),
                rsa_bits: RsaBits::default(),
                high_water,
                pruning_time: high_water,
                set_backs: 0,
                erasure_pending: false,
            };
            let watch = ClockWatch::new(Arc::new(SimulatedClock::at(now)));
            let reading = watch.assess(settings.time(), &settings.policy);
            let view = ClockView { reading, settings, later_keys: 0, later_grants };
            assert_eq!(check_high_water(&view).status, expected, "{ahead}");
        }
    }
}
