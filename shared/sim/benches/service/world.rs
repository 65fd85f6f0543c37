//! The processes under test, and a client.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use dezky_shared::platform::tls::TrustRoots;
use dezky_sim::{
    authentik::AuthentikSim,
    callers::Caller,
    faults::{Fault, FaultRule},
    isolated_stores::{self, FreshStores},
    issuer::{Issuer, OPERATOR, PORTAL},
    ocis::OcisSim,
    ports::Port,
    process::{Process, Program},
    server::Server,
    stalwart::StalwartSim,
};
use futures::{StreamExt as _, stream};
use mongodb::{
    Client, Database,
    bson::{Document, doc},
};
use reqwest::{Method, StatusCode, header};
use serde_json::Value;
use tempfile::TempDir;

/// Concurrent requests.
pub(crate) const CONNECTIONS: usize = 64;
/// Latency of every upstream response.
const UPSTREAM_MILLIS: u64 = 5;
/// Slots of the worker's provisioning queue.
const SLOTS: usize = 64;

/// Encrypts the secrets of jobs.
const ENCRYPTION_KEY: &str = "bench:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
/// Rate limits that are never reached, per second.
const UNBOUNDED: &str = "100000";

/// Variables of a program, by name.
pub(crate) type Variables = Vec<(&'static str, String)>;

pub(crate) struct World {
    pub(crate) api: Process,
    pub(crate) worker: Process,
    pub(crate) url: String,
    pub(crate) client: reqwest::Client,
    pub(crate) database: Database,
    pub(crate) authentik: AuthentikSim,
    pub(crate) stalwart: StalwartSim,
    pub(crate) ocis: OcisSim,
    pub(crate) stores: FreshStores,
    /// Program of the worker, of which a benchmark may start more.
    pub(crate) worker_program: Program,
    token: String,
    issuer: Issuer,
    _ports: [Port; 2],
    _directory: TempDir,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::start_with(Variables::new(), Variables::new()).await
    }

    /// Starts the programs with further variables, which replace common ones of their names.
    pub(crate) async fn start_with(of_api: Variables, of_worker: Variables) -> Self {
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        let stores = FreshStores::new().expect("run the benchmarks with `cargo dev bench`");
        let directory = tempfile::tempdir().expect("there is room");
        let issuer = Issuer::start(any_port).await.expect("a port is free");
        let authentik = AuthentikSim::start(any_port).await.expect("a port is free");
        let stalwart = StalwartSim::start(any_port).await.expect("a port is free");
        stalwart.instant_dkim(true);
        let ocis = OcisSim::start(any_port).await.expect("a port is free");
        for faults in [
            &authentik.server.faults,
            &stalwart.server.faults,
            &ocis.server.faults,
        ] {
            faults.add(FaultRule::every(Fault::SlowAnswer {
                millis: UPSTREAM_MILLIS,
            }));
        }

        let ports = [(); 2].map(|()| Port::free().expect("a port is free"));
        let listen = ports
            .each_ref()
            .map(|port| format!("127.0.0.1:{}", port.number));
        let url = format!("http://{}", listen[0]);
        let program = |name: &str, own: Variables, further: Variables| Program {
            name: name.to_owned(),
            path: isolated_stores::binary(name).expect("it was built"),
            arguments: Vec::new(),
            environment: own
                .into_iter()
                .chain([
                    ("MONGODB_URI", stores.mongodb_uri.clone()),
                    ("MONGODB_DATABASE", stores.database.clone()),
                    ("REDIS_URL", stores.redis_url.clone()),
                    ("REDIS_PREFIX", stores.redis_prefix.clone()),
                    ("SEALING_KEYS", ENCRYPTION_KEY.to_owned()),
                    ("LOG_FORMAT", "json".to_owned()),
                    ("RUST_LOG", "warn".to_owned()),
                ])
                // The last value of a variable counts.
                .chain(further)
                .collect(),
            log: directory.path().join(format!("{name}.log")),
        };
        let [listen, metrics] = listen;
        let api = program(
            "dezky-api",
            vec![
                ("API_LISTEN", listen),
                ("API_METRICS_LISTEN", metrics),
                // All requests share one caller and one address.
                ("API_RATE_PER_CALLER", UNBOUNDED.to_owned()),
                ("API_RATE_PER_ADDRESS", UNBOUNDED.to_owned()),
                ("DOMAINS_ALLOW_SPECIAL_USE", "true".to_owned()),
                (
                    "AUTHENTIK_ISSUERS",
                    format!("{},{}", issuer.url(PORTAL), issuer.url(OPERATOR)),
                ),
            ],
            of_api,
        );
        let worker = program(
            "dezky-worker",
            vec![
                ("WORKER_SLOTS_PROVISIONING", SLOTS.to_string()),
                ("WORKER_METRICS_LISTEN", "127.0.0.1:0".to_owned()),
                ("AUTHENTIK_STEPS_PER_SECOND", UNBOUNDED.to_owned()),
                ("AUTHENTIK_STEPS_BURST", UNBOUNDED.to_owned()),
                ("STALWART_STEPS_PER_SECOND", UNBOUNDED.to_owned()),
                ("STALWART_STEPS_BURST", UNBOUNDED.to_owned()),
                ("OCIS_STEPS_PER_SECOND", UNBOUNDED.to_owned()),
                ("OCIS_STEPS_BURST", UNBOUNDED.to_owned()),
                ("AUTHENTIK_API_URL", authentik.api_url()),
                ("AUTHENTIK_API_TOKEN", AuthentikSim::TOKEN.to_owned()),
                ("STALWART_API_URL", stalwart.server.url.clone()),
                ("STALWART_API_TOKEN", StalwartSim::TOKEN.to_owned()),
                ("OCIS_API_URL", ocis.server.url.clone()),
                ("OCIS_API_USER", OcisSim::USER.to_owned()),
                ("OCIS_API_PASSWORD", OcisSim::PASSWORD.to_owned()),
            ],
            of_worker,
        );
        let world = Self {
            api: Process::start(api).expect("the api starts"),
            worker: Process::start(worker.clone()).expect("the worker starts"),
            worker_program: worker,
            url,
            client: TrustRoots::default()
                .client_builder()
                .build()
                .expect("a client needs nothing"),
            database: Client::with_uri_str(&stores.mongodb_uri)
                .await
                .expect("MongoDB is there")
                .database(&stores.database),
            authentik,
            stalwart,
            ocis,
            token: issuer
                .token(&Caller::Operator.token())
                .expect("the issuer signs"),
            issuer,
            _ports: ports,
            stores,
            _directory: directory,
        };
        until("the api is ready", async || {
            let ready = world.client.get(format!("{}/readyz", world.url)).send();
            ready
                .await
                .is_ok_and(|response| response.status().is_success())
        })
        .await;
        world.send(Method::GET, "/users/me", None).await;
        world.until_active(1).await;
        world
    }

    /// A token of a caller who is not the operator.
    pub(crate) fn token_of(&self, caller: Caller) -> String {
        let token = self.issuer.token(&caller.token());
        token.expect("the issuer signs")
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.request_as(&self.token, method, path)
    }

    /// A request with another caller's token.
    pub(crate) fn request_as(
        &self,
        token: &str,
        method: Method,
        path: &str,
    ) -> reqwest::RequestBuilder {
        self.client
            .request(method, format!("{}{path}", self.url))
            .bearer_auth(token)
    }

    /// Sends a request as an operator; anything but success is a panic.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> StatusCode {
        let mut request = self.request(method, path);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.expect("the api responds");
        let status = response.status();
        let text = response.text().await.expect("the response is complete");
        assert!(status.is_success(), "{path}: {status} {text}");
        status
    }

    /// Requests `path` on every connection until `time` is over, and returns the number of responses.
    pub(crate) async fn request_for(
        &self,
        path: &str,
        etag: Option<&str>,
        time: Duration,
    ) -> usize {
        let until = Instant::now() + time;
        let one = async || {
            let mut answered = 0;
            while Instant::now() < until {
                let mut request = self.request(Method::GET, path);
                if let Some(etag) = etag {
                    request = request.header(header::IF_NONE_MATCH, etag);
                }
                let response = request.send().await.expect("the api responds");
                let expected = if etag.is_some() { 304 } else { 200 };
                assert_eq!(response.status().as_u16(), expected);
                response.bytes().await.expect("the response is complete");
                answered += 1;
            }
            answered
        };
        stream::iter(0..CONNECTIONS)
            .map(|_| one())
            .buffer_unordered(CONNECTIONS)
            .fold(0, async |sum, answered| sum + answered)
            .await
    }

    /// Waits until no job of these kinds is left to do, for at most `timeout`.
    pub(crate) async fn until_done(&self, kinds: &[&str], timeout: Duration) {
        let jobs = self.database.collection::<Document>("jobs");
        let open = doc! { "kind": { "$in": kinds.to_vec() }, "state": { "$in": ["available", "running"] } };
        until_within(timeout, "the jobs are done", async || {
            let found = jobs.find_one(open.clone()).await;
            found.expect("MongoDB responds").is_none()
        })
        .await;
    }

    /// Waits until this many tenants are active.
    pub(crate) async fn until_active(&self, count: u64) {
        let tenants = self.database.collection::<Document>("tenants");
        until("all tenants are active", async || {
            let active = tenants.count_documents(doc! { "status": "active" }).await;
            active.expect("MongoDB responds") >= count
        })
        .await;
    }
}

/// Number of requests that a simulator has received.
pub(crate) fn requests(server: &Server) -> u64 {
    server.faults.requests().values().sum()
}

/// Polls `is` until it is true, for at most five minutes.
pub(crate) async fn until(what: &str, is: impl AsyncFn() -> bool) {
    until_within(Duration::from_mins(5), what, is).await;
}

/// Polls `is` until it is true, for at most `timeout`.
pub(crate) async fn until_within(timeout: Duration, what: &str, is: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + timeout;
    while !is().await {
        assert!(Instant::now() < deadline, "timeout: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
