//! `cargo dev test`: all tests, with a real MongoDB and Redis for the duration of the run.

use std::{fs, process::Stdio};

use anyhow::{Context as _, bail};
use dezky_sim::{
    isolated_stores,
    stores::{Mongo, Redis},
    workspace,
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
};

use crate::{
    build::{TESTS, build},
    scratch, steps,
    steps::cargo,
    tool::NEXTEST,
};

/// Number of passed and failed tests.
#[derive(Debug, Default, PartialEq, Eq)]
struct Count {
    passed: u64,
    failed: u64,
}

pub(crate) async fn test(arguments: &[String]) -> anyhow::Result<()> {
    NEXTEST.ensure().await?;
    // Tests of the whole run these as processes.
    let binaries = build(&TESTS).await?.binaries;
    println!("Starting MongoDB and Redis");
    let directory = scratch::directory()?;
    let mongo = Mongo::start(&directory.path().join("mongodb")).await?;
    let redis = Redis::start(&directory.path().join("redis")).await?;

    let with_stores = |mut command: Command| {
        command
            .env(isolated_stores::MONGODB_URI, &mongo.uri)
            .env(isolated_stores::REDIS_URL, &redis.url)
            .env(isolated_stores::BINARIES, &binaries)
            .env(
                isolated_stores::ISSUER_KEYS,
                directory.path().join("issuer-keys"),
            )
            // Stores that tests start themselves are placed there too.
            .env("TMPDIR", directory.path())
            // A snapshot that does not fit is a failure, not a new file.
            .env("INSTA_UPDATE", "no");
        command
    };
    let mut count = Count::default();
    // nextest does not run documentation tests. With arguments they are skipped.
    if arguments.is_empty() {
        count += doctests(with_stores(cargo(&["test", "--workspace", "--doc"]))).await?;
    }
    let mut nextest = with_stores(cargo(&["nextest", "run", "--workspace"]));
    nextest.args(arguments);
    count += tests(nextest).await?;

    println!("{} passed, {} failed", count.passed, count.failed);
    if count.failed > 0 {
        bail!("some tests failed");
    }
    Ok(())
}

impl std::ops::AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

async fn tests(mut nextest: Command) -> anyhow::Result<Count> {
    // The path in `.config/nextest.toml`.
    let report = workspace::dev().join("nextest/default/junit.xml");
    // A report of an earlier run must not be read.
    if report.exists() {
        fs::remove_file(&report)?;
    }
    println!("$ {}", steps::line(&nextest));
    let status = steps::status(&mut nextest).await?;
    let count = fs::read_to_string(&report)
        .ok()
        .as_deref()
        .and_then(parse_report);
    match count {
        Some(count) if status.success() || count.failed > 0 => Ok(count),
        _ => bail!("`{}` failed ({status})", steps::line(&nextest)),
    }
}

/// Counts in the attributes of a JUnit report's root element.
fn parse_report(report: &str) -> Option<Count> {
    let suites = report.split("<testsuites ").nth(1)?.split('>').next()?;
    let number = |name: &str| -> Option<u64> {
        let value = suites.split(&format!("{name}=\"")).nth(1)?;
        value.split('"').next()?.parse().ok()
    };
    let failed = number("failures")? + number("errors")?;
    Some(Count {
        passed: number("tests")?.checked_sub(failed)?,
        failed,
    })
}

async fn doctests(mut command: Command) -> anyhow::Result<Count> {
    println!("$ {}", steps::line(&command));
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let output = child.stdout.take().context("its output is piped")?;
    let mut lines = BufReader::new(output).lines();
    let mut count = Count::default();
    while let Some(line) = lines.next_line().await? {
        println!("{line}");
        if let Some(counts) = parse_summary(&line) {
            count += counts;
        }
    }
    let status = child.wait().await?;
    if !status.success() && count.failed == 0 {
        bail!("`{}` failed ({status})", steps::line(&command));
    }
    Ok(count)
}

/// Counts in a line such as `test result: ok. 3 passed; 0 failed; …`.
fn parse_summary(line: &str) -> Option<Count> {
    let words: Vec<&str> = line.strip_prefix("test result: ")?.split(' ').collect();
    let before = |word: &str| -> Option<u64> {
        let at = words.iter().position(|other| *other == word)?;
        words.get(at.checked_sub(1)?)?.parse().ok()
    };
    Some(Count {
        passed: before("passed;")?,
        failed: before("failed;")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_parsed_from_a_report() {
        let report = r#"<?xml version="1.0"?>
<testsuites name="nextest-run" tests="22" failures="1" errors="1" uuid="x"><testsuite name="a" tests="9">"#;

        let count = parse_report(report);

        assert_eq!(
            count,
            Some(Count {
                passed: 20,
                failed: 2
            })
        );
    }

    #[test]
    fn counts_are_parsed_from_the_output_of_documentation_tests() {
        let line = "test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out";

        assert_eq!(
            parse_summary(line),
            Some(Count {
                passed: 3,
                failed: 1
            })
        );
        assert_eq!(parse_summary("test stores ... ok"), None);
    }
}
