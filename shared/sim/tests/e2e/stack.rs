//! The whole system: api, worker and simulators, on stores of the test's own or on shared ones.

use std::{path::PathBuf, sync::Arc, time::Duration};

use dezky_shared::{platform::tls::TrustRoots, store::MongoConfig};
use dezky_sim::{
    authentik::AuthentikSim,
    callers::Caller,
    control,
    dns::DnsSim,
    isolated_stores::{self, FreshStores},
    issuer::{Issuer, IssuerOptions, OPERATOR, PORTAL},
    ocis::{OcisSim, SimSpace},
    ports::Port,
    process::{Process, Program},
    proxy::Proxy,
    simulators::{Addresses, Simulators},
    stalwart::StalwartSim,
    stores::{Mongo, Redis},
    stripe::StripeSim,
};
use dezky_upstreams::clients::simulated;
use mongodb::{Client, Database};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;

/// Time limit of a test's waits.
pub(crate) const DEADLINE: Duration = Duration::from_mins(1);
/// Lease of the worker in seconds. Its other timings are proportional to it.
const LEASE_SECONDS: &str = "3";

/// All processes and simulators of a test.
pub(crate) struct Stack {
    pub(crate) api: Process,
    pub(crate) worker: Process,
    pub(crate) simulators: Arc<Simulators>,
    pub(crate) issuer: Arc<Issuer>,
    pub(crate) authentik: Arc<AuthentikSim>,
    pub(crate) stalwart: Arc<StalwartSim>,
    pub(crate) ocis: Arc<OcisSim>,
    pub(crate) dns: Arc<DnsSim>,
    pub(crate) url: String,
    /// Metrics URLs of the api and the worker.
    pub(crate) metrics: [String; 2],
    client: reqwest::Client,
    pub(crate) operator: String,
    worker_program: Program,
    _ports: [Port; 3],
    stores: FreshStores,
    _directory: TempDir,
}

/// Payment provider of a test.
#[derive(Clone, Copy)]
enum Billing {
    Off,
    Simulated,
}

impl Billing {
    /// Variables of the api and the worker. Each ignores those of the other.
    fn environment(self, stripe: &StripeSim) -> Vec<(&'static str, String)> {
        match self {
            Self::Off => Vec::new(),
            Self::Simulated => vec![
                (
                    "STRIPE_PUBLISHABLE_KEY",
                    simulated::STRIPE_PUBLISHABLE_KEY.to_owned(),
                ),
                (
                    "STRIPE_WEBHOOK_SECRETS",
                    simulated::STRIPE_WEBHOOK_SECRET.to_owned(),
                ),
                ("BILLING_STRIPE_ENABLED", "true".to_owned()),
                ("STRIPE_API_URL", stripe.server.url.clone()),
                ("STRIPE_SECRET_KEY", simulated::STRIPE_SECRET_KEY.to_owned()),
            ],
        }
    }
}

/// Stores that a test may kill and flush.
pub(crate) struct OwnStores {
    pub(crate) mongo: Mongo,
    pub(crate) redis: Redis,
    _directory: TempDir,
}

impl OwnStores {
    pub(crate) async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self {
            mongo: Mongo::start(&directory.path().join("mongodb"))
                .await
                .unwrap(),
            redis: Redis::start(&directory.path().join("redis")).await.unwrap(),
            _directory: directory,
        }
    }
}

impl Stack {
    /// Starts on the stores that all tests share.
    pub(crate) async fn start() -> Self {
        Self::on(FreshStores::new().unwrap(), &[]).await
    }

    /// Starts on stores of the test's own.
    pub(crate) async fn start_on(stores: &OwnStores) -> Self {
        Self::on(FreshStores::on(&stores.mongo, &stores.redis), &[]).await
    }

    /// Starts on stores of the test's own, with these variables for both processes.
    pub(crate) async fn start_on_with(
        stores: &OwnStores,
        variables: &[(&'static str, String)],
    ) -> Self {
        Self::on(FreshStores::on(&stores.mongo, &stores.redis), variables).await
    }

    /// Starts on the shared stores, with these variables for both processes.
    pub(crate) async fn start_with(variables: &[(&'static str, String)]) -> Self {
        Self::on(FreshStores::new().unwrap(), variables).await
    }

    /// Starts on the shared stores, with the operators' console.
    pub(crate) async fn start_with_console() -> Self {
        let port = Port::free().unwrap();
        let variables = [
            ("CONSOLE_URL", format!("http://127.0.0.1:{}", port.number)),
            ("SEALING_KEYS", format!("test:{}=", "A".repeat(43))),
        ];
        Self::at(port, FreshStores::new().unwrap(), &variables, Billing::Off).await
    }

    /// Starts on the shared stores, and bills at the simulated Stripe.
    pub(crate) async fn start_with_stripe() -> Self {
        let keys = [("SEALING_KEYS", format!("test:{}=", "A".repeat(43)))];
        let (port, stores) = (Port::free().unwrap(), FreshStores::new().unwrap());
        Self::at(port, stores, &keys, Billing::Simulated).await
    }

    async fn on(stores: FreshStores, variables: &[(&'static str, String)]) -> Self {
        Self::at(Port::free().unwrap(), stores, variables, Billing::Off).await
    }

    /// Starts with the api on this port.
    async fn at(
        api_port: Port,
        stores: FreshStores,
        variables: &[(&'static str, String)],
        billing: Billing,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let simulators = Simulators::start(&Addresses::free(), IssuerOptions::default()).await;
        let simulators = Arc::new(simulators.unwrap());
        let Simulators {
            issuer,
            authentik,
            stalwart,
            ocis,
            stripe,
            dns,
            ..
        } = &*simulators;
        stalwart.instant_dkim(true);

        let url = format!("http://127.0.0.1:{}", api_port.number);
        let api_metrics = Port::free().unwrap();
        let worker_metrics = Port::free().unwrap();
        let local = |port: &Port| format!("127.0.0.1:{}", port.number);
        let program = |name: &str, environment: Vec<(&'static str, String)>| Program {
            name: name.to_owned(),
            path: isolated_stores::binary(name).unwrap(),
            arguments: Vec::new(),
            environment: environment
                .into_iter()
                .chain(stores_environment(&stores))
                .chain(billing.environment(stripe))
                .chain(variables.iter().cloned())
                .collect(),
            log: log(&directory, name),
        };
        let api = program(
            "dezky-api",
            vec![
                ("API_LISTEN", local(&api_port)),
                ("API_METRICS_LISTEN", local(&api_metrics)),
                (
                    "AUTHENTIK_ISSUERS",
                    format!("{},{}", issuer.url(PORTAL), issuer.url(OPERATOR)),
                ),
                ("AUTHENTIK_PUBLIC_URL", authentik.server.url.clone()),
                ("TENANT_PURGE_AFTER", "0s".to_owned()),
                ("MEMBER_PURGE_AFTER", "0s".to_owned()),
                ("DOMAINS_ALLOW_SPECIAL_USE", "true".to_owned()),
                // All requests share one caller and one address.
                ("API_RATE_PER_CALLER", "0".to_owned()),
                ("API_RATE_PER_ADDRESS", "0".to_owned()),
                ("API_CREDENTIAL_CHANGES_PER_CALLER", "0".to_owned()),
            ],
        );
        let worker_program = program(
            "dezky-worker",
            vec![
                ("WORKER_METRICS_LISTEN", local(&worker_metrics)),
                ("WORKER_LEASE_SECONDS", LEASE_SECONDS.to_owned()),
                ("AUTHENTIK_API_URL", authentik.api_url()),
                ("AUTHENTIK_API_TOKEN", AuthentikSim::TOKEN.to_owned()),
                ("STALWART_API_URL", stalwart.server.url.clone()),
                ("STALWART_API_TOKEN", StalwartSim::TOKEN.to_owned()),
                ("OCIS_API_URL", ocis.server.url.clone()),
                ("OCIS_API_USER", OcisSim::USER.to_owned()),
                ("OCIS_API_PASSWORD", OcisSim::PASSWORD.to_owned()),
                // The simulator bears more than a real server.
                ("OCIS_STEPS_PER_SECOND", "50".to_owned()),
                ("OCIS_STEPS_BURST", "100".to_owned()),
                ("DNS_RESOLVERS", dns.address.to_string()),
            ],
        );
        let mut stack = Self {
            api: Process::start(api).unwrap(),
            worker: Process::start(worker_program.clone()).unwrap(),
            operator: issuer.token(&Caller::Operator.token()).unwrap(),
            client: TrustRoots::default().client_builder().build().unwrap(),
            issuer: issuer.clone(),
            authentik: authentik.clone(),
            stalwart: stalwart.clone(),
            ocis: ocis.clone(),
            dns: dns.clone(),
            simulators: simulators.clone(),
            url,
            metrics: [&api_metrics, &worker_metrics].map(|port| format!("http://{}", local(port))),
            worker_program,
            _ports: [api_port, api_metrics, worker_metrics],
            stores,
            _directory: directory,
        };
        stack.until_ready().await;
        let (status, _) = stack.ask(Method::GET, "/users/me", None).await;
        assert_eq!(status, StatusCode::OK);
        // The tenant that exists in every installation is provisioned first, so that no test's fault affects it.
        stack.until_status("dezky", "active").await;
        stack
    }

    /// A second worker.
    pub(crate) fn another_worker(&self) -> Process {
        let mut program = self.worker_program.clone();
        program.log = program.log.with_extension("second.log");
        // Any port: the first worker uses the configured one.
        let elsewhere = ("WORKER_METRICS_LISTEN", "127.0.0.1:0".to_owned());
        program.environment.push(elsewhere);
        Process::start(program).unwrap()
    }

    /// A second worker that connects to MongoDB through `proxy`.
    pub(crate) fn worker_behind(&self, proxy: &Proxy) -> Process {
        let mut program = self.worker_program.clone();
        program.log = program.log.with_extension("behind.log");
        let uri = format!("mongodb://{}/?directConnection=true", proxy.address);
        program.environment.push(("MONGODB_URI", uri));
        Process::start(program).unwrap()
    }

    pub(crate) async fn until_ready(&mut self) {
        let url = format!("{}/readyz", self.url);
        let client = self.client.clone();
        let deadline = tokio::time::Instant::now() + DEADLINE;
        loop {
            self.api.expect_running().unwrap();
            if client
                .get(&url)
                .send()
                .await
                .is_ok_and(|response| response.status().is_success())
            {
                return;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "the api does not become ready"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Serves the control API of the simulators, and returns its address.
    pub(crate) async fn serve_control(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = control::router(self.simulators.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        url
    }

    /// Address of the database.
    pub(crate) fn stored(&self) -> MongoConfig {
        MongoConfig {
            uri: self.stores.mongodb_uri.clone(),
            database: self.stores.database.clone(),
        }
    }

    /// The database, for states that no route produces.
    pub(crate) async fn database(&self) -> Database {
        let client = Client::with_uri_str(&self.stores.mongodb_uri).await;
        client.unwrap().database(&self.stores.database)
    }

    /// Logs of both processes.
    pub(crate) fn logs(&self) -> String {
        let api = self.worker_program.log.with_file_name("dezky-api.log");
        std::fs::read_to_string(api).unwrap() + &self.worker_log()
    }

    /// Log of the worker.
    pub(crate) fn worker_log(&self) -> String {
        std::fs::read_to_string(&self.worker_program.log).unwrap()
    }

    /// Sends a request as an operator.
    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> (StatusCode, Value) {
        let response = self.try_send(method, path, body).await;
        response.unwrap()
    }

    /// Builds a request of an operator.
    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client
            .request(method, format!("{}{path}", self.url))
            .bearer_auth(&self.operator)
    }

    /// Sends a request as one of the callers.
    pub(crate) async fn ask_as(
        &self,
        caller: Caller,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> (StatusCode, Value) {
        let token = self.issuer.token(&caller.token()).unwrap();
        self.ask_with(&token, method, path, body).await
    }

    /// Sends a request with a token.
    pub(crate) async fn ask_with(
        &self,
        token: &str,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> (StatusCode, Value) {
        let request = self.client.request(method, format!("{}{path}", self.url));
        let mut request = request.bearer_auth(token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        (response.status(), response.json().await.unwrap())
    }

    /// Sends a GET without a token.
    pub(crate) async fn get(&self, url: &str) -> (u16, String) {
        let response = self.client.get(url).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    pub(crate) async fn try_send(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> reqwest::Result<(StatusCode, Value)> {
        let mut request = self.request(method, path);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await?;
        let status = response.status();
        let text = response.text().await?;
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::Null)))
    }

    /// Creates a tenant with a domain.
    pub(crate) async fn create(&self, slug: &str) -> Value {
        let body = json!({ "slug": slug, "name": format!("{slug} Ltd"), "plan": "business", "domains": [format!("{slug}.test")] });
        let (status, tenant) = self.ask(Method::POST, "/tenants", Some(body)).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{tenant}");
        tenant
    }

    pub(crate) async fn tenant(&self, slug: &str) -> Value {
        self.ask(Method::GET, &format!("/tenants/{slug}"), None)
            .await
            .1
    }

    /// Waits until the tenant has this status.
    pub(crate) async fn until_status(&self, slug: &str, status: &str) -> Value {
        self.until(slug, |tenant| tenant["status"] == status).await
    }

    /// Polls the tenant until `is` returns true.
    pub(crate) async fn until(&self, slug: &str, is: impl Fn(&Value) -> bool) -> Value {
        let deadline = tokio::time::Instant::now() + DEADLINE;
        loop {
            // The api may respond with 503 while a store is away.
            let current = self
                .try_send(Method::GET, &format!("/tenants/{slug}"), None)
                .await;
            if let Ok((StatusCode::OK, tenant)) = &current
                && is(tenant)
            {
                return tenant.clone();
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "timeout; last state: {current:#?}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until no job of this kind is open.
    pub(crate) async fn until_no_job_of(&self, kind: &str) {
        let deadline = tokio::time::Instant::now() + DEADLINE;
        loop {
            let mut open = 0;
            for state in ["available", "running"] {
                let path = format!("/jobs?kind={kind}&state={state}");
                let (_, jobs) = self.ask(Method::GET, &path, None).await;
                open += jobs["items"].as_array().unwrap().len();
            }
            if open == 0 {
                return;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "{open} jobs of {kind} are left"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Spaces of this tenant.
    pub(crate) fn spaces(&self, slug: &str) -> Vec<SimSpace> {
        let mut spaces = self.ocis.spaces();
        spaces.retain(|space| space.name == format!("{slug} Ltd"));
        spaces
    }

    /// Asserts that every upstream object of this tenant exists exactly once.
    pub(crate) fn assert_one_of_everything(&self, slug: &str) {
        let groups = self.authentik.groups();
        assert_eq!(
            groups.iter().filter(|group| group.name == slug).count(),
            1,
            "{groups:#?}"
        );
        assert_eq!(
            self.authentik
                .server
                .effects
                .count_for("create_group", slug),
            1
        );
        let domain = format!("{slug}.test");
        assert_eq!(
            self.stalwart
                .domains()
                .iter()
                .filter(|name| **name == domain)
                .count(),
            1
        );
        assert_eq!(
            self.stalwart
                .server
                .effects
                .count_for("create_domain", &domain),
            1
        );
        let spaces = self.spaces(slug);
        assert_eq!(spaces.len(), 1, "{spaces:#?}");
    }
}

/// Polls `is` until it returns true.
pub(crate) async fn until(what: &str, is: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    while !is() {
        assert!(tokio::time::Instant::now() < deadline, "timeout: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn stores_environment(stores: &FreshStores) -> [(&'static str, String); 6] {
    [
        ("MONGODB_URI", stores.mongodb_uri.clone()),
        ("MONGODB_DATABASE", stores.database.clone()),
        ("REDIS_URL", stores.redis_url.clone()),
        ("REDIS_PREFIX", stores.redis_prefix.clone()),
        ("LOG_FORMAT", "pretty".to_owned()),
        ("RUST_LOG", "info".to_owned()),
    ]
}

fn log(directory: &TempDir, name: &str) -> PathBuf {
    directory.path().join(format!("{name}.log"))
}
