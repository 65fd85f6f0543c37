//! `cargo dev bench`: benchmarks of a release build, and of peers, printed and written to a document.

mod peers;
mod table;

use std::{fs, process::Stdio};

use anyhow::{Context as _, bail};
use dezky_sim::{
    bench_output::{FULL, Figure},
    isolated_stores,
    stores::{Mongo, Redis},
    workspace,
};
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
};

use self::{peers::Unavailable, table::table};
use crate::{
    build::{Built, RELEASE, build},
    document::{Provenance, Section},
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
const BENCHMARKS: [Benchmark; 10] = [
    Benchmark::new("engine", "engine"),
    Benchmark::new("turns", "engine"),
    Benchmark::new("service", "service"),
    Benchmark::new("recovery", "service"),
    Benchmark::new("billing", "service"),
    Benchmark::new("reports", "service"),
    Benchmark::new("members", "service"),
    Benchmark::new("console", "service"),
    Benchmark::new("reconcile", "service"),
    Benchmark::new(SCALE, "service"),
];
/// The benchmark of several workers, whose figures a document of its own has, too. Their names begin with its name.
const SCALE: &str = "scale";
/// Section with the figures of the last complete run.
const SECTION: Section = Section {
    document: ".ops/benchmarks.md",
    begin: "<!-- figures: written by `cargo dev bench` -->",
    end: "<!-- end of figures -->",
};
/// Section with the figures of several workers, for what is planned beyond one machine.
const SCALE_SECTION: Section = Section {
    document: ".ops/scale.md",
    begin: "<!-- figures: written by `cargo dev bench scale` -->",
    end: "<!-- end of figures -->",
};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Run only one benchmark: `engine`, `turns`, `service`, `recovery`, `billing`, `reports`, `members`, `console`,
    /// `reconcile` or `scale`. `.ops/benchmarks.md` is then not written.
    only: Option<String>,
    /// Measure peers, too, right after the benchmarks that they are compared with: BullMQ with MongoDB, graphile-worker,
    /// pg-boss, and NestJS with BullMQ.
    #[arg(long)]
    peers: bool,
    /// Run `billing` and `reports` at their full sizes, which takes over half an hour more.
    #[arg(long)]
    full: bool,
}

/// Results of a run.
#[derive(Debug, Default)]
struct Results {
    /// The figures of ours and of peers, in the order of their measurement.
    figures: Vec<Figure>,
    /// Peers that could not be measured.
    unavailable: Vec<Unavailable>,
    /// Benchmarks that failed, or exceeded a limit.
    failed: Vec<&'static str>,
}

impl Results {
    /// The figures of a benchmark whose names begin with its name.
    fn of(&self, benchmark: &str) -> Self {
        let is_of = |figure: &&Figure| figure.name.starts_with(benchmark);
        Self {
            figures: self.figures.iter().filter(is_of).cloned().collect(),
            ..Self::default()
        }
    }
}

pub(crate) async fn bench(arguments: Arguments) -> anyhow::Result<()> {
    let Arguments { only, peers, full } = arguments;
    let names = BENCHMARKS.map(|benchmark| benchmark.name);
    let only = only.as_deref();
    if let Some(unknown) = only.filter(|only| !names.contains(only)) {
        bail!(
            "no benchmark is named {unknown}; there are: {}",
            names.join(", ")
        );
    }
    let provenance = Provenance::current().await?;
    let built = build(&RELEASE).await?;
    let mut results = Results::default();
    for benchmark in BENCHMARKS {
        if only.is_some_and(|only| only != benchmark.name) {
            continue;
        }
        let measured = measure(&benchmark, &built, full).await?;
        results.figures.extend(measured.figures);
        if !measured.is_success {
            results.failed.push(benchmark.name);
        }
        if peers {
            let measured = peers::measure_after(benchmark.name).await;
            results.figures.extend(measured.figures);
            results.unavailable.extend(measured.unavailable);
        }
    }
    let json = workspace::dev().join("bench.json");
    let contents = json!({
        "date": provenance.date,
        "build": provenance.build,
        "cores": provenance.cores,
        "figures": results.figures,
    });
    fs::write(&json, serde_json::to_string_pretty(&contents)?)?;
    println!("{} figures in {}", results.figures.len(), json.display());
    let is_scale_measured = only.is_none_or(|only| only == SCALE);
    if is_scale_measured && !results.failed.contains(&SCALE) {
        SCALE_SECTION.write(&table(&provenance, &results.of(SCALE)))?;
        println!("Updated {}", SCALE_SECTION.document);
    }
    if !results.failed.is_empty() {
        bail!("failed benchmarks: {}", results.failed.join(", "));
    }
    // One build and date apply to the whole table, so that an incomplete run is not written.
    if only.is_none() {
        SECTION.write(&table(&provenance, &results))?;
        println!("Updated {}", SECTION.document);
    }
    Ok(())
}

/// Runs a benchmark on stores of its own.
async fn measure(benchmark: &Benchmark, built: &Built, is_full: bool) -> anyhow::Result<Measured> {
    let name = benchmark.name;
    println!("Benchmark {name}: starting MongoDB and Redis");
    let directory = tempfile::tempdir_in(workspace::dev())?;
    let mongo = Mongo::start(&directory.path().join("mongodb")).await?;
    let redis = Redis::start(&directory.path().join("redis")).await?;
    let program = built.benchmarks.get(benchmark.program);
    let mut command = Command::new(program.context("cargo built no such benchmark")?);
    command
        .arg(name)
        .env(FULL, is_full.to_string())
        .env(isolated_stores::MONGODB_URI, &mongo.uri)
        .env(isolated_stores::REDIS_URL, &redis.url)
        .env(isolated_stores::BINARIES, &built.binaries);
    run(command).await
}

/// Figures of a program.
#[derive(Debug)]
struct Measured {
    figures: Vec<Figure>,
    /// Whether the program ended with status 0.
    is_success: bool,
}

/// Runs a program, and prints each of its figures as it arrives.
async fn run(mut command: Command) -> anyhow::Result<Measured> {
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
        println!("`{}` failed ({status})", line(&command));
    }
    Ok(Measured {
        figures,
        is_success: status.success(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_document_has_its_section() {
        for section in [SECTION, SCALE_SECTION] {
            let document = workspace::root().join(section.document);

            let text = fs::read_to_string(document).unwrap();

            let parts = [section.begin, section.end].map(|marker| text.matches(marker).count());
            assert_eq!(parts, [1, 1], "{}", section.document);
        }
    }

    #[test]
    fn the_figures_of_a_benchmark_are_those_with_its_name() {
        let figure = |name: &str| Figure {
            name: name.to_owned(),
            value: 1.0,
            unit: "jobs/s".to_owned(),
        };
        let results = Results {
            figures: vec![
                figure("drain, 200 slots"),
                figure("scale: drain, workers: 1"),
            ],
            failed: vec!["members"],
            ..Results::default()
        };

        let of_scale = results.of(SCALE);

        assert_eq!(of_scale.figures, [figure("scale: drain, workers: 1")]);
    }
}
