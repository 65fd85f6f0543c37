//! `cargo dev dns`: plays the customer who puts records into the DNS, and who breaks them.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::Subcommand;
use dezky_shared::{
    domain::check::{CheckKind, Record},
    platform::tls::TrustRoots,
};
use dezky_sim::callers::Caller;
use reqwest::{RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

use crate::{instance, token};

/// How long a domain may take to be proven, and to be made upstream after that: the first look is after a minute.
const PATIENCE: Duration = Duration::from_mins(3);
/// How long between two looks at it.
const LOOK: Duration = Duration::from_secs(1);

#[derive(Debug, Subcommand)]
pub(crate) enum Dns {
    /// Publishes what the API shows for a domain: first what proves it, then what mail needs.
    Publish {
        #[command(flatten)]
        domain: Named,
    },
    /// Takes away the records of one check.
    Break {
        #[command(flatten)]
        domain: Named,
        /// Of `ownership`, `mx`, `spf`, `dkim`, `dmarc`, `mta_sts`, `tls_rpt`, `autoconfig` and `autodiscover`.
        #[arg(value_parser = check)]
        check: CheckKind,
    },
    /// Takes away all records of a domain.
    Unpublish {
        #[command(flatten)]
        domain: Named,
    },
}

/// A domain of a tenant.
#[derive(Debug, clap::Args)]
pub(crate) struct Named {
    /// Its name.
    domain: String,
    /// The slug of its tenant, where several claim it.
    #[arg(long)]
    tenant: Option<String>,
}

fn check(name: &str) -> Result<CheckKind, String> {
    serde_json::from_value(Value::from(name)).map_err(|_| "there is no such check".to_owned())
}

pub(crate) async fn dns(command: Dns) -> anyhow::Result<()> {
    let world = World::open().await?;
    match command {
        Dns::Publish { domain } => publish(&world, &domain).await,
        Dns::Break { domain, check } => {
            let records = world.find(&domain).await?.1.all();
            let of_check = records.into_iter().filter(|it| it.check == Some(check));
            let records: Vec<Record> = of_check.collect();
            ensure!(
                !records.is_empty(),
                "{} has no records for that",
                domain.domain
            );
            world.unpublish(&records).await
        }
        Dns::Unpublish { domain } => {
            let (_, shown) = world.find(&domain).await?;
            world.unpublish(&shown.all()).await
        }
    }
}

async fn publish(world: &World, domain: &Named) -> anyhow::Result<()> {
    let (tenant, mut shown) = world.find(domain).await?;
    let until = Instant::now() + PATIENCE;
    world
        .publish(std::slice::from_ref(&shown.ownership))
        .await?;
    if shown.records.is_empty() {
        println!("  waiting until it is proven, which shows the records for mail");
    }
    while shown.records.is_empty() {
        ensure!(
            Instant::now() < until,
            "no records for mail are shown after {PATIENCE:?}: {tenant} may not own it yet"
        );
        tokio::time::sleep(LOOK).await;
        let now = world.domain(&tenant, &domain.domain).await?;
        shown = now.context("the domain is gone")?;
    }
    world.publish(&shown.records).await
}

/// What the API shows.
#[derive(Debug, Deserialize)]
struct Shown {
    ownership: Record,
    records: Vec<Record>,
}

impl Shown {
    fn all(self) -> Vec<Record> {
        let ownership = Record {
            check: Some(CheckKind::Ownership),
            ..self.ownership
        };
        std::iter::once(ownership).chain(self.records).collect()
    }
}

/// What `cargo dev up` runs.
struct World {
    client: reqwest::Client,
    api: String,
    control: String,
    operator: String,
}

impl World {
    async fn open() -> anyhow::Result<Self> {
        let running = instance::running()?.context("`cargo dev up` is not running")?;
        let (api, control) = running
            .api
            .zip(running.control)
            .context("`cargo dev up` is still starting")?;
        Ok(Self {
            client: TrustRoots::default().client_builder().build()?,
            operator: token::mint(&control, Caller::Operator, 1).await?,
            api,
            control,
        })
    }

    /// The tenant that has the domain, and what is shown of it.
    async fn find(&self, Named { domain, tenant }: &Named) -> anyhow::Result<(String, Shown)> {
        let tenants = match tenant {
            Some(tenant) => vec![tenant.clone()],
            None => self.tenants().await?,
        };
        let mut found = Vec::new();
        for tenant in tenants {
            if let Some(shown) = self.domain(&tenant, domain).await? {
                found.push((tenant, shown));
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

    async fn domain(&self, tenant: &str, domain: &str) -> anyhow::Result<Option<Shown>> {
        let url = format!("{}/tenants/{tenant}/domains/{domain}", self.api);
        let response = send(self.client.get(url).bearer_auth(&self.operator)).await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        Ok(Some(response.error_for_status()?.json().await?))
    }

    async fn publish(&self, records: &[Record]) -> anyhow::Result<()> {
        // Services for programs (SRV) are shown too, and nothing here looks at them.
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
    request.send().await.context("no answer")
}
