//! `cargo dev chaos`: the whole system under fire.

use std::time::Duration;

use anyhow::{Context as _, bail};
use dezky_sim::{
    chaos::{self, Options},
    workspace,
};

use crate::{
    build::{DEBUG, RELEASE, build},
    interrupted,
};

pub(crate) async fn chaos(seed: Option<u64>, seconds: u64, release: bool) -> anyhow::Result<()> {
    let seed = seed.unwrap_or_else(|| rand::random_range(1..1_000_000));
    let what: &[&str] = if release { &RELEASE } else { &DEBUG };
    let binaries = build(what).await?.binaries;
    let directory = workspace::dev().join("chaos").join(seed.to_string());
    let hint = format!(
        "seed {seed}; the logs are in {}; again: cargo dev chaos --seed {seed} --seconds {seconds}{}",
        directory.display(),
        if release { " --release" } else { "" },
    );
    let options = Options {
        seed,
        length: Duration::from_secs(seconds),
        binaries,
        directory,
    };
    let report = tokio::select! {
        report = chaos::run(options) => report.with_context(|| hint.clone())?,
        () = interrupted() => bail!("interrupted"),
    };
    println!("{report}");
    if !report.holds() {
        bail!("not every promise holds; {hint}");
    }
    println!("Every promise holds");
    Ok(())
}
