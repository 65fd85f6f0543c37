//! The app under test, and callers of every kind.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::{Router, body::Body, extract::ConnectInfo, response::Response};
use bson::{Document, doc};
use dezky_api::domain_name::NamePolicy;
use dezky_api::{
    AppState, Config,
    config::{AuthConfig, IssuerConfig},
    extract::TrustedProxies,
    rate_limits::LimitsConfig,
    router,
    state::SharedState,
};
use dezky_shared::{
    id::{JobId, PartnerId},
    platform::{redis::RedisConfig, tls::TrustRoots},
    queue::{job::Job, secret_box::EncryptionKeys},
    store::{MongoConfig, Store},
    tenant::Tenant,
    user::User,
};
use dezky_sim::{
    callers::Caller,
    isolated_stores::FreshStores,
    issuer::{APPLICATIONS, Issuer, TokenSpec},
};
use futures::TryStreamExt as _;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};
use tower::ServiceExt as _;

/// What seals secrets here.
const SEALING_KEY: &str = "test:QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=";

/// The app, on a database of its own.
pub(crate) struct TestApp {
    pub(crate) router: Router,
    pub(crate) state: SharedState,
    pub(crate) config: Config,
    pub(crate) issuer: Arc<Issuer>,
    pub(crate) shutdown: CancellationToken,
    _stop: DropGuard,
    _stores: FreshStores,
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Reply {
    pub(crate) fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub(crate) fn etag(&self) -> &str {
        self.header("etag").unwrap()
    }

    /// Of a problem, what is wrong with which fields.
    pub(crate) fn errors(&self) -> Vec<(&str, &str)> {
        let errors = self.body["errors"].as_array().into_iter().flatten();
        errors
            .map(|error| {
                (
                    error["pointer"].as_str().unwrap(),
                    error["code"].as_str().unwrap(),
                )
            })
            .collect()
    }

    /// Status and, for a problem, its code.
    pub(crate) fn summary(&self) -> String {
        format!("{} {}", self.status.as_u16(), self.code())
            .trim()
            .to_owned()
    }
}

/// A request to be sent.
#[derive(Debug, Clone)]
pub(crate) struct Call<'a> {
    app: &'a TestApp,
    method: Method,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    address: Option<IpAddr>,
}

impl std::fmt::Debug for TestApp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TestApp")
    }
}

impl Call<'_> {
    pub(crate) fn by(self, caller: Caller) -> Self {
        let token = self.app.token(&caller.token());
        self.token(&token)
    }

    pub(crate) fn token(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// As if it came from this address. Without one, it comes from nowhere.
    pub(crate) fn coming_from(mut self, address: &str) -> Self {
        self.address = Some(address.parse().unwrap());
        self
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn json(self, body: &Value) -> Self {
        self.raw("application/json", body.to_string().into_bytes())
    }

    pub(crate) fn raw(mut self, content_type: &str, body: Vec<u8>) -> Self {
        self.body = body;
        self.header("content-type", content_type)
    }

    /// Sends it, and leaves the body of the answer to be read, if it ever ends.
    pub(crate) async fn open(self) -> Response {
        let mut request = Request::builder().method(self.method).uri(&self.path);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        if let Some(address) = self.address {
            request = request.extension(ConnectInfo(SocketAddr::from((address, 4_000))));
        }
        let request = request.body(Body::from(self.body)).unwrap();
        self.app.router.clone().oneshot(request).await.unwrap()
    }

    pub(crate) async fn send(self) -> Reply {
        let (parts, body) = self.open().await.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Reply {
            status: parts.status,
            headers: parts.headers,
            body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
        }
    }
}

impl TestApp {
    pub(crate) async fn start() -> Self {
        Self::start_with(shared_issuer(), |_| {}).await
    }

    pub(crate) async fn start_with(issuer: Arc<Issuer>, change: impl FnOnce(&mut Config)) -> Self {
        let stores = FreshStores::new().unwrap();
        let mut config = Config {
            listen: ([127, 0, 0, 1], 0).into(),
            metrics_listen: ([127, 0, 0, 1], 0).into(),
            mongo: MongoConfig {
                uri: stores.mongodb_uri.clone(),
                database: stores.database.clone(),
            },
            redis: RedisConfig {
                url: stores.redis_url.clone(),
                prefix: stores.redis_prefix.clone(),
            },
            auth: AuthConfig {
                issuers: APPLICATIONS
                    .iter()
                    .map(|application| IssuerConfig {
                        name: issuer.url(application),
                        jwks_url: None,
                    })
                    .collect(),
                audiences: APPLICATIONS.map(str::to_owned).to_vec(),
                admin_groups: vec![
                    "dezky-platform-admins".to_owned(),
                    "authentik Admins".to_owned(),
                ],
            },
            limits: LimitsConfig {
                caller: None,
                address: None,
                failed_sign_in: None,
                // A busy machine is not an absent Redis.
                patience: Duration::from_secs(10),
            },
            purge_after: Duration::from_hours(30 * 24),
            domain_names: NamePolicy {
                allow_special_use: true,
                own_domains: vec!["dezky.com".to_owned()],
            },
            cors_allowed_origins: vec![],
            trusted_proxies: TrustedProxies::default(),
            trust_roots: TrustRoots::default(),
            sealing_keys: EncryptionKeys::parse([SEALING_KEY]).unwrap(),
        };
        change(&mut config);
        let store = Arc::new(Store::connect(&config.mongo).await.unwrap());
        let shutdown = CancellationToken::new();
        let state = AppState::new(&config, &store, &shutdown).unwrap();
        state.ensure_indexes().await.unwrap();
        Self {
            router: router(state.clone()),
            state,
            config,
            issuer,
            _stop: shutdown.clone().drop_guard(),
            shutdown,
            _stores: stores,
        }
    }

    /// The same, on the same database, as it is where `SEALING_KEYS` is not set.
    pub(crate) fn without_sealing_keys(self) -> Self {
        let config = Config {
            sealing_keys: EncryptionKeys::default(),
            ..self.config.clone()
        };
        let state = AppState::new(&config, &self.state.store, &self.shutdown).unwrap();
        Self {
            router: router(state.clone()),
            state,
            config,
            ..self
        }
    }

    /// The app with the tenant `demo`, and everybody signed in once.
    pub(crate) async fn with_demo() -> Self {
        let app = Self::start().await;
        app.demo().await;
        app
    }

    pub(crate) async fn demo(&self) -> Tenant {
        self.sign_in(Caller::Operator).await;
        let created = self.create("demo").await;
        assert_eq!(created.status, StatusCode::ACCEPTED, "{created:?}");
        for caller in Caller::ALL {
            self.sign_in(caller).await;
        }
        let owner = self.user(Caller::Owner).await.id;
        let reply = self
            .patch(&format!("/users/{owner}"))
            .by(Caller::Operator)
            .json(&json!({ "tenantRoles": { "demo": "owner" } }))
            .send()
            .await;
        assert_eq!(reply.status, StatusCode::OK, "{reply:?}");
        self.tenant("demo").await
    }

    /// Makes the partner's member of staff look after `demo`, with this role.
    pub(crate) async fn with_partner(&self, role: &str) -> PartnerId {
        let slug = format!("partner-{}", PartnerId::new());
        let partner = self.insert_partner(&slug, "active").await;
        let users = self.collection("users");
        let staff = doc! { "authentikSubjectId": Caller::Partner.subject() };
        let set = doc! { "$set": { "partnerId": partner, "partnerRole": role } };
        users.update_one(staff, set).await.unwrap();
        self.set_tenant("demo", doc! { "partnerId": partner }).await;
        partner
    }

    pub(crate) async fn sign_in(&self, caller: Caller) -> Reply {
        let reply = self.get("/users/me").by(caller).send().await;
        assert_eq!(reply.status, StatusCode::OK, "{reply:?}");
        reply
    }

    pub(crate) async fn create(&self, slug: &str) -> Reply {
        self.post("/tenants")
            .by(Caller::Operator)
            .json(&json!({ "slug": slug, "name": "Demo", "plan": "business", "domains": [format!("{slug}.test")] }))
            .send()
            .await
    }

    pub(crate) fn call(&self, method: Method, path: &str) -> Call<'_> {
        Call {
            app: self,
            method,
            path: path.to_owned(),
            headers: vec![],
            body: vec![],
            address: None,
        }
    }

    pub(crate) fn get(&self, path: &str) -> Call<'_> {
        self.call(Method::GET, path)
    }

    pub(crate) fn post(&self, path: &str) -> Call<'_> {
        self.call(Method::POST, path)
    }

    pub(crate) fn put(&self, path: &str) -> Call<'_> {
        self.call(Method::PUT, path)
    }

    pub(crate) fn patch(&self, path: &str) -> Call<'_> {
        self.call(Method::PATCH, path)
    }

    pub(crate) fn delete(&self, path: &str) -> Call<'_> {
        self.call(Method::DELETE, path)
    }

    pub(crate) fn token(&self, spec: &TokenSpec) -> String {
        self.issuer.token(spec).unwrap()
    }

    pub(crate) fn collection(&self, name: &str) -> mongodb::Collection<Document> {
        self.state.store.collection(name)
    }

    pub(crate) async fn count(&self, name: &str) -> u64 {
        self.collection(name)
            .count_documents(doc! {})
            .await
            .unwrap()
    }

    pub(crate) async fn tenant(&self, slug: &str) -> Tenant {
        self.state
            .tenants
            .find_by_slug(slug)
            .await
            .unwrap()
            .unwrap()
    }

    pub(crate) async fn set_tenant(&self, slug: &str, fields: Document) {
        let set = doc! { "$set": fields, "$inc": { "revision": 1_i64 } };
        let tenants = self.collection("tenants");
        tenants
            .update_one(doc! { "slug": slug }, set)
            .await
            .unwrap();
    }

    pub(crate) async fn set_job(&self, id: JobId, fields: Document) {
        let set = doc! { "$set": fields, "$inc": { "revision": 1_i64 } };
        let jobs = self.collection("jobs");
        jobs.update_one(doc! { "_id": id }, set).await.unwrap();
    }

    pub(crate) async fn user(&self, caller: Caller) -> User {
        let found = self.state.users.find_by_subject(caller.subject()).await;
        found.unwrap().unwrap()
    }

    /// Puts a user back as they were.
    pub(crate) async fn put_user(&self, user: &User) {
        let users = self.state.store.collection::<User>("users");
        users
            .replace_one(doc! { "_id": user.id }, user)
            .upsert(true)
            .await
            .unwrap();
    }

    /// Sells `tenant` a subscription, with these fields in the place of the usual ones.
    pub(crate) async fn subscribe(&self, tenant: &str, fields: Value) -> Reply {
        let mut body = json!({
            "tenant": tenant, "plan": "business", "cycle": "monthly", "seats": 5, "currency": "DKK",
            "priceMinor": 49_900,
        });
        let fields = fields.as_object().unwrap().clone();
        body.as_object_mut().unwrap().extend(fields);
        self.post("/subscriptions")
            .by(Caller::Operator)
            .json(&body)
            .send()
            .await
    }

    /// Sets the price of a plan.
    pub(crate) async fn set_price(
        &self,
        plan: &str,
        cycle: &str,
        currency: &str,
        amount: i64,
    ) -> Reply {
        let body =
            json!({ "plan": plan, "cycle": cycle, "currency": currency, "amountMinor": amount });
        self.post("/prices")
            .by(Caller::Operator)
            .json(&body)
            .send()
            .await
    }

    /// Waits until everybody has been told of what was recorded so far.
    pub(crate) async fn all_told(&self) {
        self.state.background.close();
        self.state.background.wait().await;
    }

    /// All jobs, oldest first.
    pub(crate) async fn jobs(&self) -> Vec<Job> {
        let jobs = self.state.store.collection::<Job>("jobs");
        let found = jobs.find(doc! {}).sort(doc! { "_id": 1 }).await.unwrap();
        found.try_collect().await.unwrap()
    }

    /// The kinds of all jobs, oldest first.
    pub(crate) async fn kinds(&self) -> Vec<String> {
        self.jobs().await.into_iter().map(|job| job.kind).collect()
    }

    /// The actions of all audit events, oldest first.
    pub(crate) async fn actions(&self) -> Vec<String> {
        let events = self.collection("audit_events");
        let found = events.find(doc! {}).sort(doc! { "_id": 1 }).await.unwrap();
        let events: Vec<Document> = found.try_collect().await.unwrap();
        events
            .iter()
            .map(|event| event.get_str("action").unwrap().to_owned())
            .collect()
    }
}

pub(crate) fn id_of<T: std::str::FromStr<Err: std::fmt::Debug>>(value: &Value) -> T {
    value.as_str().unwrap().parse().unwrap()
}

/// One issuer for all tests that do not change its keys, on a runtime that outlives them: making keys is slow.
pub(crate) fn shared_issuer() -> Arc<Issuer> {
    static ISSUER: OnceLock<Arc<Issuer>> = OnceLock::new();
    let start = || {
        let (send, receive) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                send.send(own_issuer().await).unwrap();
                std::future::pending::<()>().await;
            });
        });
        receive.recv().unwrap()
    };
    ISSUER.get_or_init(start).clone()
}

/// An issuer whose keys the test may change.
pub(crate) async fn own_issuer() -> Arc<Issuer> {
    Arc::new(Issuer::start(([127, 0, 0, 1], 0).into()).await.unwrap())
}

/// What `{name}` stands for in a route: something that exists.
pub(crate) fn name_in(route: &str) -> &'static str {
    match route.split('/').nth(1) {
        Some("queues") => "dns",
        Some("schedules") => "nightly_reconcile",
        _ => "stalwart",
    }
}
