//! Child processes that never outlive their test, and waiting for what they do.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How much of a program's output is shown when a test fails.
const SHOWN_LINES: usize = 20;

/// A command with nothing of the caller's environment but `PATH`: what the machine presets (certificates,
/// proxies, cloud credentials, carnet's own variables) must not reach a test.
pub(crate) fn clean_command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear();
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command
}

/// A running program, ended when dropped. What it prints is kept in files.
pub(crate) struct Process {
    name: &'static str,
    child: Child,
    output: TempDir,
}

impl Process {
    /// Starts `command`, which the caller calls `name` in messages, without standard input.
    pub(crate) fn start(name: &'static str, command: &mut Command) -> Self {
        let output = tempfile::tempdir().unwrap();
        let file = |name| File::create(output.path().join(name)).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(file("stdout"))
            .stderr(file("stderr"))
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        Self { name, child, output }
    }

    /// What it has printed on standard output so far.
    pub(crate) fn stdout(&self) -> String {
        self.printed("stdout")
    }

    /// What it has printed on standard error so far.
    pub(crate) fn stderr(&self) -> String {
        self.printed("stderr")
    }

    /// Waits until `ready` gives a value. `Err` says what the program printed, when it ends before that
    /// or is not ready within `deadline`.
    pub(crate) fn wait_ready<T>(
        &mut self,
        deadline: Duration,
        mut ready: impl FnMut(&Self) -> Option<T>,
    ) -> Result<T, String> {
        let mut ended = false;
        let found = wait_until(deadline, || {
            // Asked in this order, a program that ends in between is looked at once more.
            ended = self.child.try_wait().unwrap().is_some();
            match ready(self) {
                Some(value) => Some(Some(value)),
                None if ended => Some(None),
                None => None,
            }
        });
        found.flatten().ok_or_else(|| {
            let what = if ended { "ended early" } else { "is not ready in time" };
            format!("{} {what}; it printed:\n{}{}", self.name, self.stdout(), self.stderr())
        })
    }

    /// Sends SIGTERM and waits for the end; after `deadline`, SIGKILL. True if SIGTERM was enough.
    pub(crate) fn terminate(&mut self, deadline: Duration) -> bool {
        if let Ok(Some(_)) = self.child.try_wait() {
            return true;
        }
        self.ask_to_stop();
        let ended = self.wait_for_end(deadline).is_some();
        if !ended {
            self.kill();
        }
        ended
    }

    /// Sends SIGTERM. The process must not have been waited for yet.
    pub(crate) fn ask_to_stop(&self) {
        self.signal("TERM");
    }

    /// Sends the signal of that name. The process must not have been waited for yet.
    pub(crate) fn signal(&self, name: &str) {
        // The shell's own `kill`, for want of a safe one in the standard library.
        let pid = self.child.id().to_string();
        let _ = Command::new("sh").args(["-c", "kill -\"$1\" \"$2\"", "sh", name, &pid]).status();
    }

    /// The process's identifier; with `exec`, also that of what a shell became.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// How much memory it holds, in bytes.
    pub(crate) fn resident_bytes(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches("kB").trim().parse::<usize>().unwrap() * 1024
    }

    /// How it ended; `None` if it has not within `deadline`.
    pub(crate) fn wait_for_end(&mut self, deadline: Duration) -> Option<ExitStatus> {
        wait_until(deadline, || self.child.try_wait().ok().flatten())
    }

    /// Ends it at once, for programs whose state is thrown away anyway.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn printed(&self, stream: &str) -> String {
        String::from_utf8_lossy(&std::fs::read(self.output.path().join(stream)).unwrap_or_default())
            .into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.terminate(Duration::from_secs(10));
        if std::thread::panicking() {
            let (stdout, stderr) = (self.stdout(), self.stderr());
            let lines: Vec<&str> = stdout.lines().chain(stderr.lines()).collect();
            let last = lines.len().saturating_sub(SHOWN_LINES);
            eprintln!("{} printed, at the end:\n{}\n", self.name, lines[last..].join("\n"));
        }
    }
}

/// Asks `condition` again and again until it gives a value or `deadline` has passed. The pause between
/// two questions only keeps the processor free: nothing relies on its length.
#[expect(clippy::disallowed_methods, reason = "other programs are waited for in real time")]
pub(crate) fn wait_until<T>(deadline: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = condition() {
            return Some(value);
        }
        if start.elapsed() > deadline {
            return None;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Free ports of the loopback address, for programs that must be told theirs. Another program may take one
/// before it is used: whoever uses them starts over with fresh ones.
pub(crate) fn free_ports<const N: usize>() -> [u16; N] {
    // All are held until all are known, so that they differ.
    let held = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    held.map(|listener| listener.local_addr().unwrap().port())
}

/// Tries `start` on fresh ports a few times, for programs that must be told theirs.
pub(crate) fn on_free_ports<T>(mut start: impl FnMut() -> Result<T, String>) -> T {
    let mut failures = Vec::new();
    for _ in 0..3 {
        match start() {
            Ok(started) => return started,
            Err(failure) => failures.push(failure),
        }
    }
    panic!("{}", failures.join("\n"));
}

/// The whole answer to `GET path`, or to a form if one is given, by plain HTTP; `None` while there is none.
pub(crate) fn http(address: SocketAddr, path: &str, form: Option<&str>) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let request = match form {
        None => format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n"),
        Some(form) => format!(
            "POST {path} HTTP/1.0\r\nHost: {address}\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             Content-Length: {}\r\n\r\n{form}",
            form.len()
        ),
    };
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    Some(String::from_utf8_lossy(&answer).into_owned())
}
