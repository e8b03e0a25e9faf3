//! This machine's clock, against what others say.

use std::time::Duration;

use jiff::fmt::rfc2822::DateTimeParser;
use jiff::{SignedDuration, Timestamp};

use super::Finding;
use super::fetch::Fetched;
use crate::signing_keys::clock_guard::is_behind;

const CLOCK: &str = "clock";
const HIGH_WATER: &str = "clock-high-water";

/// Tokens are backdated by this much; a clock that is ahead by more makes tokens from the future.
const BACKDATED_BY: SignedDuration = SignedDuration::from_secs(5);

/// The clock against the `Date` of answers (RFC 9110 section 6.6.1). `on_this_machine`: the answers came from here,
/// and agreement proves nothing.
#[must_use]
pub fn check(answers: &[&Fetched], leeway: Duration, on_this_machine: bool) -> Option<Finding> {
    let skew = answers.iter().filter_map(|fetched| skew(fetched)).max_by_key(|skew| skew.unsigned_abs())?;
    let seconds = skew.as_secs().unsigned_abs();
    let direction = if skew.is_negative() { "behind" } else { "ahead of" };
    let summary = format!("this machine's clock is {seconds} s {direction} the issuer URL's `Date`");
    let why = "Clouds compare a token's iat, nbf and exp with their own clocks: Google wants iat in the past, AWS answers \
               ExpiredTokenException, Entra AADSTS700024.";
    let hint = "keep the clocks of this machine and of whatever serves the issuer URL with NTP";
    let (tolerable, leeway) =
        (skew.abs() <= BACKDATED_BY, SignedDuration::try_from(leeway).unwrap_or_default());
    Some(match () {
        () if tolerable && on_this_machine => Finding::ok(
            CLOCK,
            "agrees with the issuer URL's `Date`, which this machine itself wrote: no comparison",
        ),
        () if tolerable && skew.is_zero() => Finding::ok(CLOCK, "agrees with the issuer URL's `Date`"),
        () if tolerable => Finding::ok(CLOCK, summary),
        () if skew.abs() <= leeway => Finding::warning(CLOCK, summary).detail(why).hint(hint),
        () => Finding::failed(CLOCK, summary).detail(why).hint(hint),
    })
}

/// How far the clock was ahead at least; zero if it was anywhere within the second that `Date` names, or the answer's
/// way explains it.
fn skew(fetched: &Fetched) -> Option<SignedDuration> {
    let answer = fetched.outcome.as_ref().ok()?;
    let header = |name: http::HeaderName| answer.headers.get(name)?.to_str().ok();
    let date = DateTimeParser::new().parse_timestamp(header(http::header::DATE)?).ok()?;
    // A cache tells the `Date` of the origin, and how long ago that was.
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

/// The clock against the highest time that any process has seen with this database.
#[must_use]
pub fn check_high_water(now: Timestamp, high_water: Timestamp, leeway: Duration) -> Finding {
    if is_behind(now, high_water, leeway) {
        return Finding::failed(
            HIGH_WATER,
            format!("this machine's clock says {now}, but it has been {high_water} already"),
        )
        .detail("Nothing is minted and no key is rotated while the clock is behind: a token could outlive its key.")
        .hint("set this machine's clock; `carnet key list` says what the database has seen");
    }
    Finding::ok(HIGH_WATER, "not behind what the database has seen")
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue};

    use super::*;
    use crate::doctor::Status;
    use crate::doctor::fetch::Answer;

    const LEEWAY: Duration = Duration::from_secs(300);

    fn answer(date: &str, age: Option<&str>, began_at: &str, answered_at: &str) -> Fetched {
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
            outcome: Ok(Answer { status: 200, headers, body: Bytes::new(), certificate_expires_at: None }),
        }
    }

    #[test]
    fn the_clock_is_judged_by_what_the_answers_way_cannot_explain() {
        for (began, answered, age, expected, told) in [
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
            let answer = answer("Sun, 06 Nov 1994 08:49:37 GMT", age, &began, &answered);
            let finding = check(&[&answer], LEEWAY, false).unwrap();
            assert_eq!(finding.status, expected, "{began} {answered}: {}", finding.summary);
            assert!(finding.summary.contains(told), "{}", finding.summary);
        }
        let nonsense = answer("yesterday", None, "1994-11-06T00:00:00Z", "1994-11-06T00:00:00Z");
        assert_eq!(check(&[&nonsense], LEEWAY, false), None);
    }

    #[test]
    fn a_clock_behind_the_databases_own_time_fails_beyond_the_leeway() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        for (ahead, expected) in [(-1, Status::Ok), (300, Status::Ok), (301, Status::Failed)] {
            let high_water = now + SignedDuration::from_secs(ahead);
            assert_eq!(check_high_water(now, high_water, LEEWAY).status, expected, "{ahead}");
        }
    }
}
