use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::signing_keys::State;
use crate::signing_keys::policy::PolicyDurations;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn at(elapsed: Duration) -> Timestamp {
    later(Timestamp::from_second(1_700_000_000).unwrap(), elapsed)
}

/// Public keys that only need to differ; decisions do not involve private halves.
#[derive(Default)]
struct FakeKeys(u32);

impl FakeKeys {
    fn of(&mut self, algorithm: Algorithm, count: usize) -> Vec<PublicKey> {
        (0..count)
            .map(|_| {
                self.0 += 1;
                let number = self.0.to_be_bytes();
                match algorithm {
                    Algorithm::Rs256 => PublicKey::Rsa { n: number.to_vec(), e: vec![1, 0, 1] },
                    Algorithm::Es256 => {
                        let mut x = [0; 32];
                        x[..4].copy_from_slice(&number);
                        PublicKey::P256 { x, y: [0; 32] }
                    }
                }
            })
            .collect()
    }
}

/// A key set with its policy, advanced by the functions under test.
struct Issuer {
    keys: Vec<SigningKey>,
    policy: RotationPolicy,
    made: FakeKeys,
}

impl Issuer {
    fn founded(now: Timestamp) -> Self {
        let mut issuer =
            Self { keys: Vec::new(), policy: RotationPolicy::default(), made: FakeKeys::default() };
        issuer.tick(now);
        issuer
    }

    fn tick(&mut self, now: Timestamp) -> usize {
        let changes = plan(&self.keys, &self.policy, now);
        self.perform(&changes, now);
        changes.len()
    }

    fn perform(&mut self, changes: &[Change], now: Timestamp) {
        for change in changes {
            let fresh = self.made.of(change.algorithm(), change.fresh_keys());
            for row in apply(&self.keys, change, &self.policy, now, &fresh) {
                match self.keys.iter_mut().find(|key| key.public == row.public) {
                    Some(key) => *key = row,
                    None => self.keys.push(row),
                }
            }
        }
    }

    fn request(&mut self, now: Timestamp, seen: Vec<Kid>, force: bool) -> Result<usize, RotationRefusal> {
        let request = RotationRequest { algorithms: Algorithm::ALL.to_vec(), seen, force };
        let changes = plan_requested(&self.keys, &self.policy, now, &request)?;
        self.perform(&changes, now);
        Ok(changes.len())
    }

    fn active_kids(&self) -> Vec<Kid> {
        Algorithm::ALL
            .into_iter()
            .filter_map(|algorithm| active(&self.keys, algorithm))
            .map(SigningKey::kid)
            .collect()
    }

    fn published(&self, now: Timestamp) -> usize {
        self.keys.iter().filter(|key| key.is_published(now)).count()
    }
}

#[test]
fn a_new_issuer_gets_one_active_and_one_prepared_key_per_algorithm() {
    let issuer = Issuer::founded(at(Duration::ZERO));
    for algorithm in Algorithm::ALL {
        assert!(active(&issuer.keys, algorithm).is_some());
        assert!(prepared(&issuer.keys, algorithm).is_some());
    }
    assert_eq!(issuer.keys.len(), 4);
}

#[test]
fn nothing_is_due_until_the_active_key_is_old_enough() {
    let mut issuer = Issuer::founded(at(Duration::ZERO));
    assert_eq!(issuer.tick(at(30 * DAY - Duration::from_secs(1))), 0);
    assert_eq!(issuer.tick(at(30 * DAY)), 2);
}

fn policy_with(max_token_lifetime: Duration, leeway: Duration) -> RotationPolicy {
    let usual = RotationPolicy::default();
    RotationPolicy::new(PolicyDurations {
        rotate_every: usual.rotate_every(),
        propagation: usual.propagation(),
        max_token_lifetime,
        leeway,
        jwks_max_age: usual.jwks_max_age(),
    })
    .unwrap()
}

#[test]
fn no_change_of_policy_makes_a_retired_key_overstay_and_a_longer_stay_does() {
    let mut issuer = Issuer::founded(at(Duration::ZERO));
    issuer.policy = policy_with(2 * HOUR, 2 * HOUR);
    for key in under_policy(&issuer.keys, &RotationPolicy::default(), &issuer.policy) {
        let row = issuer.keys.iter_mut().find(|row| row.public == key.public).unwrap();
        *row = key;
    }
    assert_eq!(issuer.tick(at(30 * DAY)), 2);
    let now = at(30 * DAY + HOUR);
    let short = policy_with(HOUR, Duration::from_secs(60));
    for key in under_policy(&issuer.keys, &issuer.policy, &short) {
        let row = issuer.keys.iter_mut().find(|row| row.public == key.public).unwrap();
        *row = key;
    }
    let retired: Vec<_> = issuer.keys.iter().filter(|key| key.state(now) == State::Retired).collect();
    assert_eq!(retired.len(), 2);
    for key in retired {
        for policy in [&short, &issuer.policy] {
            assert!(!key.overstays(policy, now, now));
        }
        let Stage::Retired { activated_at, retired_at, published_until } = key.stage else { panic!() };
        let forever = at(3650 * DAY);
        let longer = published_until.saturating_add(HOUR).unwrap();
        for (retired_at, published_until) in [(retired_at, longer), (retired_at, forever), (forever, forever)]
        {
            let stage = Stage::Retired { activated_at, retired_at, published_until };
            let forged = SigningKey { stage, ..key.clone() };
            assert!(forged.overstays(&short, now, now), "{retired_at} {published_until}");
            // Once the key is out of the JWKS, it does no harm.
            assert!(!forged.overstays(&short, published_until, published_until));
        }
    }
}

#[test]
fn downtime_is_caught_up_with_one_rotation() {
    let mut issuer = Issuer::founded(at(Duration::ZERO));
    assert_eq!(issuer.tick(at(300 * DAY)), 2);
    assert_eq!(issuer.tick(at(300 * DAY)), 0);
}

#[test]
fn retired_key_stays_published_until_its_last_token_expires() {
    let mut issuer = Issuer::founded(at(Duration::ZERO));
    let retiring = issuer.active_kids();
    issuer.tick(at(30 * DAY));
    let last_token_expires = 30 * DAY + HOUR + Duration::from_secs(300);
    for (elapsed, state) in
        [(last_token_expires - Duration::from_secs(1), State::Retired), (last_token_expires, State::Pruned)]
    {
        let states =
            issuer.keys.iter().filter(|key| retiring.contains(&key.kid())).map(|key| key.state(at(elapsed)));
        assert!(states.into_iter().all(|seen| seen == state));
    }
}

#[test]
fn a_young_key_is_refused_with_the_time_when_it_is_safe_and_promoted_by_force() {
    let mut issuer = Issuer::founded(at(Duration::ZERO));
    let seen = issuer.active_kids();
    let Err(RotationRefusal::TooYoung { safe_at, .. }) = issuer.request(at(HOUR), seen.clone(), false) else {
        panic!()
    };
    assert_eq!(safe_at, at(DAY));
    assert_eq!(issuer.request(at(HOUR), seen, true), Ok(2));
}

#[test]
fn a_key_waits_for_every_target_and_for_propagation_after_the_last_one() {
    let mut issuer = Issuer::founded(at(Duration::ZERO));
    let prepared_es256 = |issuer: &mut Issuer, published_at| {
        let kid = prepared(&issuer.keys, Algorithm::Es256).unwrap().kid();
        let key = issuer.keys.iter_mut().find(|key| key.kid() == kid).unwrap();
        key.published_at = published_at;
        kid
    };
    let kid = prepared_es256(&mut issuer, None);
    // RS256 continues to rotate; ES256 never does.
    assert_eq!(issuer.tick(at(30 * DAY)), 1);
    assert_eq!(issuer.tick(at(40 * DAY)), 0);
    let seen = issuer.active_kids();
    assert_eq!(
        plan_requested(
            &issuer.keys,
            &issuer.policy,
            at(40 * DAY),
            &RotationRequest { algorithms: vec![Algorithm::Es256], seen, force: false }
        ),
        Err(RotationRefusal::Unpublished { algorithm: Algorithm::Es256, kid: kid.clone() })
    );
    prepared_es256(&mut issuer, Some(at(40 * DAY)));
    assert_eq!(issuer.tick(at(41 * DAY - Duration::from_secs(1))), 0);
    assert_eq!(issuer.tick(at(41 * DAY)), 1);
    assert_eq!(active(&issuer.keys, Algorithm::Es256).unwrap().kid(), kid);
}

#[test]
fn a_rotation_done_by_another_caller_is_not_repeated_even_with_force() {
    let mut issuer = Issuer::founded(at(Duration::ZERO));
    let seen = issuer.active_kids();
    assert_eq!(issuer.request(at(DAY), seen.clone(), false), Ok(2));
    for force in [false, true] {
        assert_eq!(issuer.request(at(DAY), seen.clone(), force), Ok(0));
    }
}

#[test]
fn a_ninth_key_is_refused_also_by_force_until_a_slot_frees() {
    let mut issuer = Issuer::founded(at(Duration::ZERO));
    for _ in 0..2 {
        let seen = issuer.active_kids();
        assert_eq!(issuer.request(at(HOUR), seen, true), Ok(2));
    }
    let seen = issuer.active_kids();
    let Err(RotationRefusal::KeySetFull { published, frees_at }) =
        issuer.request(at(HOUR), seen.clone(), true)
    else {
        panic!()
    };
    assert_eq!((published, frees_at), (8, at(2 * HOUR + Duration::from_secs(300))));
    let mut later = Issuer { keys: issuer.keys.clone(), ..issuer };
    assert_eq!(later.request(frees_at, seen, true), Ok(2));
}

#[test]
fn an_algorithm_that_is_named_twice_rotates_once() {
    let issuer = Issuer::founded(at(Duration::ZERO));
    let algorithms = vec![Algorithm::Es256, Algorithm::Rs256, Algorithm::Es256];
    let request = RotationRequest { algorithms, seen: issuer.active_kids(), force: true };
    let changes = plan_requested(&issuer.keys, &issuer.policy, at(HOUR), &request).unwrap();
    let planned: Vec<_> = changes.iter().map(Change::algorithm).collect();
    assert_eq!(planned, [Algorithm::Es256, Algorithm::Rs256]);
}

#[test]
fn an_active_key_without_a_prepared_one_is_revoked_and_replaced() {
    let mut issuer = Issuer::founded(at(Duration::ZERO));
    let leaked = active(&issuer.keys, Algorithm::Es256).unwrap().kid();
    issuer.keys.retain(|key| key.algorithm() != Algorithm::Es256 || key.stage != Stage::Prepared);
    let changes = plan_revocation(&issuer.keys, at(HOUR), &leaked).unwrap();
    assert_eq!(changes.len(), 1, "an empty plan would mean that it has been revoked already");
    issuer.perform(&changes, at(HOUR));
    let state = |kid: &Kid| issuer.keys.iter().find(|key| key.kid() == *kid).unwrap().state(at(HOUR));
    assert_eq!(state(&leaked), State::Revoked);
    assert!(active(&issuer.keys, Algorithm::Es256).is_some());
    assert!(prepared(&issuer.keys, Algorithm::Es256).is_some());
    assert_eq!(plan_revocation(&issuer.keys, at(HOUR), &leaked), Ok(Vec::new()));
}

#[derive(Debug, Clone)]
enum Event {
    Pass(u64),
    StepBack(u64),
    Tick,
    Rotate { force: bool },
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (1..40 * 24 * 3600_u64).prop_map(Event::Pass),
        1 => (1..2 * 24 * 3600_u64).prop_map(Event::StepBack),
        3 => Just(Event::Tick),
        1 => any::<bool>().prop_map(|force| Event::Rotate { force }),
    ]
}

proptest! {
    #[test]
    fn any_history_keeps_one_active_and_one_prepared_key_and_at_most_eight_published(
        events in prop::collection::vec(event(), 1..60)
    ) {
        let mut now = at(Duration::ZERO);
        let mut issuer = Issuer::founded(now);
        for event in events {
            let keys_before = issuer.keys.len();
            match event {
                Event::Pass(seconds) => now = later(now, Duration::from_secs(seconds)),
                Event::StepBack(seconds) => now = now.checked_sub(Duration::from_secs(seconds)).unwrap(),
                Event::Tick => {
                    let old_enough: Vec<_> = Algorithm::ALL
                        .into_iter()
                        .filter_map(|algorithm| prepared(&issuer.keys, algorithm))
                        .filter(|key| is_safe(key, &issuer.policy, now))
                        .map(SigningKey::kid)
                        .collect();
                    let before = issuer.active_kids();
                    issuer.tick(now);
                    let promoted = issuer.active_kids().into_iter().filter(|kid| !before.contains(kid));
                    for kid in promoted {
                        prop_assert!(old_enough.contains(&kid), "signs before it was published for long enough");
                    }
                }
                Event::Rotate { force } => {
                    let seen = issuer.active_kids();
                    let _refused_or_done = issuer.request(now, seen, force);
                }
            }
            for algorithm in Algorithm::ALL {
                let of = |stage: fn(&Stage) -> bool| {
                    issuer.keys.iter().filter(|key| key.algorithm() == algorithm && stage(&key.stage)).count()
                };
                prop_assert_eq!(of(|stage| matches!(stage, Stage::Active { .. })), 1);
                prop_assert_eq!(of(|stage| matches!(stage, Stage::Prepared)), 1);
            }
            // A clock that is set back counts pruned keys as published again. The invariant is that no
            // rotation makes the set larger than its maximum.
            if issuer.keys.len() > keys_before {
                prop_assert!(issuer.published(now) <= MAX_PUBLISHED);
            }
        }
    }
}
