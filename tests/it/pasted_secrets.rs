//! A grant's token or a master key that is pasted into the wrong option or variable: it is never printed,
//! stored, or made a file's name.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use carnet::internals::cli::command_line;

use crate::support::carnet::{Carnet, Output};

/// The length of the parts of a secret that are searched for.
const PIECE: usize = 8;

struct World {
    carnet: Carnet,
    /// Each secret, and the number of characters before its secret part.
    secrets: [(String, usize); 2],
}

impl World {
    fn new() -> Self {
        let carnet = Carnet::new();
        let made = ["grant", "create", "--role=viewer", "--issuer=https://issuer.example"];
        let token = carnet.ok(&made).trim().to_owned();
        let key = std::fs::read_to_string(carnet.keys_dir().join("master.key")).unwrap().trim().to_owned();
        assert_eq!((token.len(), key.len()), (78, 63));
        Self { carnet, secrets: [(token, 29), (key, 20)] }
    }

    /// Returns `carnet ARGUMENTS`, which finds the database and the keys folder by its working directory.
    fn command(&self, arguments: &[String]) -> Command {
        let mut command = self.carnet.bare_command();
        command.args(arguments);
        command
    }

    /// Returns whether `text` has a part of a secret, in any case: URLs change it.
    fn shows(&self, text: &[u8]) -> bool {
        let pieces: BTreeSet<Vec<u8>> = self
            .secrets
            .iter()
            .flat_map(|(secret, start)| {
                secret.as_bytes()[*start..].windows(PIECE).map(<[u8]>::to_ascii_lowercase)
            })
            .collect();
        text.windows(PIECE).any(|window| pieces.contains(&window.to_ascii_lowercase()))
    }

    #[track_caller]
    fn assert_silent(&self, output: &Output, what: &str) {
        for text in [&output.stdout, &output.stderr] {
            assert!(!self.shows(text.as_bytes()), "{what} prints a secret:\n{text}");
        }
    }

    fn assert_no_trace(&self) {
        for file in files(self.carnet.home()) {
            let name = file.strip_prefix(self.carnet.home()).unwrap().to_str().unwrap().to_owned();
            assert!(!self.shows(name.as_bytes()), "the file {name} has a secret as its name");
            if name != "keys/master.key" {
                assert!(!self.shows(&std::fs::read(&file).unwrap()), "the file {name} has a secret");
            }
        }
    }
}

/// Returns the files and folders below `folder`.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    let mut found = Vec::new();
    for entry in entries {
        if entry.is_dir() {
            found.extend(files(&entry));
        } else {
            found.push(entry);
        }
    }
    found
}

/// One place for a value: the command, and how a value gets there.
struct Place {
    arguments: Vec<String>,
    target: Target,
    name: String,
}

enum Target {
    Option(String),
    Positional,
    Variable(String),
}

impl Place {
    /// Runs the command with `value` in this place, and with the options that it then also needs.
    fn run(&self, world: &World, value: &str) -> Output {
        let mut more = Vec::new();
        for _ in 0..3 {
            let mut command = world.command(&self.arguments);
            command.args(&more);
            match &self.target {
                Target::Option(long) => command.arg(format!("--{long}={value}")),
                Target::Positional => command.arg(value),
                Target::Variable(variable) => command.env(variable, value),
            };
            let output = Output::of(&mut command, b"");
            let Some((_, missing)) = output.stderr.split_once("not provided:\n") else { return output };
            world.assert_silent(&output, &self.name);
            let missing = missing.split("\n\n").next().unwrap();
            let words = missing.split([' ', '|', '<', '>', '\n']).filter(|word| word.starts_with("--"));
            more.extend(words.map(|word| format!("{word}=x")));
        }
        panic!("{} needs more than {more:?}", self.name);
    }
}

/// Returns a value that the parser accepts, for an argument that must be there.
fn filler(argument: &clap::Arg) -> &'static str {
    match argument.get_id().as_str() {
        "feed" => "default/prod",
        "registry" => "123456789012.dkr.ecr.eu-central-1.amazonaws.com",
        "role_arn" => "arn:aws:iam::123456789012:role/pull",
        "tenant_id" | "client_id" => "8f3c1b2a-0d4e-4f5a-9b6c-7d8e9f0a1b2c",
        "workload_identity_provider" => {
            "projects/123456789012/locations/global/workloadIdentityPools/carnet/providers/issuer"
        }
        "role" => "viewer",
        "issuer" => "https://issuer.example",
        _ => "x",
    }
}

/// Returns every place for a value in the command line. Options that every command has are tried with one
/// command.
fn places() -> Vec<Place> {
    fn walk(command: &clap::Command, path: &[String], places: &mut Vec<Place>) {
        let below: Vec<_> = command.get_subcommands().filter(|below| below.get_name() != "help").collect();
        for below in &below {
            walk(below, &[path, &[below.get_name().to_owned()]].concat(), places);
        }
        if !below.is_empty() {
            return;
        }
        let is_first = path.join(" ") == "key list";
        let taking: Vec<_> =
            command.get_arguments().filter(|argument| argument.get_action().takes_values()).collect();
        for argument in taking.iter().filter(|argument| is_first || !argument.is_global_set()) {
            let mut arguments = path.to_vec();
            for other in
                taking.iter().filter(|other| other.is_required_set() && other.get_id() != argument.get_id())
            {
                arguments.extend(match other.get_long() {
                    Some(long) => vec![format!("--{long}={}", filler(other))],
                    None => vec![filler(other).to_owned()],
                });
            }
            let of = |target, name: &str| Place {
                arguments: arguments.clone(),
                target,
                name: format!("{} {name}", path.join(" ")),
            };
            places.push(match argument.get_long() {
                Some(long) => of(Target::Option(long.to_owned()), long),
                None => of(Target::Positional, argument.get_id().as_str()),
            });
            if let Some(variable) = argument.get_env() {
                let variable = variable.to_str().unwrap().to_owned();
                places.push(of(Target::Variable(variable.clone()), &variable));
            }
        }
    }
    let mut places = Vec::new();
    walk(&command_line(), &[], &mut places);
    places
}

#[test]
fn no_option_and_no_variable_prints_stores_or_names_a_file_after_a_secret() {
    let world = World::new();
    let places = places();
    assert!(places.len() > 150, "{} places", places.len());
    let [(token, _), (key, _)] = &world.secrets;
    let values = [
        token.clone(),
        key.clone(),
        format!("sts=https://host.example/{token}"),
        format!("x/{}", &key[..40]),
    ];
    let tries: Vec<(&Place, &String)> =
        places.iter().flat_map(|place| values.iter().map(move |value| (place, value))).collect();
    let next = Mutex::new(tries.into_iter());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let Some((place, value)) = next.lock().unwrap().next() else { return };
                    let output = place.run(&world, value);
                    world.assert_silent(&output, &place.name);
                    assert_eq!(output.status, 2, "{}: {output:?}", place.name);
                }
            });
        }
    });
    world.assert_no_trace();
}

#[test]
fn wrong_words_help_and_servers_repeat_no_secret() {
    let world = World::new();
    for (secret, _) in &world.secrets {
        for arguments in [
            vec![secret.clone()],
            vec![format!("--{secret}")],
            vec![format!("-{secret}")],
            vec!["key".to_owned(), secret.clone()],
            vec!["key".to_owned(), "list".to_owned(), secret.clone()],
            vec!["key".to_owned(), "list".to_owned(), format!("--output={secret}")],
            vec!["key".to_owned(), "list".to_owned(), format!("--output={secret}\n")],
        ] {
            let output = Output::of(&mut world.command(&arguments), b"");
            world.assert_silent(&output, arguments.last().unwrap());
            assert_eq!(output.status, 2, "{output:?}");
        }
        let mut help = world.command(&["key".to_owned(), "--help".to_owned()]);
        let output = Output::of(help.env("CARNET_KEYS_DIR", secret).env("CARNET_DATABASE", secret), b"");
        world.assert_silent(&output, "help");
        assert_eq!((output.status, output.stdout.contains("CARNET_KEYS_DIR=")), (0, true), "{output:?}");

        let credentials = ["feed", "credentials", "default/prod", "--server=http://127.0.0.1:1"];
        let mut command = world.command(&credentials.map(ToOwned::to_owned));
        let output = Output::of(command.env("CARNET_TOKEN", secret), b"");
        world.assert_silent(&output, "CARNET_TOKEN");
        assert_ne!(output.status, 0);

        let mut inspect = world.command(&["token", "inspect"].map(ToOwned::to_owned));
        world.assert_silent(&Output::of(&mut inspect, secret.as_bytes()), "token inspect");
    }
    // A folder of that name, from an earlier version.
    let (token, _) = &world.secrets[0];
    let odd = world.carnet.home().join(token);
    std::fs::create_dir(&odd).unwrap();
    let mut list = world.command(&["key", "list"].map(ToOwned::to_owned));
    let output = Output::of(list.current_dir(&odd).arg("--database=sqlite:../carnet.db"), b"");
    world.assert_silent(&output, "key list");
    let mut publish = world.command(&["publish", "folder", "--once"].map(ToOwned::to_owned));
    let output = Output::of(
        publish.current_dir(&odd).args(["--database=sqlite:../carnet.db", "--keys-dir=../keys"]),
        b"",
    );
    world.assert_silent(&output, "publish");
}
