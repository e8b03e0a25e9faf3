//! No credential leaves without its audit row on disk, even if any process may be killed at any moment, and
//! even if nothing can be written.
//!
//! Two servers and the command line use one database file, under load, and are killed at random. The
//! responses that clients received are compared with the log. Crashes are random: the random sleeps are the
//! subject of this test, not its synchronisation. The seed is printed, and `CARNET_TEST_SEED` repeats the
//! random decisions (though not the scheduling). 20 rounds; `CARNET_TEST_LONG=1` makes it 200.
#![allow(clippy::print_stderr, reason = "what fails says why")]

mod clients;
mod log;
mod unwritable;
mod world;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::Value;

use crate::audit_crash::clients::{Clients, Received};
use crate::audit_crash::log::Log;
use crate::audit_crash::world::{World, address};
use crate::support::carnet::Announced;
use crate::support::dice::{Dice, rounds};
use crate::support::process::Process;

const CLIENTS: usize = 8;
/// The timeout of a command that was not killed, under this load.
const ENDS_WITHIN: Duration = Duration::from_secs(60);

/// The kind of a command.
enum Role {
    /// `feed credentials`.
    Credentials,
    /// `grant create`.
    Grant,
    /// `feed update`, with the name that it sets.
    Update(String),
}

/// The processes of one round, and the data to compare.
struct Round<'a> {
    world: &'a World,
    clients: &'a Clients,
    servers: Vec<Announced>,
    dice: Dice,
    log: Log,
    tally: Tally,
}

/// Counts over all rounds.
#[derive(Debug, Default)]
struct Tally {
    servers_killed: usize,
    commands_killed: usize,
    commands_done: usize,
    /// Complete responses, by the credential's source.
    whole: BTreeMap<String, usize>,
    cut_off: usize,
}

impl Tally {
    fn compared(&self) -> usize {
        self.whole.values().sum::<usize>() + self.cut_off
    }
}

impl Round<'_> {
    fn go(&mut self, round: usize) {
        let mut commands: Vec<_> =
            (0..2).map(|number| self.command(&format!("name-{round}-{number}"))).collect();
        let delay = self.dice.up_to(600);
        std::thread::sleep(delay);
        // By then some commands have ended, and others have hardly begun.
        commands.extend((2..5).map(|number| self.command(&format!("name-{round}-{number}"))));
        std::thread::sleep(self.dice.up_to(150));
        let died = self.kill(&mut commands);
        eprintln!("round {round}, after {delay:?}: killed {}", died.join(", "));
        // Responses received before the log is read have their rows in it; the surviving servers keep
        // responding.
        let received = self.clients.take();
        self.compare(received);
        for (role, command) in commands {
            self.compare_command(role, command);
        }
        self.log.verify(&self.world.carnet);
        while self.servers.len() < 2 {
            self.servers.push(self.world.serve());
            self.clients.ask_of(self.servers.iter().map(address).collect());
        }
    }

    /// Starts one of the commands that read or write the log.
    fn command(&mut self, name: &str) -> (Role, Process) {
        let (name_flag, context) = (format!("--name={name}"), format!("--context=tenant={name}"));
        let feed = ["default/aws", "default/azure"][self.dice.below(2)];
        let (role, arguments): (_, &[&str]) = match self.dice.below(4) {
            0 => (Role::Grant, &["grant", "create", "--role=viewer", "--output=json"]),
            1 => (Role::Update(name.to_owned()), &["feed", "update", feed, &name_flag]),
            _ => (Role::Credentials, &["feed", "credentials", feed, &context]),
        };
        let command = Process::start("the command", &mut self.world.carnet.command(arguments));
        (role, command)
    }

    /// Sends SIGKILL to at least one server and some of the commands, one after the other.
    fn kill(&mut self, commands: &mut [(Role, Process)]) -> Vec<&'static str> {
        let mut died = Vec::new();
        let both = self.dice.one_in(2);
        let mut doomed: Vec<Process> = Vec::new();
        for _ in 0..if both { 2 } else { 1 } {
            let victim = self.dice.below(self.servers.len());
            doomed.push(self.servers.remove(victim).process);
        }
        let commands_first = self.dice.one_in(2);
        if !commands_first {
            self.kill_servers(&mut doomed, &mut died);
        }
        for (_, command) in commands {
            if self.dice.one_in(2) && command.wait_for_end(Duration::ZERO).is_none() {
                command.kill();
                self.tally.commands_killed += 1;
                died.push("a command");
            }
        }
        self.kill_servers(&mut doomed, &mut died);
        self.clients.ask_of(self.servers.iter().map(address).collect());
        died
    }

    fn kill_servers(&mut self, doomed: &mut Vec<Process>, died: &mut Vec<&'static str>) {
        for mut server in doomed.drain(..) {
            assert_eq!(
                server.wait_for_end(Duration::ZERO),
                None,
                "a server ended by itself: {}",
                server.stderr()
            );
            server.kill();
            self.tally.servers_killed += 1;
            died.push("a server");
            std::thread::sleep(self.dice.up_to(10));
        }
    }

    fn compare(&mut self, received: Vec<Received>) {
        self.log.read_on(&self.world.carnet);
        for received in received {
            self.log.assert_holds(&received);
            match &received.response {
                Some(response) => {
                    let source = response["source"].as_str().unwrap().to_owned();
                    *self.tally.whole.entry(source).or_default() += 1;
                }
                None => self.tally.cut_off += 1,
            }
        }
    }

    /// A killed command may still have printed its result.
    fn compare_command(&mut self, role: Role, mut command: Process) {
        let end = command.wait_for_end(ENDS_WITHIN).expect("a command does not end");
        let was_killed = end.code().is_none();
        assert!(was_killed || end.success(), "a command failed: {}", command.stderr());
        self.tally.commands_done += usize::from(!was_killed);
        self.log.read_on(&self.world.carnet);
        let printed: Option<Value> = serde_json::from_str(&command.stdout()).ok();
        assert!(was_killed || printed.is_some() || matches!(role, Role::Update(_)), "nothing was printed");
        match (role, printed) {
            (Role::Credentials, Some(printed)) => self.log.assert_holds_credential(&printed["jti"]),
            (Role::Grant, Some(printed)) => self.log.assert_holds_grant(&printed["id"]),
            (Role::Update(name), _) if !was_killed => self.log.assert_holds_update(&name),
            _ => {}
        }
    }
}

/// Proves that the comparison finds a missing row.
#[test]
#[should_panic(expected = "was answered and has the rows []")]
fn an_answer_without_a_row_is_found() {
    Log::default().assert_holds(&Received { request: "1-1".to_owned(), response: None });
}

#[test]
fn no_credential_is_handed_out_before_its_row_is_on_disk_in_any_crash() {
    let mut dice = Dice::new("audit");
    let (world, first) = World::new();
    let servers = vec![first, world.serve()];
    let grants = [world.deployer(), world.deployer()];
    let clients = Clients::default();
    clients.ask_of(servers.iter().map(address).collect());
    std::thread::scope(|scope| {
        for name in 0..CLIENTS {
            let (clients, grant, dice) = (&clients, &grants[name % grants.len()], dice.split());
            scope.spawn(move || clients.run(name, grant, dice));
        }
        // Stops the clients even if an assertion below fails.
        struct Stop<'a>(&'a Clients);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.stop();
            }
        }
        let stop = Stop(&clients);
        let (log, tally) = (Log::default(), Tally::default());
        let mut round = Round { world: &world, clients: &clients, servers, dice, log, tally };
        for number in 0..rounds() {
            round.go(number);
        }
        for mut server in round.servers.drain(..) {
            assert!(server.process.terminate(ENDS_WITHIN), "a server does not stop when it is asked to");
        }
        drop(stop);
        round.compare(clients.take());
        round.log.verify(&world.carnet);

        let (tally, responses) = (&round.tally, clients.responses());
        eprintln!(
            "{} rounds, {} servers and {} commands killed, {} commands done; {} credentials compared ({:?}, {} cut off) \
             with a log of {} rows; answers {responses:?}, {} requests without one",
            rounds(),
            tally.servers_killed,
            tally.commands_killed,
            tally.commands_done,
            tally.compared(),
            tally.whole,
            tally.cut_off,
            round.log.last,
            clients.unanswered.load(Ordering::Relaxed),
        );
        // A request without a credential gets a retryable error, and nothing breaks except connections.
        assert!(responses.keys().all(|status| matches!(status, 200 | 409 | 503)), "{responses:?}");
        let of = |source: &str| tally.whole.get(source).copied().unwrap_or_default();
        assert!(
            tally.servers_killed >= rounds()
                && tally.commands_killed >= rounds() / 10
                && of("exchange") >= rounds()
                && of("cache") >= rounds(),
            "too little happened"
        );
    });
}
