//! `cargo dev check`: what has to hold besides the tests.

use std::{process::Stdio, time::Duration};

use crate::{
    steps::{cargo, step},
    tool::{DENY, MACHETE},
};

/// How long the advisory database may take to come.
const FETCH: Duration = Duration::from_mins(2);

pub(crate) async fn check() -> anyhow::Result<()> {
    step(cargo(&["fmt", "--all", "--check"])).await?;
    let clippy = "clippy --workspace --all-targets --all-features -- -D warnings";
    step(cargo(&words(clippy))).await?;
    let mut doc = cargo(&words("doc --no-deps --workspace"));
    doc.env("RUSTDOCFLAGS", "-Dwarnings");
    step(doc).await?;

    DENY.ensure().await?;
    step(cargo(&words("deny check bans licenses sources"))).await?;
    if advisories_can_be_had().await {
        step(cargo(&words("deny check --disable-fetch advisories"))).await?;
    } else {
        println!("The advisory database cannot be reached from here: advisories are not checked");
    }

    MACHETE.ensure().await?;
    step(cargo(&["machete"])).await?;
    println!("All checks passed");
    Ok(())
}

async fn advisories_can_be_had() -> bool {
    println!("$ cargo deny fetch db");
    let mut fetch = cargo(&words("deny fetch db"));
    fetch
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    match tokio::time::timeout(FETCH, fetch.status()).await {
        Ok(Ok(status)) => status.success(),
        Ok(Err(_)) | Err(_) => false,
    }
}

fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}
