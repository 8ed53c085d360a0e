//! How long the shared Spanwise lives: every run holds a shared lock on `run.lease` while its program runs. The server
//! tries for the exclusive lock: it gets it when no run is left, however the runs ended. Then it ends, unless a program
//! that a run started still runs, in the background or because the run itself was killed.

use std::fs::File;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::fs::{FlockOperation, flock};

/// Names the lease to whatever a run starts: so are its programs found.
pub const LEASE: &str = "SPANWISE_RUN_LEASE";
/// A server that is about to end finishes what it was sent.
const END: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(500);

/// Where the lease of a data directory is.
pub fn path(directory: &Path) -> PathBuf {
    directory.join("run.lease")
}

fn open(path: &Path) -> anyhow::Result<File> {
    let file = File::options().create(true).truncate(false).write(true).open(path);
    file.with_context(|| format!("cannot write {}", path.display()))
}

/// From here on the shared server does not begin to end; one that is about to is waited for.
///
/// # Errors
/// When the lease cannot be opened, or the server does not end.
pub fn take(directory: &Path) -> anyhow::Result<File> {
    let file = open(&path(directory))?;
    let started = Instant::now();
    while flock(&file, FlockOperation::NonBlockingLockShared).is_err() {
        if started.elapsed() > END {
            bail!("the last server of this user does not end");
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
    Ok(file)
}

/// Completes once nobody holds the lease and no program of a run is left; it stays taken until this process ends.
///
/// # Errors
/// When the lease cannot be opened.
pub async fn until_unused(lease: &Path) -> anyhow::Result<File> {
    let file = open(lease)?;
    loop {
        tokio::time::sleep(POLL).await;
        if is_unused(&file, lease) {
            return Ok(file);
        }
    }
}

fn is_unused(file: &File, lease: &Path) -> bool {
    if flock(file, FlockOperation::NonBlockingLockExclusive).is_err() {
        return false;
    }
    let is_unused = programs(LEASE, lease.as_os_str().as_bytes()) == 0;
    if !is_unused {
        let _ = flock(file, FlockOperation::Unlock);
    }
    is_unused
}

/// How many processes were started with this value of a variable.
pub fn programs(variable: &str, value: &[u8]) -> usize {
    let Ok(processes) = std::fs::read_dir("/proc") else { return 0 };
    let wanted = [variable.as_bytes(), b"=", value].concat();
    let is_one = |directory: &Path| {
        let environment = std::fs::read(directory.join("environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|pair| pair == wanted)
    };
    let is_process = |name: &std::ffi::OsStr| name.as_bytes().iter().all(u8::is_ascii_digit);
    processes.flatten().filter(|entry| is_process(&entry.file_name()) && is_one(&entry.path())).count()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_lease_is_in_use_while_a_run_holds_it_or_a_program_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let lease = path(directory.path());
        let server = open(&lease).unwrap();
        let run = take(directory.path()).unwrap();
        assert!(!is_unused(&server, &lease));
        let mut left = Command::new("cat").env(LEASE, &lease).stdin(Stdio::piped()).spawn().unwrap();
        drop(run);
        assert!(!is_unused(&server, &lease));
        // Another run may begin meanwhile.
        drop(take(directory.path()).unwrap());
        drop(left.stdin.take());
        left.wait().unwrap();
        assert!(is_unused(&server, &lease));
    }
}
