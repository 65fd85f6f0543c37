//! Real MongoDB and Redis servers for development and tests, and PostgreSQL for what is measured beside them.

mod mongodb;
mod postgres;
mod redis;
mod replica_set;

pub use self::{mongodb::Mongo, postgres::Postgres, redis::Redis, replica_set::ReplicaSet};

use std::time::Duration;

use crate::process::Process;

/// Time limit for the start of a store.
const START_TIMEOUT: Duration = Duration::from_mins(1);
/// Time limit for stopping a store before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);
/// Poll interval while a store starts.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Polls `ready` until it is true or the process has exited.
async fn until_ready(process: &mut Process, ready: impl AsyncFn() -> bool) -> anyhow::Result<()> {
    let wait = async {
        while !ready().await {
            process.expect_running()?;
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        Ok(())
    };
    match tokio::time::timeout(START_TIMEOUT, wait).await {
        Ok(outcome) => outcome,
        Err(_) => anyhow::bail!(
            "{} did not respond within {START_TIMEOUT:?}",
            process.name()
        ),
    }
}
