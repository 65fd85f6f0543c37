//! `cargo dev bench`: benchmarks of a release build, printed and written to a document.

use std::{fs, process::Stdio};

use anyhow::{Context as _, bail};
use dezky_sim::{
    bench_output::Figure,
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
    document::{Provenance, Section, grouped},
    steps::line,
};

/// A benchmark: a scenario of a program.
struct Benchmark {
    /// Name on the command line.
    name: &'static str,
    /// Program, which `cargo` calls a bench target.
    program: &'static str,
}

impl Benchmark {
    const fn new(name: &'static str, program: &'static str) -> Self {
        Self { name, program }
    }
}

/// The benchmarks, in the order of the document.
const BENCHMARKS: [Benchmark; 5] = [
    Benchmark::new("engine", "engine"),
    Benchmark::new("turns", "engine"),
    Benchmark::new("service", "service"),
    Benchmark::new("members", "service"),
    Benchmark::new("reconcile", "service"),
];
/// Section with the figures of the last complete run.
const SECTION: Section = Section {
    document: ".ops/benchmarks.md",
    begin: "<!-- figures: written by `cargo dev bench` -->",
    end: "<!-- end of figures -->",
};

pub(crate) async fn bench(only: Option<&str>) -> anyhow::Result<()> {
    let names = BENCHMARKS.map(|benchmark| benchmark.name);
    if let Some(unknown) = only.filter(|only| !names.contains(only)) {
        bail!(
            "no benchmark is named {unknown}; there are: {}",
            names.join(", ")
        );
    }
    let provenance = Provenance::current().await?;
    let built = build(&RELEASE).await?;
    let mut figures = Vec::new();
    for Benchmark { name, program } in BENCHMARKS {
        if only.is_some_and(|only| only != name) {
            continue;
        }
        println!("Benchmark {name}: starting MongoDB and Redis");
        let directory = tempfile::tempdir_in(workspace::dev())?;
        let mongo = Mongo::start(&directory.path().join("mongodb")).await?;
        let redis = Redis::start(&directory.path().join("redis")).await?;
        let program = built.benchmarks.get(program);
        let mut command = Command::new(program.context("cargo built no such benchmark")?);
        command
            .arg(name)
            .env(isolated_stores::MONGODB_URI, &mongo.uri)
            .env(isolated_stores::REDIS_URL, &redis.url)
            .env(isolated_stores::BINARIES, &built.binaries);
        figures.extend(run(command).await?);
    }
    let json = workspace::dev().join("bench.json");
    let contents = json!({
        "date": provenance.date,
        "build": provenance.build,
        "cores": provenance.cores,
        "figures": figures,
    });
    fs::write(&json, serde_json::to_string_pretty(&contents)?)?;
    println!("{} figures in {}", figures.len(), json.display());
    // One build and date apply to the whole table, so that an incomplete run is not written.
    if only.is_none() {
        SECTION.write(&table(&provenance, &figures))?;
        println!("Updated {}", SECTION.document);
    }
    Ok(())
}

/// The section of the document: build, machine and all figures.
fn table(provenance: &Provenance, figures: &[Figure]) -> String {
    let Provenance { date, build, cores } = provenance;
    let rows: Vec<String> = figures
        .iter()
        .map(|Figure { name, value, unit }| format!("| {name} | {} | {unit} |", rounded(*value)))
        .collect();
    format!(
        "Measured on {date}, build `{build}`, {cores} cores.\n\n\
         | figure | value | unit |\n| --- | ---: | --- |\n{}",
        rows.join("\n")
    )
}

/// A value with three significant digits at least: one decimal below 100, none from 100 on.
fn rounded(value: f64) -> String {
    if value.abs() < 99.95 {
        let text = format!("{value:.1}");
        return text.strip_suffix(".0").map_or(text.clone(), str::to_owned);
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "figures are positive and far below 2^53"
    )]
    let whole = value.round() as u64;
    grouped(whole)
}

/// Runs a benchmark and prints each figure as it arrives.
async fn run(mut command: Command) -> anyhow::Result<Vec<Figure>> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(name: &str, value: f64, unit: &str) -> Figure {
        Figure {
            name: name.to_owned(),
            value,
            unit: unit.to_owned(),
        }
    }

    #[test]
    fn the_table_names_date_build_and_cores_and_lists_every_figure() {
        let provenance = Provenance {
            date: "2026-11-22".to_owned(),
            build: "e4a52aa".to_owned(),
            cores: 2,
        };
        let figures = [
            figure("drain, 200 slots", 5_411.7, "jobs/s"),
            figure("POST /tenants, p50", 71.04, "ms"),
        ];

        let table = table(&provenance, &figures);

        assert_eq!(
            table,
            "Measured on 2026-11-22, build `e4a52aa`, 2 cores.\n\n\
             | figure | value | unit |\n\
             | --- | ---: | --- |\n\
             | drain, 200 slots | 5,412 | jobs/s |\n\
             | POST /tenants, p50 | 71 | ms |"
        );
    }

    #[test]
    fn large_values_have_no_decimals_and_small_ones_have_one() {
        let values = [0.0, 0.84, 2.5, 33.0, 99.96, 128.6, 83_778.5];

        assert_eq!(
            values.map(rounded),
            ["0", "0.8", "2.5", "33", "100", "129", "83,779"]
        );
    }

    #[test]
    fn the_document_has_the_section() {
        let document = workspace::root().join(SECTION.document);

        let text = fs::read_to_string(document).unwrap();

        assert!(text.contains(SECTION.begin) && text.contains(SECTION.end));
    }
}
