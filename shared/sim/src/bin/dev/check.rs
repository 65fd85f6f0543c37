//! `cargo dev check`: formatting, lints, documentation, dependencies and licences.

use std::{process::Stdio, time::Duration};

use crate::{
    steps::{cargo, step},
    tool::{DENY, MACHETE},
};

/// Time limit for fetching the advisory database.
const FETCH: Duration = Duration::from_mins(2);

pub(crate) async fn check() -> anyhow::Result<()> {
    step(cargo(&["fmt", "--all", "--check"])).await?;
    DENY.ensure().await?;
    // The network is waited for while the compiler works.
    let fetch = tokio::spawn(fetch_advisories());
    let clippy = "clippy --workspace --all-targets --all-features -- -D warnings";
    step(cargo(&words(clippy))).await?;
    let mut doc = cargo(&words("doc --no-deps --workspace"));
    doc.env("RUSTDOCFLAGS", "-Dwarnings");
    step(doc).await?;

    step(cargo(&words("deny check bans licenses sources"))).await?;
    if fetch.await? {
        step(cargo(&words("deny check --disable-fetch advisories"))).await?;
    } else {
        println!("Advisories are not checked: the advisory database cannot be fetched");
    }

    MACHETE.ensure().await?;
    step(cargo(&["machete"])).await?;
    println!("All checks passed");
    Ok(())
}

/// Whether the advisory database is here and up to date.
async fn fetch_advisories() -> bool {
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
