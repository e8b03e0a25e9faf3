use super::*;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const YEAR: i64 = 365 * DAY;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

fn high_water(second: i64) -> DatabaseTime {
    DatabaseTime { high_water: at(second), pruning_time: at(second), set_backs: 0 }
}

/// A guard, and the true time in seconds, which the monotonic clock follows.
struct Process {
    guard: ClockGuard,
    database: DatabaseTime,
    now: i64,
}

impl Process {
    fn started() -> Self {
        let mut process = Self { guard: ClockGuard::default(), database: high_water(0), now: 0 };
        assert_eq!(process.sees(0), ClockTrust::Steady);
        process
    }

    /// Observes a wall clock that is off by this many seconds.
    fn sees(&mut self, off: i64) -> ClockTrust {
        let monotonic = Duration::from_secs(self.now.unsigned_abs());
        self.guard.observe(at(self.now + off), monotonic, self.database, &RotationPolicy::default())
    }

    fn after(&mut self, seconds: i64) -> &mut Self {
        self.now += seconds;
        self
    }
}

fn jumped(by: i64, until: i64) -> ClockTrust {
    let seconds = |seconds: i64| Duration::from_secs(seconds.unsigned_abs());
    ClockTrust::Jumped { by: seconds(by), until: seconds(until) }
}

#[test]
fn any_amount_of_passing_time_is_believed() {
    let mut process = Process::started();
    assert_eq!(process.after(DAY).sees(0), ClockTrust::Steady);
    assert_eq!(process.after(0).sees(299), ClockTrust::Steady);
    assert_eq!(process.after(YEAR).sees(299), ClockTrust::Steady);
}

#[test]
fn a_jump_is_believed_after_it_has_held_for_ten_minutes() {
    let mut process = Process::started();
    assert_eq!(process.after(0).sees(DAY), jumped(DAY, 600));
    assert_eq!(process.after(599).sees(DAY), jumped(DAY, 600));
    assert_eq!(process.after(1).sees(DAY), ClockTrust::Steady);
}

#[test]
fn a_jump_that_is_taken_back_is_forgotten_also_in_two_steps() {
    let mut process = Process::started();
    assert_eq!(process.after(0).sees(DAY), jumped(DAY, 600));
    assert_eq!(process.after(60).sees(HOUR), jumped(HOUR, 660));
    assert_eq!(process.after(60).sees(0), ClockTrust::Steady);
}

#[test]
fn a_second_jump_starts_the_wait_anew() {
    let mut process = Process::started();
    process.sees(DAY);
    assert_eq!(process.after(500).sees(3 * DAY), jumped(3 * DAY, 1100));
}

#[test]
fn a_jump_to_a_time_seen_by_another_process_is_not_a_jump() {
    let mut process = Process::started();
    process.database = high_water(DAY);
    assert_eq!(process.after(10).sees(DAY), ClockTrust::Steady, "a machine that has slept");
}

#[test]
fn a_jump_of_more_than_rotate_every_is_not_believed_however_long_it_holds() {
    let mut process = Process::started();
    let ahead = ClockTrust::Ahead { high_water: at(0) };
    for _ in 0..100 {
        assert_eq!(process.after(HOUR).sees(10 * YEAR), ahead);
    }
    process.database = high_water(process.now + 10 * YEAR);
    assert_eq!(process.sees(10 * YEAR), ClockTrust::Steady, "accepted");
}

#[test]
fn the_first_clock_of_a_process_is_believed_up_to_rotate_every_beyond_the_high_water_time() {
    for (off, is_believed) in [(30 * DAY, true), (30 * DAY + 1, false), (10 * YEAR, false)] {
        let mut process = Process { guard: ClockGuard::default(), database: high_water(0), now: 0 };
        assert_eq!(process.sees(off) == ClockTrust::Steady, is_believed, "{off}");
    }
    let mut new = Process { guard: ClockGuard::default(), database: high_water(0), now: 0 };
    new.database.high_water = Timestamp::UNIX_EPOCH;
    assert_eq!(new.sees(10 * YEAR), ClockTrust::Steady, "there is nothing to be ahead of");
}

#[test]
fn a_first_clock_that_is_put_right_is_believed_at_once() {
    let mut process = Process { guard: ClockGuard::default(), database: high_water(0), now: 0 };
    assert_eq!(process.sees(10 * YEAR), ClockTrust::Ahead { high_water: at(0) });
    assert_eq!(process.after(13).sees(2 * DAY), ClockTrust::Steady, "the machine was off for two days");
}

#[test]
fn a_clock_that_goes_back_and_returns_has_not_jumped() {
    let mut process = Process::started();
    assert_eq!(process.sees(-300), ClockTrust::Steady);
    assert_eq!(process.after(10).sees(-311), ClockTrust::Behind { high_water: at(0) });
    assert_eq!(process.after(2 * HOUR).sees(-3 * HOUR), ClockTrust::Behind { high_water: at(0) });
    assert_eq!(process.after(60).sees(0), ClockTrust::Steady);
}

#[test]
fn a_high_water_time_that_was_set_back_is_not_raised_again_by_the_same_wrong_clock() {
    let mut process = Process::started();
    process.database = high_water(2 * DAY);
    assert_eq!(process.after(10).sees(2 * DAY), ClockTrust::Steady);
    process.database = DatabaseTime { set_backs: 1, ..high_water(20) };
    let ahead = ClockTrust::Ahead { high_water: at(20) };
    assert_eq!(process.after(10).sees(2 * DAY), ahead);
    assert_eq!(process.after(HOUR).sees(2 * DAY), ahead, "however long it holds");
    process.database.high_water = at(process.now);
    assert_eq!(process.after(1).sees(0), ClockTrust::Steady, "put right");
}

#[test]
fn a_stale_read_of_the_database_is_not_a_set_back() {
    let mut process = Process::started();
    process.database = high_water(2 * DAY);
    assert_eq!(process.after(10).sees(2 * DAY), ClockTrust::Steady);
    process.database = high_water(0);
    assert_eq!(process.after(1).sees(2 * DAY), ClockTrust::Steady);
    assert!(matches!(process.after(1).sees(0), ClockTrust::Behind { .. }), "what was seen is remembered");
}

#[test]
fn a_command_raises_the_high_water_time_only_if_no_server_does() {
    let policy = RotationPolicy::default();
    for (behind, expected) in
        [(0, None), (15 * DAY, None), (15 * DAY + HOUR, None), (16 * DAY, Some(-15 * DAY))]
    {
        let left = high_water_of_a_command(at(0), at(-behind), &policy);
        assert_eq!(left, expected.map(at), "{behind}");
    }
}
