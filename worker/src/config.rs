//! Worker configuration from environment variables.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use anyhow::ensure;
use dezky_shared::{
    platform::{
        config::{optional, seconds},
        redis::RedisConfig,
        tls::TrustRoots,
    },
    queue::{job::Queue, schedule_registry, secret_box::EncryptionKeys},
    store::MongoConfig,
    upstream::Upstream,
};
use dezky_upstreams::circuit_breaker::RateBudget;

use crate::{
    context::{AUDIT_KEEP, ClientsConfig},
    engine::{EngineConfig, EngineTimings},
};

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
    pub sealing_keys: EncryptionKeys,
    /// Retention of audit events.
    pub audit_keep: Duration,
    /// Engine configuration.
    pub engine: EngineConfig,
}

impl Config {
    /// Reads the configuration. The error names the missing or invalid variable.
    pub fn from_env() -> anyhow::Result<Self> {
        Ok(Self {
            metrics_listen: optional("WORKER_METRICS_LISTEN")?
                .unwrap_or(([127, 0, 0, 1], 9465).into()),
            mongodb: MongoConfig::from_env()?,
            redis: RedisConfig::from_env()?,
            clients: ClientsConfig::from_env()?,
            trust_roots: TrustRoots::from_env()?,
            sealing_keys: EncryptionKeys::from_env()?,
            audit_keep: audit_keep_from_env()?,
            engine: engine_from_env()?,
        })
    }
}

fn audit_keep_from_env() -> anyhow::Result<Duration> {
    let Some(days) = optional::<u64>("AUDIT_KEEP_DAYS")? else {
        return Ok(AUDIT_KEEP);
    };
    ensure!(
        (1..=36_500).contains(&days),
        "AUDIT_KEEP_DAYS is not valid: expected 1 to 36500"
    );
    Ok(Duration::from_hours(days * 24))
}

fn engine_from_env() -> anyhow::Result<EngineConfig> {
    let slots = [
        (Queue::Provisioning, "WORKER_SLOTS_PROVISIONING", 16),
        (Queue::Dns, "WORKER_SLOTS_DNS", 32),
        (Queue::Billing, "WORKER_SLOTS_BILLING", 8),
        (Queue::Webhooks, "WORKER_SLOTS_WEBHOOKS", 8),
        (Queue::Maintenance, "WORKER_SLOTS_MAINTENANCE", 2),
    ];
    let mut by_queue = BTreeMap::new();
    for (queue, name, default) in slots {
        let slots: usize = optional(name)?.unwrap_or(default);
        ensure!(
            (1..=1_000).contains(&slots),
            "{name} is not valid: expected 1 to 1000"
        );
        by_queue.insert(queue, slots);
    }
    let lease = seconds("WORKER_LEASE_SECONDS", EngineTimings::default().lease)?;
    ensure!(
        lease >= Duration::from_millis(500),
        "WORKER_LEASE_SECONDS is not valid: expected at least 0.5"
    );
    Ok(EngineConfig {
        budgets: budgets_from_env()?,
        worker: optional("WORKER_NAME")?.unwrap_or_else(default_name),
        slots: by_queue,
        times: EngineTimings {
            drain: seconds("WORKER_DRAIN_SECONDS", EngineTimings::default().drain)?,
            ..EngineTimings::with_lease(lease)
        },
        schedules: schedule_registry::all()?,
    })
}

fn budgets_from_env() -> anyhow::Result<BTreeMap<Upstream, RateBudget>> {
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
    ];
    let mut budgets = BTreeMap::new();
    for (upstream, rate, burst) in variables {
        let default = RateBudget::default();
        let budget = RateBudget {
            per_second: optional(rate)?.unwrap_or(default.per_second),
            burst: optional(burst)?.unwrap_or(default.burst),
        };
        ensure!(
            (0.01..=100_000.0).contains(&budget.per_second),
            "{rate} is not valid: expected 0.01 to 100000"
        );
        ensure!(
            (1..=1_000_000).contains(&budget.burst),
            "{burst} is not valid: expected 1 to 1000000"
        );
        budgets.insert(upstream, budget);
    }
    Ok(budgets)
}

/// Host name and process id, to find the logs of a worker. Need not be unique.
fn default_name() -> String {
    format!("{}:{}", hostname(), std::process::id())
}

/// Host name of this machine.
pub(crate) fn hostname() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    host.trim().to_owned()
}
