//! Worker configuration from environment variables.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use anyhow::ensure;
use dezky_shared::{
    invoice::InvoicingConfig,
    platform::{
        config::{listen_address, number, optional, seconds},
        redis::RedisConfig,
        tls::TrustRoots,
    },
    queue::{job::Queue, schedule_registry, secret_box::EncryptionKeys},
    store::MongoConfig,
    upstream::Upstream,
};
use dezky_upstreams::{circuit_breaker::RateBudget, clients::stripe::StripeConfig};

use crate::{
    context::{AUDIT_KEEP, ClientsConfig},
    engine::{EngineConfig, EngineTimings},
    host::hostname,
};

/// Length of a day in seconds.
const DAY: u64 = 24 * 60 * 60;
/// Maximum length of a worker's name in bytes: every lease contains it.
const MAX_NAME: usize = 200;

/// The worker's configuration.
#[derive(Debug)]
pub struct Config {
    /// Listen address of the health and metrics endpoints.
    pub metrics_listen: SocketAddr,
    /// MongoDB connection.
    pub mongodb: MongoConfig,
    /// Redis connection.
    pub redis: RedisConfig,
    /// Upstream clients.
    pub clients: ClientsConfig,
    /// Additional CA certificates.
    pub trust_roots: TrustRoots,
    /// Encryption keys of job secrets.
    pub encryption_keys: EncryptionKeys,
    /// Retention of audit events.
    pub audit_keep: Duration,
    /// Configuration of invoices.
    pub invoicing: InvoicingConfig,
    /// Engine configuration.
    pub engine: EngineConfig,
}

impl Config {
    /// Reads the configuration. The error names the missing or invalid variable.
    pub fn from_env() -> anyhow::Result<Self> {
        let clients = ClientsConfig::from_env()?;
        Ok(Self {
            metrics_listen: listen_address("WORKER_METRICS_LISTEN", ([127, 0, 0, 1], 9465).into())?,
            mongodb: MongoConfig::from_env()?,
            redis: RedisConfig::from_env()?,
            engine: engine_from_env(&clients)?,
            clients,
            trust_roots: TrustRoots::from_env()?,
            encryption_keys: EncryptionKeys::from_env()?,
            audit_keep: audit_keep_from_env()?,
            invoicing: InvoicingConfig::from_env()?,
        })
    }
}

fn audit_keep_from_env() -> anyhow::Result<Duration> {
    let default = AUDIT_KEEP.as_secs() / DAY;
    let days = number("AUDIT_KEEP_DAYS", default, 1..=36_500)?;
    Ok(Duration::from_secs(days * DAY))
}

fn engine_from_env(clients: &ClientsConfig) -> anyhow::Result<EngineConfig> {
    let slots = [
        (Queue::Provisioning, "WORKER_SLOTS_PROVISIONING", 16),
        (Queue::Dns, "WORKER_SLOTS_DNS", 32),
        (Queue::Billing, "WORKER_SLOTS_BILLING", 8),
        (Queue::Webhooks, "WORKER_SLOTS_WEBHOOKS", 8),
        (Queue::Maintenance, "WORKER_SLOTS_MAINTENANCE", 2),
    ];
    let mut by_queue = BTreeMap::new();
    for (queue, name, default) in slots {
        by_queue.insert(queue, number(name, default, 1..=1_000)?);
    }
    let default = EngineTimings::default();
    let lease = seconds("WORKER_LEASE_SECONDS", default.lease, 0.5..=3_600.0)?;
    Ok(EngineConfig {
        budgets: budgets_from_env(clients)?,
        worker: name_from_env()?,
        slots: by_queue,
        times: EngineTimings {
            drain: seconds("WORKER_DRAIN_SECONDS", default.drain, 0.0..=3_600.0)?,
            ..EngineTimings::with_lease(lease)
        },
        schedules: schedule_registry::all()?,
    })
}

fn budgets_from_env(clients: &ClientsConfig) -> anyhow::Result<BTreeMap<Upstream, RateBudget>> {
    let variables = [
        (
            Upstream::Authentik,
            "AUTHENTIK_STEPS_PER_SECOND",
            "AUTHENTIK_STEPS_BURST",
        ),
        (
            Upstream::Stalwart,
            "STALWART_STEPS_PER_SECOND",
            "STALWART_STEPS_BURST",
        ),
        (Upstream::Ocis, "OCIS_STEPS_PER_SECOND", "OCIS_STEPS_BURST"),
        (
            Upstream::Stripe,
            "STRIPE_STEPS_PER_SECOND",
            "STRIPE_STEPS_BURST",
        ),
    ];
    let mut budgets = BTreeMap::new();
    for (upstream, rate, burst) in variables {
        let default = match (upstream, &clients.ocis) {
            (Upstream::Ocis, Some(ocis)) => ocis.default_budget(),
            (Upstream::Stripe, _) => StripeConfig::DEFAULT_BUDGET,
            _ => RateBudget::default(),
        };
        let budget = RateBudget {
            per_second: number(rate, default.per_second, 0.01..=100_000.0)?,
            burst: number(burst, default.burst, 1..=1_000_000)?,
        };
        budgets.insert(upstream, budget);
    }
    Ok(budgets)
}

fn name_from_env() -> anyhow::Result<String> {
    let name = optional("WORKER_NAME")?.unwrap_or_else(default_name);
    ensure!(
        name.len() <= MAX_NAME,
        "WORKER_NAME is not valid: expected at most {MAX_NAME} bytes"
    );
    Ok(name)
}

/// Host name and process id, to find the logs of a worker. Need not be unique.
fn default_name() -> String {
    format!("{}:{}", hostname(), std::process::id())
}
