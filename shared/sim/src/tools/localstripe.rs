//! localstripe, a Stripe that others wrote. It knows some of the requests that we send.

use std::process::Command;

use super::pypi::{Program, file};

const LOCALSTRIPE: Program = Program {
    name: "localstripe",
    version: "1.15.10",
    megabytes: 4,
    requirements: "localstripe/requirements.txt",
};

/// A command that serves it on a port of this machine.
pub fn localstripe(port: u16) -> anyhow::Result<Command> {
    let mut command = LOCALSTRIPE.python()?;
    command
        .arg(file("localstripe/serve.py"))
        .arg(port.to_string());
    Ok(command)
}
