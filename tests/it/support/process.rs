//! Child processes that never outlive their test, and waiting for conditions.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// The number of output lines shown when a test fails.
const SHOWN_LINES: usize = 20;

/// Returns a command with only `PATH` from the caller's environment: settings of the machine (certificates,
/// proxies, cloud credentials, carnet's own variables) must not affect a test.
pub(crate) fn clean_command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear();
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command
}

/// A running program, ended when dropped. Its output is written to files.
pub(crate) struct Process {
    name: &'static str,
    child: Child,
    output: TempDir,
}

impl Process {
    /// Starts `command` without standard input; messages call it `name`.
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

    /// Returns its standard output so far.
    pub(crate) fn stdout(&self) -> String {
        self.printed("stdout")
    }

    /// Returns its standard error so far.
    pub(crate) fn stderr(&self) -> String {
        self.printed("stderr")
    }

    /// Waits until `ready` returns a value. `Err` has the program's output, if it ends before that or is not
    /// ready within `deadline`.
    pub(crate) fn wait_ready<T>(
        &mut self,
        deadline: Duration,
        mut ready: impl FnMut(&Self) -> Option<T>,
    ) -> Result<T, String> {
        let mut ended = false;
        let found = wait_until(deadline, || {
            // In this order, `ready` is called once more after the program has ended.
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

    /// Sends SIGTERM and waits for the end; after `deadline`, sends SIGKILL. Returns whether SIGTERM was
    /// enough.
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
        // Uses the shell's `kill`, because the standard library has no safe function for it.
        let pid = self.child.id().to_string();
        let _ = Command::new("sh").args(["-c", "kill -\"$1\" \"$2\"", "sh", name, &pid]).status();
    }

    /// Returns the process id; after `exec` in a shell, it is that of the new program.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns its resident memory, in bytes.
    pub(crate) fn resident_bytes(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches("kB").trim().parse::<usize>().unwrap() * 1024
    }

    /// Returns its exit status; `None` if it has not ended within `deadline`.
    pub(crate) fn wait_for_end(&mut self, deadline: Duration) -> Option<ExitStatus> {
        wait_until(deadline, || self.child.try_wait().ok().flatten())
    }

    /// Kills it, for programs whose state is discarded anyway.
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

/// Polls `condition` until it returns a value or `deadline` has passed. The pause between two polls only
/// reduces the load: nothing depends on its length.
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

/// Returns free ports of the loopback address, for programs that need a fixed port. Another program may take
/// one before it is used; callers retry with new ones.
pub(crate) fn free_ports<const N: usize>() -> [u16; N] {
    // All are held until all are known, so that they differ.
    let held = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    held.map(|listener| listener.local_addr().unwrap().port())
}

/// Tries `start` on new ports a few times, for programs that need a fixed port.
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

/// Returns the complete response to `GET path`, or to a form if one is given, by plain HTTP; `None` if there
/// is none.
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
    let mut response = Vec::new();
    stream.read_to_end(&mut response).ok()?;
    Some(String::from_utf8_lossy(&response).into_owned())
}
