//! What this process holds in memory stays there.

use rustix::process::{Resource, Rlimit, setrlimit};

/// Has the kernel write no core dump of this process, and on Linux let no other process of the same user read its memory
/// (prctl(2) `PR_SET_DUMPABLE`, core(5)). A kernel that will not is no reason to stop: that is said where logs go.
pub(super) fn keep_private() {
    // The limit counts where dumps go to a file; Linux has another switch for those that go to a program.
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
