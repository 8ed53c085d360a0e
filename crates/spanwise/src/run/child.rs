//! The program itself: started once, its streams, signals and exit status its own.

use std::ffi::OsString;
use std::io::Read as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, ExitCode, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::signal::unix::{SignalKind, signal};

use super::detect::Found;
use super::environment::Variables;
use super::notes::Notes;
use super::say;

/// How often the notes of hooks are looked for.
const LOOK: Duration = Duration::from_secs(1);

/// How the program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    Signal(i32),
}

impl Exit {
    /// As a shell's `$?`.
    pub fn status(self) -> i32 {
        match self {
            Exit::Code(code) => code,
            Exit::Signal(number) => 128 + number,
        }
    }

    fn of(status: ExitStatus) -> Exit {
        match (status.code(), status.signal()) {
            (Some(code), _) => Exit::Code(code),
            (None, number) => Exit::Signal(number.unwrap_or(9)),
        }
    }
}

pub enum Ended {
    Exited(Exit),
    /// It could not be started: 126 or 127.
    NotStarted(u8),
}

impl Ended {
    pub fn status(&self) -> ExitCode {
        match self {
            Ended::Exited(exit) => ExitCode::from(u8::try_from(exit.status() & 0xff).unwrap_or(1)),
            Ended::NotStarted(status) => ExitCode::from(*status),
        }
    }
}

fn command(found: &Found, arguments: Vec<OsString>, variables: Variables) -> Command {
    let mut command = Command::new(&found.program);
    if let Some(name) = found.command.first() {
        command.arg0(name);
    }
    command.args(arguments).args(found.command.iter().skip(1)).envs(variables);
    command
}

fn cannot_start(found: &Found, error: &std::io::Error) -> u8 {
    say(&format!("cannot run {}: {error}", found.program.display()));
    if error.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 }
}

/// Takes our place; only comes back when the program cannot be started.
pub fn exec(found: &Found, arguments: Vec<OsString>, variables: Variables) -> ExitCode {
    let error = command(found, arguments, variables).exec();
    ExitCode::from(cannot_start(found, &error))
}

/// Starts it and waits until it ends, handing on the signals that are meant for it, and telling what its hooks note.
pub fn supervise(
    found: &Found,
    arguments: Vec<OsString>,
    variables: Variables,
    mut notes: Option<&mut Notes>,
) -> Ended {
    let mut command = command(found, arguments, variables);
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return wait_plainly(found, command);
    };
    runtime.block_on(async {
        // Before the start, so that none is missed.
        let (signals, mut received) = tokio::sync::mpsc::channel(16);
        let mut listeners = Vec::new();
        for number in forwarded() {
            let Ok(mut listener) = signal(SignalKind::from_raw(number as i32)) else { continue };
            let signals = signals.clone();
            listeners.push(tokio::spawn(async move {
                while listener.recv().await.is_some() {
                    let _ = signals.send(number).await;
                }
            }));
        }
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => return Ended::NotStarted(cannot_start(found, &error)),
        };
        let pid = i32::try_from(child.id()).map(Pid::from_raw);
        let mut waiting = tokio::task::spawn_blocking(move || child.wait());
        let mut look = tokio::time::interval(LOOK);
        let mut tell = move || notes.iter_mut().for_each(|notes| notes.tell());
        loop {
            tokio::select! {
                _ = look.tick() => tell(),
                status = &mut waiting => {
                    tell();
                    listeners.iter().for_each(tokio::task::JoinHandle::abort);
                    let exit = match status {
                        Ok(Ok(status)) => Exit::of(status),
                        _ => Exit::Code(1),
                    };
                    return Ended::Exited(exit);
                }
                Some(number) = received.recv() => {
                    if let Ok(pid) = pid && !came_from_terminal(number) {
                        let _ = kill(pid, number);
                    }
                }
            }
        }
    })
}

fn wait_plainly(found: &Found, mut command: Command) -> Ended {
    match command.status() {
        Ok(status) => Ended::Exited(Exit::of(status)),
        Err(error) => Ended::NotStarted(cannot_start(found, &error)),
    }
}

/// Signals that would end us, and those that programs give a meaning. What was ignored when we started stays ignored,
/// for us and, by inheritance, for the program (`nohup`).
fn forwarded() -> Vec<Signal> {
    use Signal::{SIGALRM, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    let all = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGALRM, SIGWINCH];
    all.into_iter().filter(|signal| ignored & (1 << (*signal as i32 - 1)) == 0).collect()
}

/// A terminal sends Ctrl-C and Ctrl-\ to its whole foreground group: the program has it already.
fn came_from_terminal(number: Signal) -> bool {
    if !matches!(number, Signal::SIGINT | Signal::SIGQUIT | Signal::SIGWINCH) {
        return false;
    }
    let Ok(terminal) = std::fs::File::open("/dev/tty") else { return false };
    nix::unistd::tcgetpgrp(&terminal).is_ok_and(|group| group == nix::unistd::getpgrp())
}

/// Output of a command that must end in time; then it is killed.
///
/// # Errors
/// When it cannot be started, or takes too long.
pub fn output(command: &mut Command, limit: Duration) -> anyhow::Result<Output> {
    let name = command.get_program().to_owned();
    let spawned = command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).spawn();
    let mut child = spawned.with_context(|| format!("cannot run {}", name.display()))?;
    let group = i32::try_from(child.id()).unwrap_or(0);
    let readers = [
        child.stdout.take().map(|stream| Box::new(stream) as Box<dyn std::io::Read + Send>),
        child.stderr.take().map(|stream| Box::new(stream) as Box<dyn std::io::Read + Send>),
    ];
    let readers = readers.map(|stream| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            if let Some(mut stream) = stream {
                let _ = stream.by_ref().take(1 << 20).read_to_end(&mut bytes);
                let _ = std::io::copy(&mut stream, &mut std::io::sink());
            }
            bytes
        })
    });
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if started.elapsed() > limit {
            let _ = kill(Pid::from_raw(-group), Signal::SIGKILL);
            let _ = child.wait();
            bail!("{} did not end within {} s", name.display(), limit.as_secs());
        }
        std::thread::park_timeout(Duration::from_millis(10));
    };
    let [stdout, stderr] = readers.map(|reader| reader.join().unwrap_or_default());
    Ok(Output { status, stdout, stderr })
}
