//! Direct access to the primary, bypassing the proxies, while members are killed.

use std::time::Duration;

use anyhow::Context as _;
use mongodb::{
    Client, Database,
    options::{Acknowledgment, DatabaseOptions, WriteConcern},
};
use tokio::time::{Instant, sleep};

use super::DATABASE;
use crate::stores::ReplicaSet;

/// Time limit of an operation: longer than an election and the restart of a member.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Delay before the operation is tried on the members again.
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// The members of the replica set, one of which is the primary.
#[derive(Debug, Clone)]
pub(super) struct Primary {
    members: Vec<Client>,
}

impl Primary {
    pub(super) fn of(mongo: &ReplicaSet) -> Self {
        let members = mongo.members.iter().map(|member| member.client.clone());
        Self {
            members: members.collect(),
        }
    }

    /// Runs an idempotent operation on one member after the other, until it succeeds; a write succeeds on the primary only.
    /// Writes are acknowledged by a majority, so that an election does not undo them.
    pub(super) async fn run<T>(
        &self,
        operation: impl AsyncFn(Database) -> mongodb::error::Result<T>,
    ) -> anyhow::Result<T> {
        let majority = WriteConcern::builder().w(Acknowledgment::Majority).build();
        let options = DatabaseOptions::builder().write_concern(majority).build();
        let deadline = Instant::now() + TIMEOUT;
        let mut members = self.members.iter().cycle();
        loop {
            let member = members.next().context("a replica set has members")?;
            let database = member.database_with_options(DATABASE, options.clone());
            match operation(database).await {
                Ok(result) => return Ok(result),
                Err(error) if Instant::now() > deadline => {
                    return Err(error).context("no member carries out the operation");
                }
                Err(_) => sleep(RETRY_DELAY).await,
            }
        }
    }
}
