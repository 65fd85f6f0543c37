//! Worker processes, each pinned to one core.

use std::{path::PathBuf, process::Stdio, thread};

use dezky_sim::process::{Process, Program};
use mongodb::bson::{Document, doc};
use tokio::process::Command;

use crate::world::{World, until};

/// Command of util-linux that sets the cores of a process.
const TASKSET: &str = "taskset";

/// The running workers, the first of which leads.
pub(super) struct Workers<'a> {
    world: &'a World,
    cores: usize,
    /// Number of workers started so far, for their names.
    started: usize,
    running: Vec<Process>,
}

impl<'a> Workers<'a> {
    pub(super) fn new(world: &'a World) -> Self {
        let cores = thread::available_parallelism().expect("the number of cores is known");
        Self {
            world,
            cores: cores.get(),
            started: 0,
            running: Vec::new(),
        }
    }

    /// Number of cores of the machine.
    pub(super) fn cores(&self) -> usize {
        self.cores
    }

    pub(super) fn running(&self) -> &[Process] {
        &self.running
    }

    /// Starts workers until there are `count`, and waits until all are registered.
    pub(super) async fn grow(&mut self, count: usize) {
        while self.running.len() < count {
            let process = Process::start(self.next_program());
            self.running.push(process.expect("the worker starts"));
        }
        let names: Vec<&str> = self.running.iter().map(Process::name).collect();
        let registered = doc! { "name": { "$in": names } };
        let workers = self.world.database.collection::<Document>("workers");
        until("all workers are registered", async || {
            let found = workers.count_documents(registered.clone()).await;
            found.expect("MongoDB responds") >= count as u64
        })
        .await;
    }

    /// Kills all but the first.
    pub(super) fn keep_first(&mut self) {
        self.running.truncate(1);
    }

    /// The program of the next worker, on the next core.
    fn next_program(&mut self) -> Program {
        let name = format!("worker-{}", self.started);
        let core = (self.started % self.cores).to_string();
        self.started += 1;
        let program = &self.world.worker_program;
        let path = program.path.to_str().expect("the path is text").to_owned();
        let mut environment = program.environment.clone();
        environment.push(("WORKER_NAME", name.clone()));
        Program {
            path: PathBuf::from(TASKSET),
            arguments: vec!["--cpu-list".to_owned(), core, path],
            environment,
            log: program.log.with_file_name(format!("{name}.log")),
            name,
        }
    }
}

/// Pins a running process to a core.
pub(super) async fn pin(process: &Process, core: usize) {
    let id = process.id().expect("the process runs");
    let pinned = Command::new(TASKSET)
        .args(["--all-tasks", "--cpu-list", "--pid"])
        .args([core.to_string(), id.to_string()])
        .stdout(Stdio::null())
        .status()
        .await;
    assert!(
        pinned.expect("util-linux is installed").success(),
        "the process cannot be pinned to a core"
    );
}
