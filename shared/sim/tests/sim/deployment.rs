//! `docker-compose.yml`, the Dockerfiles, `.dockerignore` and `.env.example`, compared with the code and with each
//! other. No image is built and no container started.

mod blueprint;
mod compose;
mod compose_file;
mod dockerfiles;
mod environment;
pub(crate) mod variables;

use std::fs;

use dezky_sim::workspace;

/// Text of a file, by its path in the checkout.
fn read(path: &str) -> String {
    let path = workspace::root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The first value of `key` in the workspace's `Cargo.toml`.
fn manifest(key: &str) -> String {
    let manifest = read("Cargo.toml");
    let value = manifest
        .lines()
        .find_map(|line| line.strip_prefix(key)?.trim_start().strip_prefix('='));
    let value = value.unwrap_or_else(|| panic!("Cargo.toml does not set {key}"));
    value.trim().trim_matches('"').to_owned()
}

/// Directories of the workspace members.
fn members() -> Vec<String> {
    let members = manifest("members");
    members
        .trim_matches(['[', ']'])
        .split(',')
        .map(|member| member.trim().trim_matches('"').to_owned())
        .collect()
}
