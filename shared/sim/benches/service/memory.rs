//! Memory and CPU time of the processes, from `/proc`.

use std::{fs, time::Duration};

use dezky_sim::{bench_output::report, process::Process};
use mongodb::bson::{Document, doc};

use crate::world::World;

/// Clock ticks per second (`USER_HZ`), which is 100 on every architecture.
const TICKS: f64 = 100.0;

/// Delay before the measurement, so that the allocator can return freed memory.
const REST: Duration = Duration::from_secs(5);

pub(crate) async fn report_usage(world: &World) {
    tokio::time::sleep(REST).await;
    report("memory after the run: api", megabytes(&world.api), "MB");
    report(
        "memory after the run: worker",
        megabytes(&world.worker),
        "MB",
    );
}

/// Resident memory, in units of 10^6 bytes.
pub(crate) fn megabytes(process: &Process) -> f64 {
    status(process, "VmRSS:")
}

/// Peak resident memory.
pub(crate) fn peak_megabytes(process: &Process) -> f64 {
    status(process, "VmHWM:")
}

fn status(process: &Process, name: &str) -> f64 {
    let status = read(process, "status");
    let line = status.lines().find(|line| line.starts_with(name));
    let kilobytes = line.and_then(|line| line.split_whitespace().nth(1));
    let kilobytes: f64 = kilobytes.and_then(|text| text.parse().ok()).unwrap_or(0.0);
    kilobytes * 1_024.0 / 1_000_000.0
}

/// CPU time used so far.
pub(crate) fn cpu_seconds(process: &Process) -> f64 {
    let stat = read(process, "stat");
    // The second field is the name in brackets, which may contain spaces.
    let fields = stat.rsplit(") ").next().unwrap_or_default();
    let ticks = fields.split(' ').skip(11).take(2);
    ticks
        .filter_map(|text| text.parse::<f64>().ok())
        .sum::<f64>()
        / TICKS
}

/// CPU time that MongoDB has used so far.
pub(crate) async fn mongodb_cpu_seconds(world: &World) -> f64 {
    let status = world.database.run_command(doc! { "serverStatus": 1 }).await;
    mongodb_cpu_seconds_of(&status.expect("MongoDB responds"))
}

/// CPU time in a server status of MongoDB.
pub(crate) fn mongodb_cpu_seconds_of(status: &Document) -> f64 {
    let usage = status.get_document("extra_info").expect("it has the usage");
    let seconds = |name: &str| micros(usage, name) / 1_000_000.0;
    seconds("user_time_us") + seconds("system_time_us")
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn micros(usage: &Document, name: &str) -> f64 {
    usage.get_i64(name).unwrap_or_default() as f64
}

fn read(process: &Process, file: &str) -> String {
    let id = process.id().expect("the process runs");
    fs::read_to_string(format!("/proc/{id}/{file}")).expect("the process runs")
}
