//! The system under test: several processes of each kind, stores of their own, and the simulated upstreams.

use std::{net::SocketAddr, path::Path, time::Duration};

use anyhow::{Context as _, bail};
use dezky_shared::{platform::tls::TrustRoots, upstream::Upstream};
use dezky_upstreams::clients::simulated;
use tokio::time::Instant;

use super::{DATABASE, timings::LEASE, watcher::Watcher};
use crate::{
    authentik::AuthentikSim,
    callers::Caller,
    dns::DnsSim,
    faults::Faults,
    issuer::{Issuer, OPERATOR, PORTAL},
    ocis::OcisSim,
    ports::Port,
    process::{Process, Program},
    proxy::Proxy,
    stalwart::StalwartSim,
    stores::{Redis, ReplicaSet},
    stripe::StripeSim,
};

/// Number of api processes, and of worker processes.
pub(super) const REPLICAS: usize = 2;
/// Binary of the workers.
const WORKER: &str = "dezky-worker";
/// Timeout of a call of Authentik, Stalwart or Stripe, in seconds. A late effect happens after it, and before the next
/// look-up by a worker half a lease later.
const CALL_TIMEOUT_SECONDS: &str = "0.5";
/// Timeout of a call of oCIS: long enough for a write to begin late in a lease.
pub(super) const OCIS_TIMEOUT: Duration = Duration::from_secs(1);
/// Latency of Authentik: members are suspended by many calls, which take time.
const AUTHENTIK_LATENCY: Duration = Duration::from_millis(5);
/// Rate budget per upstream, in steps per second: never exhausted.
const STEPS_PER_SECOND: &str = "1000";
/// Rate limit of the api, in requests per second: never exceeded.
const REQUESTS_PER_SECOND: &str = "100000";
/// Key that encrypts the secrets that jobs carry.
const ENCRYPTION_KEY: &str = "chaos:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
/// Retention of a deleted tenant, and of a removed member.
const PURGE_AFTER: &str = "6s";
/// Time limit for the start.
const READY_TIMEOUT: Duration = Duration::from_mins(1);
/// Time limit for stopping a process.
pub(super) const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// All processes and servers of a run.
#[derive(Debug)]
pub(super) struct Stack {
    pub(super) services: Services,
    pub(super) stores: Stores,
    pub(super) upstreams: Upstreams,
    /// Started before the first job.
    pub(super) watcher: Watcher,
}

/// The api and worker processes.
#[derive(Debug)]
pub(super) struct Services {
    pub(super) apis: Vec<Process>,
    pub(super) workers: Vec<Process>,
    /// Base URLs of the api processes.
    pub(super) urls: Vec<String>,
    /// Errors of processes that exited without being killed.
    pub(super) unexpected_exits: Vec<String>,
    ports: Vec<Port>,
}

/// MongoDB and Redis, with the proxies in front of them.
#[derive(Debug)]
pub(super) struct Stores {
    pub(super) mongo: ReplicaSet,
    pub(super) redis: Redis,
    pub(super) redis_proxy: Proxy,
}

/// Simulated upstreams.
#[derive(Debug)]
pub(super) struct Upstreams {
    pub(super) issuer: Issuer,
    pub(super) authentik: AuthentikSim,
    pub(super) stalwart: StalwartSim,
    pub(super) ocis: OcisSim,
    pub(super) stripe: StripeSim,
    dns: DnsSim,
}

/// Name of a worker process, also towards MongoDB.
pub(super) fn worker_name(number: usize) -> String {
    format!("{WORKER}-{number}")
}

impl Stack {
    /// Starts everything with data and logs in `directory`, and waits until it is ready.
    pub(super) async fn start(binaries: &Path, directory: &Path) -> anyhow::Result<Self> {
        let upstreams = Upstreams::start().await?;
        let stores = Stores::start(directory).await?;
        let watcher = Watcher::start(&stores.mongo).await?;
        let mut services = Services::start(binaries, directory, &stores, &upstreams)?;
        services.until_ready().await?;
        Ok(Self {
            services,
            stores,
            upstreams,
            watcher,
        })
    }

    /// Stops everything.
    pub(super) async fn stop(mut self) {
        let services = self.services.apis.iter_mut();
        let services = services.chain(&mut self.services.workers);
        futures::future::join_all(services.map(|service| service.stop(STOP_TIMEOUT))).await;
        self.stores.redis.stop().await;
        self.stores.mongo.stop().await;
    }
}

impl Stores {
    async fn start(directory: &Path) -> anyhow::Result<Self> {
        let redis = Redis::start_on(
            Port::free()?,
            &directory.join("redis"),
            &directory.join("redis.log"),
        )
        .await?;
        let address = redis.url.trim_start_matches("redis://");
        Ok(Self {
            mongo: ReplicaSet::start(directory).await?,
            redis_proxy: Proxy::to(address.trim_end_matches('/')).await?,
            redis,
        })
    }

    /// Variables of a process with this name, which MongoDB's clients say at the beginning of each connection.
    fn environment(&self, process: &str) -> Vec<(&'static str, String)> {
        vec![
            (
                "MONGODB_URI",
                format!("{}&appName={process}", self.mongo.uri),
            ),
            ("MONGODB_DATABASE", DATABASE.to_owned()),
            (
                "REDIS_URL",
                format!("redis://{}/", self.redis_proxy.address),
            ),
            ("SEALING_KEYS", ENCRYPTION_KEY.to_owned()),
            ("LOG_FORMAT", "pretty".to_owned()),
            ("NO_COLOR", "1".to_owned()),
        ]
    }
}

impl Upstreams {
    async fn start() -> anyhow::Result<Self> {
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        let upstreams = Self {
            issuer: Issuer::start(any_port).await?,
            authentik: AuthentikSim::start(any_port).await?,
            stalwart: StalwartSim::start(any_port).await?,
            ocis: OcisSim::start(any_port).await?,
            stripe: StripeSim::start(any_port).await?,
            dns: DnsSim::start(any_port).await?,
        };
        upstreams.stalwart.instant_dkim(true);
        let faults = &upstreams.authentik.server.faults;
        faults.set_latency(AUTHENTIK_LATENCY);
        Ok(upstreams)
    }

    /// Token of an operator.
    pub(super) fn operator(&self) -> anyhow::Result<String> {
        self.issuer.token(&Caller::Operator.token())
    }

    /// Fault rules of an upstream.
    pub(super) fn faults(&self, upstream: Upstream) -> &Faults {
        match upstream {
            Upstream::Authentik => &self.authentik.server.faults,
            Upstream::Stalwart => &self.stalwart.server.faults,
            Upstream::Ocis => &self.ocis.server.faults,
            Upstream::Stripe => &self.stripe.server.faults,
        }
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AUTHENTIK_API_URL", self.authentik.api_url()),
            ("AUTHENTIK_API_TOKEN", AuthentikSim::TOKEN.to_owned()),
            ("AUTHENTIK_TIMEOUT_SECONDS", CALL_TIMEOUT_SECONDS.to_owned()),
            ("STALWART_API_URL", self.stalwart.server.url.clone()),
            ("STALWART_API_TOKEN", StalwartSim::TOKEN.to_owned()),
            ("STALWART_TIMEOUT_SECONDS", CALL_TIMEOUT_SECONDS.to_owned()),
            ("OCIS_API_URL", self.ocis.server.url.clone()),
            ("OCIS_API_USER", OcisSim::USER.to_owned()),
            ("OCIS_API_PASSWORD", OcisSim::PASSWORD.to_owned()),
            (
                "OCIS_TIMEOUT_SECONDS",
                OCIS_TIMEOUT.as_secs_f64().to_string(),
            ),
            ("AUTHENTIK_STEPS_PER_SECOND", STEPS_PER_SECOND.to_owned()),
            ("STALWART_STEPS_PER_SECOND", STEPS_PER_SECOND.to_owned()),
            ("OCIS_STEPS_PER_SECOND", STEPS_PER_SECOND.to_owned()),
            ("BILLING_STRIPE_ENABLED", "true".to_owned()),
            ("STRIPE_API_URL", self.stripe.server.url.clone()),
            ("STRIPE_SECRET_KEY", simulated::STRIPE_SECRET_KEY.to_owned()),
            ("STRIPE_TIMEOUT_SECONDS", CALL_TIMEOUT_SECONDS.to_owned()),
            ("STRIPE_STEPS_PER_SECOND", STEPS_PER_SECOND.to_owned()),
            ("DNS_RESOLVERS", self.dns.address.to_string()),
        ]
    }
}

impl Services {
    fn start(
        binaries: &Path,
        directory: &Path,
        stores: &Stores,
        upstreams: &Upstreams,
    ) -> anyhow::Result<Self> {
        let start = |binary: &str, number: usize, environment: Vec<(&'static str, String)>| {
            let name = format!("{binary}-{number}");
            let mut all = stores.environment(&name);
            all.extend(environment);
            Process::start(Program {
                path: binaries.join(binary),
                arguments: Vec::new(),
                environment: all,
                log: directory.join(&name).with_extension("log"),
                name,
            })
        };
        let issuer = &upstreams.issuer;
        let issuers = format!("{},{}", issuer.url(PORTAL), issuer.url(OPERATOR));
        let mut services = Self {
            apis: Vec::new(),
            workers: Vec::new(),
            urls: Vec::new(),
            unexpected_exits: Vec::new(),
            ports: Vec::new(),
        };
        for number in 0..REPLICAS {
            let (port, metrics) = (Port::free()?, Port::free()?);
            let address = format!("127.0.0.1:{}", port.number);
            let environment = vec![
                ("API_LISTEN", address.clone()),
                (
                    "API_METRICS_LISTEN",
                    format!("127.0.0.1:{}", metrics.number),
                ),
                ("AUTHENTIK_ISSUERS", issuers.clone()),
                ("TENANT_PURGE_AFTER", PURGE_AFTER.to_owned()),
                ("MEMBER_PURGE_AFTER", PURGE_AFTER.to_owned()),
                ("DOMAINS_ALLOW_SPECIAL_USE", "true".to_owned()),
                // All customers share one caller and one address.
                ("API_RATE_PER_CALLER", REQUESTS_PER_SECOND.to_owned()),
                ("API_RATE_PER_ADDRESS", REQUESTS_PER_SECOND.to_owned()),
                ("API_CREDENTIAL_CHANGES_PER_CALLER", "0".to_owned()),
                (
                    "STRIPE_PUBLISHABLE_KEY",
                    simulated::STRIPE_PUBLISHABLE_KEY.to_owned(),
                ),
                (
                    "STRIPE_WEBHOOK_SECRETS",
                    simulated::STRIPE_WEBHOOK_SECRET.to_owned(),
                ),
                ("STRIPE_WEBHOOKS_PER_SECOND", REQUESTS_PER_SECOND.to_owned()),
            ];
            services.apis.push(start("dezky-api", number, environment)?);
            services.urls.push(format!("http://{address}"));
            services.ports.extend([port, metrics]);

            let mut environment = upstreams.environment();
            environment.extend([
                ("WORKER_NAME", worker_name(number)),
                ("WORKER_METRICS_LISTEN", "127.0.0.1:0".to_owned()),
                ("WORKER_LEASE_SECONDS", LEASE.as_secs_f64().to_string()),
            ]);
            services.workers.push(start(WORKER, number, environment)?);
        }
        Ok(services)
    }

    async fn until_ready(&mut self) -> anyhow::Result<()> {
        let client = TrustRoots::default().client_builder().build()?;
        let deadline = Instant::now() + READY_TIMEOUT;
        for (api, url) in self.apis.iter_mut().zip(&self.urls) {
            let url = format!("{url}/readyz");
            while !client
                .get(&url)
                .send()
                .await
                .is_ok_and(|reply| reply.status().is_success())
            {
                api.expect_running()?;
                if Instant::now() > deadline {
                    bail!("{} is not ready after {READY_TIMEOUT:?}", api.name());
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }

    /// Restarts and records processes that have exited, as a supervisor would in production.
    pub(super) async fn restart_exited(&mut self) -> anyhow::Result<()> {
        for service in self.apis.iter_mut().chain(&mut self.workers) {
            if let Err(ended) = service.expect_running() {
                self.unexpected_exits.push(format!("{ended:#}"));
                let name = service.name().to_owned();
                service.restart().await.context(name)?;
            }
        }
        Ok(())
    }
}
