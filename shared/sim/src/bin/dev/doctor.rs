//! `cargo dev doctor`: runs the worker's setup checks.

use tokio::process::Command;

use crate::{build::build, instance, steps::step};

pub(crate) async fn doctor() -> anyhow::Result<()> {
    let binaries = build(&["--bin=dezky-worker"]).await?.binaries;
    let mut check = Command::new(binaries.join("dezky-worker"));
    check.arg("check");
    if let Some(running) = instance::running()? {
        println!("As the worker of the running `cargo dev up`:");
        check.envs(running.worker);
    } else {
        println!("`cargo dev up` is not running. With the variables of the environment:");
    }
    step(check).await
}
