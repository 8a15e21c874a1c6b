//! Content that a command writes: it counts only when the command ends well.
//!
//! The command runs below this program once more, which ends the command when we end, by whatever
//! signal: a process that is killed can end nothing itself.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, getpid, getppid, kill_process, kill_process_group};

use crate::exit::{Code, Failure};

/// What ends when we do.
static RUNNING: Mutex<Option<Running>> = Mutex::new(None);

#[derive(Debug, Clone, Copy)]
enum Running {
    Process(Pid),
    /// With all that it has started.
    Group(Pid),
}

impl Running {
    fn send(self, signal: Signal) {
        // It may have ended: then there is nothing to do.
        let _ = match self {
            Self::Process(pid) => kill_process(pid, signal),
            Self::Group(pid) => kill_process_group(pid, signal),
        };
    }
}

/// What a command writes. To its end it can be read only if the command ends with 0.
#[derive(Debug)]
pub(super) struct Output {
    name: String,
    child: Child,
    stdout: ChildStdout,
    running: Running,
    ended: Option<ExitStatus>,
}

impl Output {
    /// Starts a command; `command` is not empty.
    pub(super) fn of(command: &[OsString]) -> Result<Self, Failure> {
        let Some(program) = command.first() else {
            return Err(Failure::new(Code::Usage, "no command is given"));
        };
        let name = program.display().to_string();
        let failed = |error: io::Error| cannot_run(&name, &error);
        // On a terminal it stays in our group, where it may ask for a password and Ctrl-C reaches
        // it.
        let is_group = std::fs::File::open("/dev/tty").is_err();
        let mut child = Command::new(std::env::current_exe().map_err(failed)?);
        child.arg("run-below").arg(getpid().to_string());
        child.args(is_group.then_some("--group"));
        child.arg("--").args(command).stdout(Stdio::piped());
        if is_group {
            child.process_group(0);
        }
        // Under the lock, so that an interrupt finds the command or comes before it.
        let mut slot = RUNNING.lock();
        let mut child = child.spawn().map_err(failed)?;
        let pid = Pid::from_child(&child);
        let running = if is_group { Running::Group(pid) } else { Running::Process(pid) };
        *slot = Some(running);
        drop(slot);
        let stdout = child.stdout.take().ok_or_else(|| failed(io::ErrorKind::BrokenPipe.into()))?;
        Ok(Self { name, child, stdout, running, ended: None })
    }

    /// Ends the command if it runs on, and fails if it failed of its own accord.
    pub(super) fn finish(mut self) -> Result<(), Failure> {
        let how = match self.ended {
            None => {
                self.stop();
                return Ok(());
            }
            Some(status) if status.success() => return Ok(()),
            Some(status) => ending(status),
        };
        Err(Failure::new(Code::Failed, format!("nothing was stored: {} {how}", self.name)))
    }

    fn stop(&mut self) {
        self.running.send(Signal::TERM);
        let until = Instant::now() + STOP_MAX;
        while Instant::now() < until {
            if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            std::thread::sleep(STOP_LOOK);
        }
        self.running.send(Signal::KILL);
        let _ = self.child.wait();
    }
}

impl Read for Output {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.stdout.read(out)?;
        if read > 0 || out.is_empty() {
            return Ok(read);
        }
        let status = match self.ended {
            Some(status) => status,
            None => self.child.wait()?,
        };
        self.ended = Some(status);
        if status.success() { Ok(0) } else { Err(io::Error::other(ending(status))) }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        *RUNNING.lock() = None;
    }
}

fn cannot_run(name: &str, error: &io::Error) -> Failure {
    Failure::new(Code::Failed, format!("cannot run {name}: {error}"))
}

fn ending(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

/// Ends the command that runs, if one does: we end.
pub(super) fn end_running() {
    if let Some(running) = *RUNNING.lock() {
        running.send(Signal::TERM);
    }
}

/// The process between: runs a command and ends as it does, and before it when `parent` ends.
pub(super) fn run_below(parent: i32, is_group: bool, command: &[OsString]) -> Result<(), Failure> {
    let Some((program, args)) = command.split_first() else {
        return Err(Failure::new(Code::Usage, "no command is given"));
    };
    let failed = |error: io::Error| cannot_run(&program.display().to_string(), &error);
    let mut slot = RUNNING.lock();
    end_with_parent(parent).map_err(failed)?;
    let child = Command::new(program).args(args).spawn();
    if let Ok(child) = &child {
        let pid = Pid::from_child(child);
        *slot = Some(if is_group { Running::Group(getpid()) } else { Running::Process(pid) });
    }
    // An interrupt that came meanwhile finds the command now.
    drop(slot);
    let status = child.and_then(|mut child| child.wait()).map_err(failed)?;
    *RUNNING.lock() = None;
    if let Some(signal) = status.signal().and_then(Signal::from_named_raw) {
        let _ = kill_process(getpid(), signal);
    }
    std::process::exit(status.code().unwrap_or(FAILED));
}

/// Has the system send SIGTERM when the parent ends, or fails if it has ended already.
fn end_with_parent(parent: i32) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
    match getppid().map(Pid::as_raw_pid) == Some(parent) {
        true => Ok(()),
        false => Err(io::Error::other("whoever wanted what it writes has ended")),
    }
}

/// A command that is asked to end has this long before it is killed.
const STOP_MAX: Duration = Duration::from_secs(5);
/// How often it is looked whether it did.
const STOP_LOOK: Duration = Duration::from_millis(20);
/// For a command that ended in another way.
const FAILED: i32 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ending_is_told_by_code_or_signal() {
        assert_eq!(ending(ExitStatus::from_raw(3 << 8)), "ended with exit code 3");
        assert_eq!(ending(ExitStatus::from_raw(9)), "was ended by signal 9");
    }

    #[test]
    fn nothing_is_run_for_a_parent_that_has_ended() {
        let parent = getppid().unwrap().as_raw_pid();
        assert!(end_with_parent(parent + 1).is_err());
        assert!(end_with_parent(parent).is_ok());
    }
}
