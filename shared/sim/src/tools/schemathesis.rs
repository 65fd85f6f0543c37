//! schemathesis, which generates requests from an OpenAPI document.

use std::process::Command;

use super::pypi::Program;

const SCHEMATHESIS: Program = Program {
    name: "schemathesis",
    version: "4.32.5",
    megabytes: 20,
    requirements: "schemathesis.txt",
};

/// A command that runs it.
pub fn schemathesis() -> anyhow::Result<Command> {
    let mut command = SCHEMATHESIS.python()?;
    command.args(["-m", "schemathesis.cli"]);
    Ok(command)
}
