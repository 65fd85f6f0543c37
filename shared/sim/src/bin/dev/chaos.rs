//! `cargo dev chaos`: a chaos run of the whole system.

use std::time::Duration;

use anyhow::{Context as _, bail};
use dezky_sim::{
    bench_output::grouped,
    chaos::{self, Options, Report},
    workspace,
};

use crate::{
    build::{DEBUG, RELEASE, build},
    document::{Provenance, Section},
    interrupted,
};

/// Section with the last report that was written.
const SECTION: Section = Section {
    document: "shared/sim/README.md",
    begin: "<!-- report: written by `cargo dev chaos --write-report` -->",
    end: "<!-- end of report -->",
};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Seed of the fault schedule. Default: random.
    #[arg(long)]
    seed: Option<u64>,
    /// Duration of fault injection, in seconds.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(20..))]
    seconds: u64,
    /// Use release builds of the api and the worker.
    #[arg(long)]
    release: bool,
    /// Write a summary to shared/sim/README.md if every promise holds.
    #[arg(long)]
    write_report: bool,
}

pub(crate) async fn chaos(arguments: Arguments) -> anyhow::Result<()> {
    let Arguments {
        seed,
        seconds,
        release,
        write_report,
    } = arguments;
    let seed = seed.unwrap_or_else(|| rand::random_range(1..1_000_000));
    let provenance = Provenance::current().await?;
    let targets: &[&str] = if release { &RELEASE } else { &DEBUG };
    let binaries = build(targets).await?.binaries;
    let directory = workspace::dev().join("chaos").join(seed.to_string());
    let hint = format!(
        "logs: {}; to repeat: cargo dev chaos --seed {seed} --seconds {seconds}{}",
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
    if write_report {
        SECTION.write(&summary(&report, &provenance, release))?;
        println!("Updated {}", SECTION.document);
    }
    Ok(())
}

/// The section of the document: parameters, build and totals of a run.
fn summary(report: &Report, provenance: &Provenance, release: bool) -> String {
    let Provenance { date, build, cores } = provenance;
    let held = report
        .checks
        .iter()
        .filter(|check| check.violations.is_empty());
    let injected: u64 = report.hits.values().map(|hits| hits.injected).sum();
    let hit: u64 = report.hits.values().map(|hits| hits.hit).sum();
    let rows = [
        ("seed", report.options.seed.to_string()),
        (
            "duration of fault injection, s",
            grouped(report.options.length.as_secs()),
        ),
        ("kinds of faults", report.hits.len().to_string()),
        ("faults injected", grouped(injected)),
        ("processes, connections and requests hit", grouped(hit)),
        ("requests sent", grouped(report.requests_sent)),
        ("jobs", grouped(report.jobs.values().sum())),
        ("expired leases", grouped(report.rescues)),
        (
            "time until all jobs were final, s",
            grouped(report.drain_time.as_secs()),
        ),
        (
            "promises held",
            format!("{} of {}", held.count(), report.checks.len()),
        ),
    ];
    let rows = rows.map(|(name, value)| format!("| {name} | {value} |"));
    let profile = if release { "release" } else { "debug" };
    format!(
        "Last report: {date}, {profile} build `{build}`, {cores} cores.\n\n\
         | figure | value |\n| --- | ---: |\n{}",
        rows.join("\n")
    )
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fs, path::PathBuf};

    use dezky_sim::chaos::{Check, FaultKind, Injections};

    use super::*;

    fn check(violations: &[&str]) -> Check {
        Check {
            promise: "a final job never changes",
            checked: 7,
            violations: violations.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn the_summary_names_seed_duration_build_and_totals() {
        let injections = |injected, hit| Injections { injected, hit };
        let report = Report {
            options: Options {
                seed: 22,
                length: Duration::from_mins(10),
                binaries: PathBuf::new(),
                directory: PathBuf::new(),
            },
            hits: BTreeMap::from([
                (FaultKind::ApiKilled, injections(30, 29)),
                (FaultKind::RedisCut, injections(17, 4_000)),
            ]),
            requests: BTreeMap::new(),
            requests_sent: 6_166,
            jobs: BTreeMap::from([("completed", 9_000), ("cancelled", 392)]),
            rescues: 790,
            drain_time: Duration::from_millis(410_400),
            unconverged: 3,
            checks: vec![check(&[]), check(&["job 1"])],
        };
        let provenance = Provenance {
            date: "2026-11-22".to_owned(),
            build: "e4a52aa".to_owned(),
            cores: 2,
        };

        let summary = summary(&report, &provenance, true);

        assert_eq!(
            summary,
            "Last report: 2026-11-22, release build `e4a52aa`, 2 cores.\n\n\
             | figure | value |\n\
             | --- | ---: |\n\
             | seed | 22 |\n\
             | duration of fault injection, s | 600 |\n\
             | kinds of faults | 2 |\n\
             | faults injected | 47 |\n\
             | processes, connections and requests hit | 4,029 |\n\
             | requests sent | 6,166 |\n\
             | jobs | 9,392 |\n\
             | expired leases | 790 |\n\
             | time until all jobs were final, s | 410 |\n\
             | promises held | 1 of 2 |"
        );
    }

    #[test]
    fn the_document_has_the_section() {
        let document = workspace::root().join(SECTION.document);

        let text = fs::read_to_string(document).unwrap();

        assert!(text.contains(SECTION.begin) && text.contains(SECTION.end));
    }
}
