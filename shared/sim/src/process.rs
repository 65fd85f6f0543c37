//! Child processes that never outlive whoever started them.
//!
//! A process is stopped when its [`Process`] is dropped. Should this process be killed before it can do that,
//! the kernel kills the child: it is started through `setpriv --pdeathsig KILL` (util-linux). The kernel counts
//! from the end of the *thread* that started the child, so processes are started from threads that last: the
//! main thread, a test's thread, a worker of the runtime, never `spawn_blocking`.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::Context as _;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::process::{Child, Command};

/// How many lines of a log an error shows.
const LAST_LINES: usize = 20;

/// What to start, and how.
#[derive(Debug, Clone)]
pub struct Program {
    /// What people call it: `mongodb`.
    pub name: String,
    /// The executable.
    pub path: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Variables added to the environment it inherits.
    pub environment: Vec<(&'static str, String)>,
    /// The file that holds what it prints, begun anew with each [`Process::start`].
    pub log: PathBuf,
}

/// A child process, killed when dropped.
#[derive(Debug)]
pub struct Process {
    program: Program,
    child: Child,
}

impl Process {
    /// Starts `program` in a process group of its own, out of reach of the terminal's Ctrl-C.
    pub fn start(program: Program) -> anyhow::Result<Self> {
        File::create(&program.log)
            .with_context(|| format!("{} cannot be written", program.log.display()))?;
        let child = spawn(&program)?;
        Ok(Self { program, child })
    }

    /// What people call it.
    pub fn name(&self) -> &str {
        &self.program.name
    }

    /// Its id, until it has ended.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits until it ends by itself.
    pub async fn ended(&mut self) -> std::io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Fails, with the end of its log, if it does not run any more.
    pub fn expect_running(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            Some(status) => Err(self.failure(status)),
            None => Ok(()),
        }
    }

    /// The error that it ended with `status`, with the end of its log.
    pub fn failure(&self, status: ExitStatus) -> anyhow::Error {
        let log = &self.program.log;
        anyhow::anyhow!(
            "{} ended unexpectedly ({status}); the end of {}:\n{}",
            self.program.name,
            log.display(),
            last_lines(log)
        )
    }

    /// Sends it a signal. One that has ended already gets none.
    pub fn signal(&self, signal: Signal) {
        let Some(id) = self.child.id().and_then(|id| i32::try_from(id).ok()) else {
            return;
        };
        // It may have ended in this instant: it is not reaped yet, so the id is still its own.
        let _ = kill(Pid::from_raw(id), signal);
    }

    /// Asks it to end, and kills it if it has not ended `within` that time.
    pub async fn stop(&mut self, within: Duration) {
        self.signal(Signal::SIGTERM);
        // One that is paused would not notice.
        self.signal(Signal::SIGCONT);
        if tokio::time::timeout(within, self.child.wait())
            .await
            .is_err()
        {
            tracing::warn!(process = self.program.name, "Did not stop in time");
            self.kill().await;
        }
    }

    /// Kills it as a crash would, and waits until it is gone.
    pub async fn kill(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill().await;
    }

    /// Starts it once more. One that still runs is killed first.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.kill().await;
        self.child = spawn(&self.program)?;
        Ok(())
    }
}

fn spawn(program: &Program) -> anyhow::Result<Child> {
    let log = File::options().append(true).open(&program.log)?;
    Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--"])
        .arg(&program.path)
        .args(&program.arguments)
        .envs(program.environment.iter().cloned())
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("{} cannot be started through setpriv", program.name))
}

fn last_lines(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
}
