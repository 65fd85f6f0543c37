//! `cargo dev dns`: publishes and removes a domain's records in the simulated DNS, as a customer would.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::Subcommand;
use dezky_shared::{
    domain::check::{CheckKind, Record},
    platform::tls::TrustRoots,
};
use dezky_sim::callers::{Caller, mint};
use reqwest::{RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

use crate::instance;

/// Time limit for the ownership check of a domain and its provisioning. The first check runs after a minute.
const TIMEOUT: Duration = Duration::from_mins(3);
/// Interval between two requests for the domain.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug, Subcommand)]
pub(crate) enum Dns {
    /// Publish a domain's records: the ownership record first, then the records for mail.
    Publish {
        #[command(flatten)]
        domain: Named,
    },
    /// Remove the records of one check.
    Break {
        #[command(flatten)]
        domain: Named,
        /// One of `ownership`, `mx`, `spf`, `dkim`, `dmarc`, `mta_sts`, `tls_rpt`, `autoconfig`, `autodiscover`.
        #[arg(value_parser = check)]
        check: CheckKind,
    },
    /// Remove all records of a domain.
    Unpublish {
        #[command(flatten)]
        domain: Named,
    },
}

/// Domain of a tenant.
#[derive(Debug, clap::Args)]
pub(crate) struct Named {
    /// Domain name.
    domain: String,
    /// Slug of the tenant. Required if several tenants claim the domain.
    #[arg(long)]
    tenant: Option<String>,
}

fn check(name: &str) -> Result<CheckKind, String> {
    serde_json::from_value(Value::from(name)).map_err(|_| "unknown check".to_owned())
}

pub(crate) async fn dns(command: Dns) -> anyhow::Result<()> {
    let running = Running::open().await?;
    match command {
        Dns::Publish { domain } => publish(&running, &domain).await,
        Dns::Break { domain, check } => {
            let records = running.find(&domain).await?.1.all();
            let of_check = records.into_iter().filter(|it| it.check == Some(check));
            let records: Vec<Record> = of_check.collect();
            ensure!(
                !records.is_empty(),
                "{} has no records for this check",
                domain.domain
            );
            running.unpublish(&records).await
        }
        Dns::Unpublish { domain } => {
            let (_, records) = running.find(&domain).await?;
            running.unpublish(&records.all()).await
        }
    }
}

async fn publish(running: &Running, domain: &Named) -> anyhow::Result<()> {
    let (tenant, mut records) = running.find(domain).await?;
    let until = Instant::now() + TIMEOUT;
    running
        .publish(std::slice::from_ref(&records.ownership))
        .await?;
    if records.records.is_empty() {
        println!("  waiting for the ownership check, after which the records for mail are known");
    }
    while records.records.is_empty() {
        ensure!(
            Instant::now() < until,
            "no records for mail after {TIMEOUT:?}: {tenant} may not own the domain yet"
        );
        tokio::time::sleep(POLL_INTERVAL).await;
        let now = running.domain(&tenant, &domain.domain).await?;
        records = now.context("the domain was removed")?;
    }
    running.publish(&records.records).await
}

/// Records in the API's response.
#[derive(Debug, Deserialize)]
struct Records {
    ownership: Record,
    records: Vec<Record>,
}

impl Records {
    fn all(self) -> Vec<Record> {
        let ownership = Record {
            check: Some(CheckKind::Ownership),
            ..self.ownership
        };
        std::iter::once(ownership).chain(self.records).collect()
    }
}

/// Addresses of the running `cargo dev up`.
struct Running {
    client: reqwest::Client,
    api: String,
    control: String,
    operator: String,
}

impl Running {
    async fn open() -> anyhow::Result<Self> {
        let running = instance::running()?.context("`cargo dev up` is not running")?;
        let (api, control) = running
            .api
            .zip(running.control)
            .context("`cargo dev up` is still starting")?;
        Ok(Self {
            client: TrustRoots::default().client_builder().build()?,
            operator: mint(&control, Caller::Operator, 1).await?,
            api,
            control,
        })
    }

    /// The tenant that claims the domain, and the domain's records.
    async fn find(&self, Named { domain, tenant }: &Named) -> anyhow::Result<(String, Records)> {
        let tenants = match tenant {
            Some(tenant) => vec![tenant.clone()],
            None => self.tenants().await?,
        };
        let mut found = Vec::new();
        for tenant in tenants {
            if let Some(records) = self.domain(&tenant, domain).await? {
                found.push((tenant, records));
            }
        }
        match found.len() {
            0 => bail!("no tenant has the domain {domain}"),
            1 => Ok(found.remove(0)),
            _ => {
                let tenants: Vec<&str> = found.iter().map(|(tenant, _)| tenant.as_str()).collect();
                bail!("choose one with --tenant: {}", tenants.join(", "))
            }
        }
    }

    async fn tenants(&self) -> anyhow::Result<Vec<String>> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Page {
            items: Vec<Tenant>,
            next_cursor: Option<String>,
        }
        #[derive(Deserialize)]
        struct Tenant {
            slug: String,
        }
        let mut tenants = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let mut query = vec![("limit", "100")];
            query.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
            let request = self.client.get(format!("{}/tenants", self.api));
            let page = send(request.query(&query).bearer_auth(&self.operator)).await?;
            let page: Page = page.error_for_status()?.json().await?;
            tenants.extend(page.items.into_iter().map(|tenant| tenant.slug));
            cursor = page.next_cursor;
            if cursor.is_none() {
                return Ok(tenants);
            }
        }
    }

    async fn domain(&self, tenant: &str, domain: &str) -> anyhow::Result<Option<Records>> {
        let url = format!("{}/tenants/{tenant}/domains/{domain}", self.api);
        let response = send(self.client.get(url).bearer_auth(&self.operator)).await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        Ok(Some(response.error_for_status()?.json().await?))
    }

    async fn publish(&self, records: &[Record]) -> anyhow::Result<()> {
        // SRV records are part of the response, but no check reads them.
        let simulated = |record: &&Record| matches!(record.kind.as_str(), "TXT" | "MX" | "CNAME");
        let records: Vec<&Record> = records.iter().filter(simulated).collect();
        let request = self.client.post(format!("{}/dns/records", self.control));
        send(request.json(&records)).await?.error_for_status()?;
        for record in records {
            println!("  + {}", line(record));
        }
        Ok(())
    }

    async fn unpublish(&self, records: &[Record]) -> anyhow::Result<()> {
        let request = self.client.delete(format!("{}/dns/records", self.control));
        send(request.json(records)).await?.error_for_status()?;
        for record in records {
            println!("  - {}", line(record));
        }
        Ok(())
    }
}

fn line(record: &Record) -> String {
    format!("{} {} {}", record.name, record.kind, record.value)
}

async fn send(request: RequestBuilder) -> anyhow::Result<Response> {
    request.send().await.context("no response")
}
