//! `cargo dev bench`: what the service can do on this machine, in a table and as JSON.

use std::{fs, process::Stdio, thread};

use anyhow::{Context as _, bail};
use dezky_sim::{
    figures::Figure,
    isolated_stores,
    stores::{Mongo, Redis},
    workspace,
};
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
};

use crate::{
    build::{RELEASE, build},
    steps::line,
};

/// The benchmarks, by name.
const BENCHMARKS: [&str; 2] = ["engine", "service"];

pub(crate) async fn bench(only: Option<&str>) -> anyhow::Result<()> {
    let built = build(&RELEASE).await?;
    let mut figures = Vec::new();
    for name in BENCHMARKS {
        if only.is_some_and(|only| only != name) {
            continue;
        }
        println!("Starting MongoDB and Redis");
        let directory = tempfile::tempdir_in(workspace::dev())?;
        let mongo = Mongo::start(&directory.path().join("mongodb")).await?;
        let redis = Redis::start(&directory.path().join("redis")).await?;
        let benchmark = built.benchmarks.get(name);
        let mut command = Command::new(benchmark.context("cargo built no such benchmark")?);
        command
            .env(isolated_stores::MONGODB_URI, &mongo.uri)
            .env(isolated_stores::REDIS_URL, &redis.url)
            .env(isolated_stores::BINARIES, &built.binaries);
        figures.extend(measured(command).await?);
    }
    let report = workspace::dev().join("bench.json");
    let cores = thread::available_parallelism()?;
    let contents = json!({ "cores": cores, "figures": figures });
    fs::write(&report, serde_json::to_string_pretty(&contents)?)?;
    println!("{} figures in {}", figures.len(), report.display());
    Ok(())
}

/// Runs a benchmark and shows each figure as it comes.
async fn measured(mut command: Command) -> anyhow::Result<Vec<Figure>> {
    println!("$ {}", line(&command));
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let output = child.stdout.take().context("its output is piped")?;
    let mut lines = BufReader::new(output).lines();
    let mut figures = Vec::new();
    while let Some(line) = lines.next_line().await? {
        match serde_json::from_str::<Figure>(&line) {
            Ok(figure) => {
                println!("{:<68} {:>10.1} {}", figure.name, figure.value, figure.unit);
                figures.push(figure);
            }
            Err(_) => println!("{line}"),
        }
    }
    let status = child.wait().await?;
    if !status.success() {
        bail!("`{}` failed ({status})", line(&command));
    }
    Ok(figures)
}
