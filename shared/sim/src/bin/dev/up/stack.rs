//! The processes of `cargo dev up`, started in the order of their dependencies.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use dezky_shared::{
    platform::{config, tls::TrustRoots},
    store::MongoConfig,
};
use dezky_sim::{
    callers::console_address,
    issuer::APPLICATIONS,
    ports::Port,
    process::{Process, Program},
    stores::{Mongo, Redis},
    workspace,
};
use dezky_upstreams::clients::simulated;
use futures::future;

use super::upstreams::Upstreams;
use crate::build::build;

/// Preferred port of the API.
const API_PORT: u16 = 3001;
/// Encryption key of stored secrets, for development only.
const ENCRYPTION_KEY: &str = "dev:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
/// Time limit for the start of a service.
const READY_TIMEOUT: Duration = Duration::from_mins(1);
/// Interval between two readiness checks.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Time limit for stopping a service. The worker drains its jobs for up to 25 s.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// All running processes. Dropping kills them; [`Stack::stop`] stops them gracefully.
#[derive(Debug, Default)]
pub(super) struct Stack {
    mongo: Option<Mongo>,
    redis: Option<Redis>,
    simulators: Option<Process>,
    /// The api and the worker.
    services: Vec<Process>,
    /// Reserved until all processes have stopped.
    ports: Vec<Port>,
}

/// Addresses of the running services.
#[derive(Debug)]
pub(super) struct Addresses {
    pub(super) api: String,
    pub(super) control: String,
    /// Database of the api.
    pub(super) database: MongoConfig,
    /// Variables of the worker.
    pub(super) worker: Vec<(String, String)>,
    /// Labels and addresses to print.
    pub(super) shown: Vec<(&'static str, String)>,
}

impl Stack {
    /// Builds and starts everything, with its data in this directory, and waits until it is ready.
    pub(super) async fn start(&mut self, data: &Path) -> anyhow::Result<Addresses> {
        let what = ["--bin=dezky-api", "--bin=dezky-worker", "--bin=dezky-sim"];
        let binaries = build(&what).await?.binaries;
        let logs = workspace::dev().join("logs");
        fs::create_dir_all(&logs)?;

        let (mongodb, redis) = self.start_stores(data, &logs).await?;
        let [control, issuer, authentik, stalwart, ocis, dns, stripe] =
            self.claim([3900, 3901, 3902, 3903, 3904, 3907, 3908])?;
        let arguments = vec![
            format!("--control-port={control}"),
            format!("--issuer-port={issuer}"),
            format!("--authentik-port={authentik}"),
            format!("--stalwart-port={stalwart}"),
            format!("--ocis-port={ocis}"),
            format!("--dns-port={dns}"),
            format!("--stripe-port={stripe}"),
            format!("--keys={}", data.join("keys").display()),
            format!(
                "--stripe-state={}",
                data.join("stripe/state.json").display()
            ),
        ];
        let control = url(control);
        // The log is a file.
        let environment = vec![("NO_COLOR", "1".to_owned())];
        let simulators = program(&binaries, "dezky-sim", &logs, arguments, environment);
        let simulators = self.simulators.insert(Process::start(simulators)?);
        until_ready(simulators, &format!("{control}/healthz")).await?;

        let [api, api_metrics] = self.claim([API_PORT, 9464])?;
        if api != API_PORT {
            println!("  port {API_PORT} is in use: the API listens on {api} instead");
        }
        let stores = [
            ("MONGODB_URI", mongodb.clone()),
            ("REDIS_URL", redis.clone()),
            ("LOG_FORMAT", "pretty".to_owned()),
            ("NO_COLOR", "1".to_owned()),
            ("SEALING_KEYS", ENCRYPTION_KEY.to_owned()),
        ];
        let mut environment = stores.to_vec();
        environment.extend([
            ("API_LISTEN", format!("127.0.0.1:{api}")),
            ("API_METRICS_LISTEN", format!("127.0.0.1:{api_metrics}")),
            ("DOMAINS_ALLOW_SPECIAL_USE", "true".to_owned()),
        ]);
        if config::optional::<String>("CONSOLE_URL")?.is_none() {
            environment.push(("CONSOLE_URL", url(api)));
        }
        // Portals under development run on any port.
        if config::list("CORS_ALLOWED_ORIGINS")?.is_empty() {
            environment.push(("CORS_ALLOWED_ORIGINS", "http://localhost:*".to_owned()));
        }
        environment.extend(issuers(&url(issuer))?);
        // The simulated Authentik serves the apps of tenants on its own port.
        if config::optional::<String>("AUTHENTIK_PUBLIC_URL")?.is_none() {
            environment.push(("AUTHENTIK_PUBLIC_URL", url(authentik)));
        }
        if config::optional::<String>("STRIPE_API_URL")?.is_none() {
            let key = simulated::STRIPE_PUBLISHABLE_KEY.to_owned();
            let secret = simulated::STRIPE_WEBHOOK_SECRET.to_owned();
            environment.push(("STRIPE_PUBLISHABLE_KEY", key));
            environment.push(("STRIPE_WEBHOOK_SECRETS", secret));
        }
        let ready = format!("{}/readyz", url(api));
        let service = program(&binaries, "dezky-api", &logs, Vec::new(), environment);
        self.serve(service, &ready).await?;

        let upstreams = Upstreams::new(&[authentik, stalwart, ocis, stripe].map(url), dns)?;
        let mut environment = stores.to_vec();
        environment.extend(upstreams.environment);
        let [worker_metrics] = self.claim([9465])?;
        environment.push((
            "WORKER_METRICS_LISTEN",
            format!("127.0.0.1:{worker_metrics}"),
        ));
        let worker = environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()));
        let worker = worker.collect();
        let ready = format!("{}/readyz", url(worker_metrics));
        let service = program(&binaries, "dezky-worker", &logs, Vec::new(), environment);
        self.serve(service, &ready).await?;

        let database = MongoConfig {
            uri: mongodb.clone(),
            database: config::optional("MONGODB_DATABASE")?.unwrap_or_else(|| "dezky".to_owned()),
        };
        let mut shown = vec![("API", format!("{0} (documentation: {0}/docs)", url(api)))];
        shown.push((
            "Console",
            format!("{} (sign in as `operator`)", console_address(&url(api))),
        ));
        shown.extend(upstreams.shown);
        shown.extend([
            ("Simulators", format!("{control}/upstreams")),
            ("MongoDB", mongodb),
            ("Redis", redis),
            (
                "Metrics",
                format!(
                    "{}/metrics and {}/metrics",
                    url(api_metrics),
                    url(worker_metrics)
                ),
            ),
            ("Logs", ".dev/logs".to_owned()),
        ]);
        Ok(Addresses {
            api: url(api),
            control,
            database,
            worker,
            shown,
        })
    }

    /// Waits until a process exits, which is an error.
    pub(super) async fn first_end(&mut self) -> anyhow::Error {
        let ends = self.processes().map(|process| {
            Box::pin(async {
                let ended = process.ended().await;
                (process, ended)
            })
        });
        let ((process, ended), _, _) = future::select_all(ends).await;
        match ended {
            Ok(status) => process.failure(status),
            Err(error) => error.into(),
        }
    }

    /// Stops everything: the services first, then their dependencies.
    pub(super) async fn stop(&mut self) {
        future::join_all(
            self.services
                .iter_mut()
                .map(|service| service.stop(STOP_TIMEOUT)),
        )
        .await;
        if let Some(simulators) = &mut self.simulators {
            simulators.stop(STOP_TIMEOUT).await;
        }
        if let Some(redis) = &mut self.redis {
            redis.stop().await;
        }
        if let Some(mongo) = &mut self.mongo {
            mongo.stop().await;
        }
    }

    fn processes(&mut self) -> impl Iterator<Item = &mut Process> {
        let mongo = self.mongo.as_mut().map(|mongo| &mut mongo.process);
        let redis = self.redis.as_mut().map(|redis| &mut redis.process);
        let stores = mongo.into_iter().chain(redis);
        stores.chain(&mut self.simulators).chain(&mut self.services)
    }

    /// Starts MongoDB and Redis and returns their addresses.
    async fn start_stores(&mut self, data: &Path, logs: &Path) -> anyhow::Result<(String, String)> {
        let start = Instant::now();
        let mongodb = data.join("mongodb");
        let log = logs.join("mongodb.log");
        let mongo = Mongo::start_on(Port::prefer(3905)?, &mongodb, &log).await?;
        started("mongodb", start);
        let start = Instant::now();
        let log = logs.join("redis.log");
        let redis = Redis::start_on(Port::prefer(3906)?, &data.join("redis"), &log).await?;
        started("redis", start);
        let addresses = (mongo.uri.clone(), redis.url.clone());
        self.mongo = Some(mongo);
        self.redis = Some(redis);
        Ok(addresses)
    }

    async fn serve(&mut self, service: Program, ready: &str) -> anyhow::Result<()> {
        self.services.push(Process::start(service)?);
        let service = self
            .services
            .last_mut()
            .context("the service was added above")?;
        until_ready(service, ready).await
    }

    /// Reserves these ports, or other ones in place of those in use.
    fn claim<const N: usize>(&mut self, wanted: [u16; N]) -> anyhow::Result<[u16; N]> {
        let mut numbers = wanted;
        for number in &mut numbers {
            let port = Port::prefer(*number)?;
            *number = port.number;
            self.ports.push(port);
        }
        Ok(numbers)
    }
}

fn program(
    binaries: &Path,
    binary: &str,
    logs: &Path,
    arguments: Vec<String>,
    environment: Vec<(&'static str, String)>,
) -> Program {
    Program {
        name: binary.to_owned(),
        path: binaries.join(binary),
        arguments,
        environment,
        log: logs.join(format!("{binary}.log")),
    }
}

/// The simulated issuers and those of the environment, with the audiences and JWKS URLs of all.
fn issuers(issuer: &str) -> anyhow::Result<[(&'static str, String); 3]> {
    let mut issuers = config::list("AUTHENTIK_ISSUERS")?;
    let mut audiences = config::list("AUTHENTIK_AUDIENCE")?;
    // Without audiences, each issuer has that of its application.
    if issuers.is_empty() {
        audiences.clear();
    } else if !audiences.is_empty() {
        audiences.extend(APPLICATIONS.map(str::to_owned));
    }
    let mut jwks_urls = config::list("AUTHENTIK_JWKS_URLS")?;
    let simulated = APPLICATIONS.map(|name| format!("{issuer}/application/o/{name}/"));
    // Without JWKS URLs, each issuer's discovery document names its own.
    if !jwks_urls.is_empty() {
        jwks_urls.extend(simulated.iter().map(|issuer| format!("{issuer}jwks/")));
    }
    issuers.extend(simulated);
    Ok([
        ("AUTHENTIK_ISSUERS", issuers.join(",")),
        ("AUTHENTIK_AUDIENCE", audiences.join(",")),
        ("AUTHENTIK_JWKS_URLS", jwks_urls.join(",")),
    ])
}

fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

/// Waits until `url` responds with success.
async fn until_ready(process: &mut Process, url: &str) -> anyhow::Result<()> {
    let start = Instant::now();
    let client = TrustRoots::default().client_builder().build()?;
    loop {
        process.expect_running()?;
        let not_ready = match client.get(url).timeout(READY_TIMEOUT).send().await {
            Ok(response) if response.status().is_success() => break,
            Ok(response) => response.text().await.unwrap_or_default(),
            Err(error) => error.to_string(),
        };
        if start.elapsed() > READY_TIMEOUT {
            bail!(
                "{} is not ready after {READY_TIMEOUT:?}: {not_ready}",
                process.name()
            );
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    started(process.name(), start);
    Ok(())
}

fn started(name: &str, start: Instant) {
    println!(
        "  {name:<14} started in {:.1} s",
        start.elapsed().as_secs_f64()
    );
}
