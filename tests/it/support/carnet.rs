//! The `carnet` binary with its own database, run as a user runs it: arguments in, exit status and output
//! out.

use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::ca::Ca;
use super::process::{Process, clean_command, free_ports, on_free_ports, wait_until};

/// The timeout of a server's announcement: it first generates RSA keys, perhaps beside a busy build.
const STARTS_WITHIN: Duration = Duration::from_secs(60);
/// The timeout of a command.
const ENDS_WITHIN: Duration = Duration::from_secs(60);

/// A temporary folder with a database and a keys folder, both created by the first command that may.
pub(crate) struct Carnet {
    home: TempDir,
    clock: Option<Clock>,
}

/// A wall clock with a constant error, by Debian's libfaketime.
struct Clock {
    library: PathBuf,
    offset: &'static str,
    /// The file with the offset, for processes whose clock changes while they run.
    file: Option<PathBuf>,
}

/// The result of a command.
#[derive(Debug)]
pub(crate) struct Output {
    /// The exit status; −1 if a signal ended it.
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Carnet {
    pub(crate) fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap(), clock: None }
    }

    /// Returns a carnet whose wall clock is off by `offset` (libfaketime's notation, such as `-2h`).
    pub(crate) fn with_clock_off_by(offset: &'static str) -> Self {
        let mut carnet = Self::new();
        carnet.turn_clock(offset);
        carnet
    }

    /// Starts all further processes with a wall clock that is off by `offset`; running ones keep theirs.
    pub(crate) fn turn_clock(&mut self, offset: &'static str) {
        let library = std::fs::read_dir("/usr/lib")
            .unwrap()
            .filter_map(|entry| Some(entry.ok()?.path().join("faketime/libfaketimeMT.so.1")))
            .find(|library| library.is_file())
            .unwrap_or_else(|| panic!("libfaketime is not installed: {}", super::INSTALL));
        self.clock = Some(Clock { library, offset, file: None });
    }

    /// Changes the clock of every process started since the first call, while they run.
    pub(crate) fn turn_running_clock(&mut self, offset: &'static str) {
        let file = self.home().join("clock");
        // Renamed into place, because a process may read it at any moment.
        std::fs::write(self.home().join("clock.new"), format!("{offset}\n")).unwrap();
        std::fs::rename(self.home().join("clock.new"), &file).unwrap();
        if self.clock.as_ref().is_none_or(|clock| clock.file.is_none()) {
            self.turn_clock(offset);
            self.clock = self.clock.take().map(|clock| Clock { file: Some(file), ..clock });
        }
    }

    /// Copies the database and its master key, like a backup, while nothing uses them.
    pub(crate) fn copy(&self) -> Self {
        let copy = Self::new();
        std::fs::create_dir(copy.keys_dir()).unwrap();
        let log =
            ["carnet.db-wal", "carnet.db-shm"].into_iter().filter(|file| self.home().join(file).exists());
        for file in ["carnet.db", "keys/master.key"].into_iter().chain(log) {
            std::fs::copy(self.home().join(file), copy.home().join(file)).unwrap();
        }
        copy
    }

    /// Returns the folder with all files of this carnet, which is the working directory of its commands.
    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.home().join("carnet.db")
    }

    pub(crate) fn keys_dir(&self) -> PathBuf {
        self.home().join("keys")
    }

    /// Returns `carnet` with a clean environment and no arguments.
    pub(crate) fn bare_command(&self) -> Command {
        let mut command = clean_command(env!("CARGO_BIN_EXE_carnet"));
        command.current_dir(self.home()).env("HOME", self.home()).env("USER", "somebody-else");
        if let Some(Clock { library, offset, file }) = &self.clock {
            // Timers and file times stay real; the first variable has two spellings, which differ by version.
            command
                .env("LD_PRELOAD", library)
                .env("FAKETIME", offset)
                .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
                .env("DONT_FAKE_MONOTONIC", "1")
                .env("NO_FAKE_STAT", "1");
            if let Some(file) = file {
                command
                    .env_remove("FAKETIME")
                    .env("FAKETIME_TIMESTAMP_FILE", file)
                    .env("FAKETIME_NO_CACHE", "1");
            }
        }
        command
    }

    /// Returns `carnet ARGUMENTS` on this database.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.bare_command();
        command
            .args(arguments)
            .arg(format!("--database=sqlite:{}", self.database().display()))
            .arg("--keys-dir")
            .arg(self.keys_dir());
        command
    }

    /// Runs `carnet ARGUMENTS` on this database to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        Output::of(&mut self.command(arguments), b"")
    }

    /// Runs a command that must succeed, and returns its standard output.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let Output { status, stdout, stderr } = self.run(arguments);
        assert_eq!(status, 0, "carnet {}\n{stdout}{stderr}", arguments.join(" "));
        stdout
    }

    /// Starts `carnet serve` for `issuer` on `listen` (`127.0.0.1:0` for any free port).
    pub(crate) fn serve(&self, issuer: &str, listen: &str, more: &[&str]) -> Result<Announced, String> {
        let arguments = [&["serve", "--issuer", issuer, "--listen", listen], more].concat();
        Announced::start("carnet serve", &mut self.command(&arguments))
    }

    /// The same on any free port, with a command that `change` modifies first.
    pub(crate) fn serve_with(&self, issuer: &str, change: impl FnOnce(&mut Command)) -> Announced {
        let mut command = self.command(&["serve", "--issuer", issuer, "--listen=127.0.0.1:0"]);
        change(&mut command);
        Announced::start("carnet serve", &mut command).unwrap_or_else(|failure| panic!("{failure}"))
    }

    /// Starts `carnet sandbox` for `issuer`, with a configuration file of the given TOML.
    pub(crate) fn sandbox(&self, issuer: &str, config: &str) -> Announced {
        let file = self.home().join("sandbox.toml");
        std::fs::write(&file, config).unwrap();
        let mut command = self.bare_command();
        command.args(["sandbox", "--issuer", issuer, "--config"]).arg(file);
        Announced::start("carnet sandbox", &mut command).unwrap_or_else(|failure| panic!("{failure}"))
    }
}

impl Output {
    /// Runs `command` with `stdin` to its end.
    ///
    /// # Panics If it has not ended within a minute, for example because it serves instead of refusing.
    pub(crate) fn of(command: &mut Command, stdin: &[u8]) -> Self {
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().unwrap();
        // Read concurrently; otherwise a command with much output would block.
        let stdout = drain(child.stdout.take().unwrap());
        let stderr = drain(child.stderr.take().unwrap());
        // A program that has read enough may close its end.
        let _ = child.stdin.take().unwrap().write_all(stdin);
        let status = wait_until(ENDS_WITHIN, || child.try_wait().unwrap());
        if status.is_none() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let (stdout, stderr) = (stdout.join().unwrap(), stderr.join().unwrap());
        let Some(status) = status else { panic!("{command:?} does not end:\n{stdout}{stderr}") };
        Self { status: status.code().unwrap_or(-1), stdout, stderr }
    }
}

/// Reads `pipe` to its end, as text.
fn drain(mut pipe: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut text = String::new();
        pipe.read_to_string(&mut text).unwrap();
        text
    })
}

/// A running server and the JSON line with which it announced itself.
pub(crate) struct Announced {
    pub(crate) line: Value,
    pub(crate) process: Process,
}

impl Announced {
    /// Starts a command that ends in `carnet serve`.
    pub(crate) fn of(name: &'static str, command: &mut Command) -> Self {
        Self::start(name, command).unwrap_or_else(|failure| panic!("{failure}"))
    }

    fn start(name: &'static str, command: &mut Command) -> Result<Self, String> {
        let mut process = Process::start(name, command);
        let line = process.wait_ready(STARTS_WITHIN, |process| {
            let stdout = process.stdout();
            let (line, _) = stdout.split_once('\n')?;
            Some(
                serde_json::from_str(line)
                    .unwrap_or_else(|error| panic!("{name} announced {line:?}: {error}")),
            )
        })?;
        Ok(Self { line, process })
    }

    /// Returns a string of the announcement, by JSON pointer.
    pub(crate) fn announced(&self, pointer: &str) -> &str {
        let value = self.line.pointer(pointer).and_then(Value::as_str);
        value.unwrap_or_else(|| panic!("no {pointer} in {}", self.line))
    }
}

/// A carnet that serves its own documents at its issuer URL.
pub(crate) struct Issuer {
    pub(crate) server: Announced,
    pub(crate) carnet: Carnet,
    pub(crate) url: String,
}

impl Issuer {
    /// Starts it on plain HTTP.
    pub(crate) fn http() -> Self {
        Self::http_with(&[])
    }

    /// The same, with additional arguments of `serve`.
    pub(crate) fn http_with(more: &[&str]) -> Self {
        Self::start(Carnet::new, |port| format!("http://127.0.0.1:{port}"), more)
    }

    /// Starts it on TLS, with the certificate of `ca` for `localhost`.
    pub(crate) fn https(ca: &Ca) -> Self {
        Self::https_of(ca, Carnet::new)
    }

    /// The same, with a carnet from the caller.
    pub(crate) fn https_of(ca: &Ca, new: impl Fn() -> Carnet) -> Self {
        let (certificate, key) = (ca.server_certificate(), ca.server_key());
        let tls = ["--tls-cert", certificate.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
        Self::start(new, |port| format!("https://localhost:{port}"), &tls)
    }

    /// The issuer URL must be known before the port is bound, and a database stores its issuer: each attempt
    /// uses a new port and a new carnet.
    fn start(new: impl Fn() -> Carnet, url: impl Fn(u16) -> String, more: &[&str]) -> Self {
        on_free_ports(|| {
            let [port] = free_ports();
            let (carnet, url) = (new(), url(port));
            let server = carnet.serve(&url, &format!("127.0.0.1:{port}"), more)?;
            Ok(Self { server, carnet, url })
        })
    }
}
