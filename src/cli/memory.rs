//! Keeps this process's memory out of core dumps and out of reach of other processes.

use rustix::process::{Resource, Rlimit, setrlimit};

/// Disables core dumps of this process. On Linux, also stops other processes of the same user from reading
/// its memory (prctl(2) `PR_SET_DUMPABLE`, core(5)). If the kernel refuses, logs a warning and continues.
pub(super) fn keep_private() {
    // The limit applies to core dumps to files. On Linux, dumps to a program need the other switch.
    let outcomes = [setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }), forbid_dumps()];
    for error in outcomes.into_iter().filter_map(Result::err) {
        tracing::warn!(%error, "this process's memory may end up in a core dump");
    }
}

#[cfg(target_os = "linux")]
fn forbid_dumps() -> rustix::io::Result<()> {
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
}

#[cfg(not(target_os = "linux"))]
fn forbid_dumps() -> rustix::io::Result<()> {
    Ok(())
}
