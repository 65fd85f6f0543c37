//! Child processes that never outlive their parent.
//!
//! A process is stopped when its [`Process`] is dropped. If this process is killed before it can do that, the kernel
//! kills the child, which is started through `setpriv --pdeathsig KILL` (util-linux). The signal is bound to the
//! *thread* that started the child, so start processes from long-lived threads: the main thread, a test's thread, a
//! runtime worker, never `spawn_blocking`.

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

/// Number of log lines in an error.
const LAST_LINES: usize = 20;

/// Specification of a process.
#[derive(Debug, Clone)]
pub struct Program {
    /// Display name: `mongodb`.
    pub name: String,
    /// Path of the executable.
    pub path: PathBuf,
    /// Command line arguments.
    pub arguments: Vec<String>,
    /// Variables added to the inherited environment.
    pub environment: Vec<(&'static str, String)>,
    /// Log file for stdout and stderr, truncated by [`Process::start`].
    pub log: PathBuf,
}

/// A child process, killed when dropped.
#[derive(Debug)]
pub struct Process {
    program: Program,
    child: Child,
}

impl Process {
    /// Starts `program` in its own process group, so that the terminal's Ctrl-C does not reach it.
    pub fn start(program: Program) -> anyhow::Result<Self> {
        File::create(&program.log)
            .with_context(|| format!("{} cannot be written", program.log.display()))?;
        let child = spawn(&program)?;
        Ok(Self { program, child })
    }

    /// Display name.
    pub fn name(&self) -> &str {
        &self.program.name
    }

    /// Process id, until the process has exited.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits for the process to exit.
    pub async fn ended(&mut self) -> std::io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Returns an error with the end of the log if the process has exited.
    pub fn expect_running(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            Some(status) => Err(self.failure(status)),
            None => Ok(()),
        }
    }

    /// Error for an unexpected exit with `status`, with the end of the log.
    pub fn failure(&self, status: ExitStatus) -> anyhow::Error {
        let log = &self.program.log;
        anyhow::anyhow!(
            "{} exited unexpectedly ({status}); the end of {}:\n{}",
            self.program.name,
            log.display(),
            last_lines(log)
        )
    }

    /// Sends a signal. No effect after the exit.
    pub fn signal(&self, signal: Signal) {
        let Some(id) = self.child.id().and_then(|id| i32::try_from(id).ok()) else {
            return;
        };
        // The process may have exited, but is not reaped: the pid is still its own.
        let _ = kill(Pid::from_raw(id), signal);
    }

    /// Sends SIGTERM, and SIGKILL if the process has not exited `within` that time.
    pub async fn stop(&mut self, within: Duration) {
        self.signal(Signal::SIGTERM);
        // A stopped process would not handle SIGTERM.
        self.signal(Signal::SIGCONT);
        if tokio::time::timeout(within, self.child.wait())
            .await
            .is_err()
        {
            tracing::warn!(
                process = self.program.name,
                "Killing a process that did not stop in time"
            );
            self.kill().await;
        }
    }

    /// Sends SIGKILL, as in a crash, and waits for the exit.
    pub async fn kill(&mut self) {
        // An error means that the process has exited already.
        let _ = self.child.kill().await;
    }

    /// Kills the process if it runs, and starts it again.
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
