//! A tenant whose provisioning failed: an operator finds it in the console, reads the reason there, and repairs it.

use anyhow::ensure;
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;

use super::{Demo, send, tenant::Job};
use crate::{
    callers::FAILING_TENANT,
    faults::{Fault, FaultRule},
};

/// Name of the tenant.
const NAME: &str = "Northwind Traders";
/// The rejected operation.
const OPERATION: &str = "create_space";

#[derive(Debug, Deserialize)]
struct Created {
    job: Job,
}

impl Demo {
    /// Creates the tenant while the file storage rejects its space, once: a reconcile repairs it. One that exists is kept as
    /// it is.
    pub(super) async fn ensure_failing(&self) -> anyhow::Result<()> {
        let path = format!("/tenants/{FAILING_TENANT}");
        let there = self.at(Method::GET, &path).send().await?;
        if there.status() != StatusCode::NOT_FOUND {
            return Ok(());
        }
        let rejected = Fault::Status {
            status: 400,
            retry_after: None,
        };
        let faults = format!("{}/upstreams/ocis/faults", self.control);
        let rule = FaultRule::once(OPERATION, rejected);
        send(self.client.post(faults).json(&rule)).await?;
        let new = json!({
            "slug": FAILING_TENANT, "name": NAME, "domains": [format!("{FAILING_TENANT}.test")],
        });
        let created = send(self.at(Method::POST, "/tenants").json(&new)).await?;
        let Created { job } = created.json().await?;
        let ended = self.until_ended(job).await?;
        ensure!(
            ended.is_discarded(),
            "{FAILING_TENANT} was not to become active"
        );
        self.say(&format!(
            "{FAILING_TENANT:<14} failed, for you to repair in the console"
        ));
        Ok(())
    }
}
