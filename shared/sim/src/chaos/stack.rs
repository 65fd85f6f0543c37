//! Everything that runs: several processes of each kind on stores of their own, and the upstreams in this process.

use std::{net::SocketAddr, path::Path, time::Duration};

use anyhow::{Context as _, bail};
use dezky_shared::{platform::tls::TrustRoots, upstream::Upstream};
use tokio::time::Instant;

use super::watcher::Watcher;
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
};

/// How many processes there are of the api, and of the worker.
const EACH: usize = 2;
/// The workers' lease: everything that they wait for is in proportion.
pub(super) const LEASE: Duration = Duration::from_secs(3);
/// How long a call of an upstream may take, in seconds. What acts late acts after this, and before the workers look
/// again, which is half a lease later.
const CALL_SECONDS: &str = "0.5";
/// How many steps each upstream is asked to do in a second: more than there ever are.
const STEPS_PER_SECOND: &str = "1000";
/// How many requests may be sent in a second: more than there ever are.
const REQUESTS_PER_SECOND: &str = "100000";
/// How long a deleted tenant can be restored.
const PURGE_AFTER: &str = "6s";
/// The database.
pub(super) const DATABASE: &str = "chaos";
/// How long all may take until it is ready.
const READY: Duration = Duration::from_mins(1);
/// How long a service may take to stop.
const STOP: Duration = Duration::from_secs(30);

/// Everything that runs.
#[derive(Debug)]
pub(super) struct Stack {
    pub(super) services: Services,
    pub(super) stores: Stores,
    pub(super) upstreams: Upstreams,
    /// Watches from before the first job.
    pub(super) watcher: Watcher,
}

/// The api and the worker.
#[derive(Debug)]
pub(super) struct Services {
    pub(super) apis: Vec<Process>,
    pub(super) workers: Vec<Process>,
    /// Where the apis are.
    pub(super) urls: Vec<String>,
    /// Those that ended though nobody killed them.
    pub(super) fallen: Vec<String>,
    ports: Vec<Port>,
}

/// MongoDB and Redis, and the way to it.
#[derive(Debug)]
pub(super) struct Stores {
    pub(super) mongo: ReplicaSet,
    pub(super) redis: Redis,
    pub(super) redis_proxy: Proxy,
}

/// The simulated upstreams.
#[derive(Debug)]
pub(super) struct Upstreams {
    pub(super) issuer: Issuer,
    pub(super) authentik: AuthentikSim,
    pub(super) stalwart: StalwartSim,
    pub(super) ocis: OcisSim,
    dns: DnsSim,
}

impl Stack {
    /// Starts all of it, with data and logs in `directory`, and waits until it is ready.
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

    /// Asks everything to stop.
    pub(super) async fn stop(mut self) {
        let services = self.services.apis.iter_mut();
        let services = services.chain(&mut self.services.workers);
        futures::future::join_all(services.map(|service| service.stop(STOP))).await;
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

    fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("MONGODB_URI", self.mongo.uri.clone()),
            ("MONGODB_DATABASE", DATABASE.to_owned()),
            (
                "REDIS_URL",
                format!("redis://{}/", self.redis_proxy.address),
            ),
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
            dns: DnsSim::start(any_port).await?,
        };
        upstreams.stalwart.instant_dkim(true);
        Ok(upstreams)
    }

    /// The token of an operator.
    pub(super) fn operator(&self) -> anyhow::Result<String> {
        self.issuer.token(&Caller::Operator.token())
    }

    /// What goes wrong with one of them.
    pub(super) fn faults(&self, upstream: Upstream) -> &Faults {
        match upstream {
            Upstream::Authentik => &self.authentik.server.faults,
            Upstream::Stalwart => &self.stalwart.server.faults,
            Upstream::Ocis => &self.ocis.server.faults,
        }
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AUTHENTIK_API_URL", self.authentik.api_url()),
            ("AUTHENTIK_API_TOKEN", AuthentikSim::TOKEN.to_owned()),
            ("AUTHENTIK_TIMEOUT_SECONDS", CALL_SECONDS.to_owned()),
            ("STALWART_API_URL", self.stalwart.server.url.clone()),
            ("STALWART_API_TOKEN", StalwartSim::TOKEN.to_owned()),
            ("STALWART_TIMEOUT_SECONDS", CALL_SECONDS.to_owned()),
            ("OCIS_API_URL", self.ocis.server.url.clone()),
            ("OCIS_API_USER", OcisSim::USER.to_owned()),
            ("OCIS_API_PASSWORD", OcisSim::PASSWORD.to_owned()),
            ("OCIS_TIMEOUT_SECONDS", CALL_SECONDS.to_owned()),
            ("AUTHENTIK_STEPS_PER_SECOND", STEPS_PER_SECOND.to_owned()),
            ("STALWART_STEPS_PER_SECOND", STEPS_PER_SECOND.to_owned()),
            ("OCIS_STEPS_PER_SECOND", STEPS_PER_SECOND.to_owned()),
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
            let mut all = stores.environment();
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
            fallen: Vec::new(),
            ports: Vec::new(),
        };
        for number in 0..EACH {
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
                ("DOMAINS_ALLOW_SPECIAL_USE", "true".to_owned()),
                // All customers are one caller at one address.
                ("API_RATE_PER_CALLER", REQUESTS_PER_SECOND.to_owned()),
                ("API_RATE_PER_ADDRESS", REQUESTS_PER_SECOND.to_owned()),
            ];
            services.apis.push(start("dezky-api", number, environment)?);
            services.urls.push(format!("http://{address}"));
            services.ports.extend([port, metrics]);

            let mut environment = upstreams.environment();
            environment.extend([
                ("WORKER_NAME", format!("worker-{number}")),
                ("WORKER_METRICS_LISTEN", "127.0.0.1:0".to_owned()),
                ("WORKER_LEASE_SECONDS", LEASE.as_secs_f64().to_string()),
            ]);
            services
                .workers
                .push(start("dezky-worker", number, environment)?);
        }
        Ok(services)
    }

    async fn until_ready(&mut self) -> anyhow::Result<()> {
        let client = TrustRoots::default().client_builder().build()?;
        let deadline = Instant::now() + READY;
        for (api, url) in self.apis.iter_mut().zip(&self.urls) {
            let url = format!("{url}/readyz");
            while !client
                .get(&url)
                .send()
                .await
                .is_ok_and(|answer| answer.status().is_success())
            {
                api.expect_running()?;
                if Instant::now() > deadline {
                    bail!("{} is not ready after {READY:?}", api.name());
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }

    /// Starts those again that ended by themselves, as whatever runs them in production would, and remembers them.
    pub(super) async fn look_after(&mut self) -> anyhow::Result<()> {
        for service in self.apis.iter_mut().chain(&mut self.workers) {
            if let Err(ended) = service.expect_running() {
                self.fallen.push(format!("{ended:#}"));
                let name = service.name().to_owned();
                service.restart().await.context(name)?;
            }
        }
        Ok(())
    }
}
