//! A failure of `feed check` as a case: its cause, its snapshots, and the execution of its fix.

use serde_json::{Value, json};

use crate::check_support::{self as snapshots, said};
use crate::feed_check::clouds::{AWS, Cloud};
use crate::feed_check::fixes::{self, Trusted};
use crate::feed_check::gate::{Act, Rule};
use crate::feed_check::world::World;
use crate::support::carnet::Carnet;
use crate::support::database;

/// A failure: the setup, and the expected output of the check.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    /// The name of the case, of its snapshots and of its feed.
    pub(crate) name: &'static str,
    pub(crate) cloud: &'static Cloud,
    /// Flags of `feed add` that replace the cloud's own.
    pub(crate) feed: &'static [&'static str],
    /// A statement that makes the feed as an earlier version of carnet stored it.
    pub(crate) stored: &'static str,
    /// The commands before the check.
    pub(crate) before: &'static [&'static [&'static str]],
    /// Arguments of `feed check`.
    pub(crate) check: &'static [&'static str],
    /// The sandbox's configuration, in TOML.
    pub(crate) trust: &'static str,
    /// The issuer that the sandbox trusts instead.
    pub(crate) trusts: Option<&'static str>,
    /// An entry of `[[faults]]` without its step. If a flag contains `/faulty`, only the sandbox there shows
    /// it.
    pub(crate) fault: &'static str,
    pub(crate) rules: &'static [Rule],
    pub(crate) served: Served,
    /// The offset of carnet's wall clock from its first start.
    pub(crate) clock: Option<&'static str>,
    /// The same, from the check on.
    pub(crate) turned: Option<&'static str>,
    pub(crate) step: &'static str,
    pub(crate) status: Option<u16>,
    pub(crate) code: Option<&'static str>,
    /// A part of the first cause.
    pub(crate) cause: &'static str,
    pub(crate) fix: Fix,
}

/// The server of the issuer's documents.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Served {
    Own,
    /// No server.
    Down,
    /// Another carnet, with its own URL.
    OtherIssuer,
    /// Another carnet, with the same URL.
    OtherKeys,
}

/// The treatment of the first cause.
#[derive(Clone, Copy)]
pub(crate) enum Fix {
    /// The test runs the command, with these words filled in, and the check passes.
    Run(&'static [(&'static str, &'static str)]),
    /// The same; one of its effects in the cloud begins with this text, and ends the fault.
    Lifts(&'static str),
    /// The failure is transient, and the command is to check again.
    Wait,
    /// The test runs the command, which succeeds; the sandbox has no equivalent, so the test ends the fault.
    Ends(&'static [(&'static str, &'static str)]),
    /// The fix contains these words, and the test opens the network path.
    Way(&'static str),
    /// The fix contains the first text, and the test performs the second. A command in it only reads.
    Hand(&'static str, &'static str),
    /// The fix cannot be run here, for this reason.
    Not(&'static str),
}

/// The reason why some fixes are not run.
pub(crate) const UNHEARD_OF: &str = "nobody knows what fixes a code that is in no table";
/// The issuer, as clouds need it.
pub(crate) const INTERNET: Fix = Fix::Way("make {url} reachable from the internet");

pub(crate) const CASE: Case = Case {
    name: "",
    cloud: &AWS,
    feed: &[],
    stored: "",
    before: &[],
    check: &[],
    trust: "",
    trusts: None,
    fault: "",
    rules: &[],
    served: Served::Own,
    clock: None,
    turned: None,
    step: "",
    status: None,
    code: None,
    cause: "",
    fix: Fix::Run(&[]),
};

impl Case {
    /// Returns the slug of the feed: one for all cases without flags of their own.
    fn slug(&self) -> &'static str {
        if self.feed.is_empty() { "a" } else { self.name }
    }

    /// Returns the expectation in one line, for the list of all cases.
    pub(crate) fn in_one_line(&self) -> String {
        let Self { name, step, fix, .. } = self;
        let fix = match fix {
            Fix::Run(_) => "executed".to_owned(),
            Fix::Lifts(what) => format!("executed: {what}"),
            Fix::Wait => "executed: it passes by itself".to_owned(),
            Fix::Ends(_) => "executed; the fault was ended with it".to_owned(),
            Fix::Way(_) => "executed: opened the way".to_owned(),
            Fix::Hand(_, act) => format!("executed by hand: {act}"),
            Fix::Not(why) => format!("NOT executed: {why}"),
        };
        format!("{name:44} {step:36} {fix}")
    }
}

/// Runs the cases of one cloud in one world; each case with its own clock gets another.
pub(crate) fn drive(cases: &[Case]) {
    let mut world = None;
    for case in cases {
        let mut own;
        let world = match case.clock.or(case.turned.map(|_| "+0")) {
            None => world.get_or_insert_with(|| prepared(World::new(case.cloud))),
            Some(offset) => {
                own = prepared(World::of(case.cloud, Carnet::with_clock_off_by(offset)));
                &mut own
            }
        };
        run(world, case);
    }
}

fn prepared(world: World) -> World {
    world.add("a", &[]);
    world
}

pub(crate) fn run(world: &mut World, case: &Case) {
    arrange(world, case);
    let feed = format!("default/{}", case.slug());
    if let Some(offset) = case.turned {
        // A server that stops stores the high-water time of its clock.
        world.server = None;
        world.serve_own(&world.url.clone());
        world.carnet.turn_clock(offset);
    }
    let check: Vec<String> = case.check.iter().map(|argument| world.filled(argument)).collect();

    let response = || world.response(&feed, &check);
    // Slow cases run both commands concurrently.
    let is_slow = case.rules.iter().any(|rule| matches!(rule.act, Act::Silence));
    let (output, response) = if is_slow {
        std::thread::scope(|scope| {
            let table = scope.spawn(|| world.check(&feed, &check));
            let response = response();
            (table.join().unwrap(), response)
        })
    } else {
        (world.check(&feed, &check), response())
    };
    assert_eq!(output.status, 1, "{}: {output:?}", case.name);
    assert!(output.stderr.contains(&format!("step {} failed", case.step)), "{}: {output:?}", case.name);
    let failed = checked(world, case, &response);
    snapshots::compare(case.name, &output.stdout, &response);
    if fix(world, case, &feed, &failed["causes"][0]) {
        let output = world.check(&feed, &check);
        assert_eq!(output.status, 0, "{} is not fixed: {output:?}", case.name);
    }
}

/// Sets up the world for the case.
fn arrange(world: &mut World, case: &Case) {
    let name = case.name;
    if !case.feed.is_empty() {
        world.add(name, case.feed);
    }
    if !case.stored.is_empty() {
        database::execute(&world.carnet.database(), case.stored);
    }
    for command in case.before {
        let words: Vec<String> = command.iter().map(|word| world.filled(word)).collect();
        world.carnet.ok(&words.iter().map(String::as_str).collect::<Vec<_>>());
    }
    let own = world.url.clone();
    match case.served {
        Served::Own if world.server.is_some() => {}
        Served::Own => world.serve_own(&own),
        Served::Down => {
            world.server = None;
            world.gate.behind().issuer = None;
        }
        Served::OtherKeys => world.serve(&Carnet::new(), &own),
        Served::OtherIssuer => world.serve(&Carnet::new(), "https://other.example"),
    }
    world.gate.behind().rules = case.rules;
    let fault = match (case.fault, case.fix) {
        ("", _) => String::new(),
        (fault, Fix::Wait) => format!("[[faults]]\nstep = '{}'\n{fault}\ntimes = 2\n", fault_step(case)),
        (fault, _) => format!("[[faults]]\nstep = '{}'\n{fault}\n", fault_step(case)),
    };
    let issuer = case.trusts.unwrap_or(&own);
    if case.feed.iter().any(|flag| flag.contains("/faulty/")) {
        world.trust(&trust(case), issuer, 0);
        world.faulty(&fault);
    } else {
        world.trust(&format!("{}\n{fault}", trust(case)), issuer, 0);
    }
}

/// Returns the sandbox's name for the step; both ECR steps have one name.
fn fault_step(case: &Case) -> &'static str {
    if case.step.starts_with("ecr-public:") { "ecr:GetAuthorizationToken" } else { case.step }
}

fn trust(case: &Case) -> String {
    case.trust.replace("{sub}", &format!("space:default:feed:{}", case.slug()))
}

/// Returns the failed step, which is the last one, after comparing it with the case.
fn checked(world: &World, case: &Case, response: &Value) -> Value {
    let what = format!("{}: {response:#}", case.name);
    let (failed, before) = response["steps"].as_array().unwrap().split_last().unwrap();
    assert!(failed["ok"] == false && before.iter().all(|step| step["ok"] == true), "{what}");
    assert_eq!(failed["step"], case.step, "{what}");
    assert_eq!(
        (&failed["upstream"]["status"], &failed["upstream"]["code"]),
        (&json!(case.status), &json!(case.code)),
        "{what}"
    );
    let cause = &failed["causes"][0];
    assert!(cause["cause"].as_str().is_some_and(|cause| cause.contains(case.cause)), "{what}");
    assert!(cause["fix"].is_string(), "{what}");
    if case.step != "mint" {
        assert_eq!(failed["presented"]["iss"], world.url, "{what}");
        for part in ["sub", "aud", "kid", "alg"] {
            assert!(failed["presented"][part].is_string(), "{what}");
        }
    }
    if case.status.is_some() {
        let sent = world.gate.last_answer(matches!(case.step, "discovery" | "jwks"));
        said::assert_verbatim(&sent.unwrap_or_else(|| panic!("nothing was answered, but {what}")), failed);
    }
    failed.clone()
}

/// Carries out the fix of the first cause. Returns whether the check must pass afterwards.
fn fix(world: &mut World, case: &Case, feed: &str, cause: &Value) -> bool {
    let command = cause["command"].as_str();
    let (fill, lifts) = match case.fix {
        Fix::Not(_) => return false,
        Fix::Way(words) | Fix::Hand(words, _) => {
            let (words, shown) = (world.filled(words), format!("{}; {}", cause["cause"], cause["fix"]));
            assert!(shown.contains(&words), "{}: no {words:?} in {shown}", case.name);
            if let Some(command) = command {
                let is_of_document = matches!(case.step, "discovery" | "jwks");
                fixes::check(world, command, case.status.filter(|_| is_of_document));
            }
            world.put_right(case.feed.iter().any(|flag| flag.contains("{closed}")));
            return true;
        }
        Fix::Wait => {
            world.gate.behind().rules = &[];
            (&[][..], None)
        }
        Fix::Run(fill) | Fix::Ends(fill) => (fill, None),
        Fix::Lifts(what) => (&[][..], Some(what)),
    };
    let mut command = command.unwrap_or_else(|| panic!("{} has no command", case.name)).to_owned();
    for (word, by) in fill {
        assert!(command.contains(word), "{}: no {word} in {command}", case.name);
        command = command.replace(word, &world.filled(by));
    }
    let issuer = case.trusts.unwrap_or(&world.url).to_owned();
    let config: Value = toml::from_str(&trust(case)).unwrap();
    let before = Trusted { issuer, config, facts: Vec::new() };
    let Some(after) = fixes::carry_out(world, feed, &command, before) else { return false };
    if let Some(lifts) = lifts {
        let facts = &after.facts;
        assert!(
            facts.iter().any(|fact| fact.starts_with(lifts)),
            "{}: {lifts:?} not in {facts:?}",
            case.name
        );
        world.gate.behind().rules = &[];
    }
    match case.fix {
        Fix::Ends(_) => {
            assert!(after.is_untouched(), "{}: {command} changes the stand-in's trust", case.name);
            world.put_right(false);
        }
        _ if !after.is_untouched() => world.trust_as(after.config, &after.issuer, 0),
        _ => {}
    }
    true
}
