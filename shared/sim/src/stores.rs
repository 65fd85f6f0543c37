//! The real MongoDB and Redis, run for development and for tests.

mod mongodb;
mod redis;
mod replica_set;

pub use self::{mongodb::Mongo, redis::Redis, replica_set::ReplicaSet};

use std::time::Duration;

use crate::process::Process;

/// How long a store may take to answer after its start.
const START: Duration = Duration::from_mins(1);
/// How long a store may take to stop before it is killed.
const STOP: Duration = Duration::from_secs(20);
/// How long between two looks at a store that is starting.
const LOOK: Duration = Duration::from_millis(20);

/// Looks again and again until `ready` is true, as long as the process runs.
async fn until_ready(process: &mut Process, ready: impl AsyncFn() -> bool) -> anyhow::Result<()> {
    let wait = async {
        while !ready().await {
            process.expect_running()?;
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    };
    match tokio::time::timeout(START, wait).await {
        Ok(outcome) => outcome,
        Err(_) => anyhow::bail!("{} did not answer within {START:?}", process.name()),
    }
}
