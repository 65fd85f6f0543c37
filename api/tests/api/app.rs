//! The app under test, on a database of its own.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::Router;
use bson::{Document, doc};
use dezky_api::domain_name::NamePolicy;
use dezky_api::{
    AppState, Config,
    config::{AuthConfig, IssuerConfig, LimitsConfig, ServerConfig, StripeConfig, TrustedProxies},
    router,
    state::SharedState,
};
use dezky_shared::{
    id::{JobId, PartnerId, UserId},
    invoice::InvoicingConfig,
    platform::{config, redis::RedisConfig, tls::TrustRoots},
    queue::{job::Job, secret_box::EncryptionKeys},
    store::{MongoConfig, Store},
    tenant::Tenant,
    user::User,
};
use dezky_sim::{
    callers::Caller,
    isolated_stores::{self, FreshStores},
    issuer::{APPLICATIONS, Issuer, IssuerOptions, TokenSpec},
    proxy::Proxy,
};
use futures::TryStreamExt as _;
use http::StatusCode;
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::client::{Identity, Reply};

/// Encryption key of stored secrets.
const ENCRYPTION_KEY: &str = "test:QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=";

/// Secrets of webhooks: the current and the previous one.
pub(crate) const WEBHOOK_SECRETS: [&str; 2] = ["whsec_current", "whsec_previous"];

/// The app, with stores of its own.
pub(crate) struct TestApp {
    pub(crate) router: Router,
    pub(crate) state: SharedState,
    pub(crate) config: Config,
    pub(crate) issuer: Arc<Issuer>,
    pub(crate) shutdown: CancellationToken,
    _stop: DropGuard,
    _stores: FreshStores,
}

impl std::fmt::Debug for TestApp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TestApp")
    }
}

impl TestApp {
    pub(crate) async fn start() -> Self {
        Self::start_with(shared_issuer(), |_| {}).await
    }

    pub(crate) async fn start_with(issuer: Arc<Issuer>, change: impl FnOnce(&mut Config)) -> Self {
        let mut stores = FreshStores::new().unwrap();
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
                        audiences: vec![(*application).to_owned()],
                    })
                    .collect(),
                admin_groups: vec![
                    "dezky-platform-admins".to_owned(),
                    "authentik Admins".to_owned(),
                ],
            },
            authentik_public_url: "https://auth.example.com".to_owned(),
            limits: LimitsConfig {
                caller: None,
                address: None,
                failed_sign_in: None,
                credentials: None,
                webhook: None,
                // A slow test machine must not look like an unreachable Redis.
                redis_timeout: Duration::from_secs(10),
            },
            server: ServerConfig {
                max_connections: 1_000,
                max_connections_per_address: 0,
                header_timeout: Duration::from_secs(20),
                write_timeout: Duration::from_secs(20),
                response_memory: 256 * 1024 * 1024,
                response_timeout: Duration::from_secs(20),
                trusted_proxies: TrustedProxies::default(),
            },
            purge_after: Duration::from_hours(30 * 24),
            member_purge_after: Duration::from_hours(7 * 24),
            self_service_tenants: false,
            domain_names: NamePolicy {
                allow_special_use: true,
                own_domains: vec!["dezky.com".to_owned()],
            },
            cors_allowed_origins: vec![],
            trust_roots: TrustRoots::default(),
            encryption_keys: EncryptionKeys::parse([ENCRYPTION_KEY]).unwrap(),
            invoicing: InvoicingConfig::default(),
            console: None,
            stripe: StripeConfig::new(
                Some("pk_test_dezky".to_owned()),
                &WEBHOOK_SECRETS.map(str::to_owned),
            )
            .unwrap(),
        };
        change(&mut config);
        let store = Arc::new(Store::connect(&config.mongo).await.unwrap());
        let shutdown = CancellationToken::new();
        let state = AppState::new(&config, &store, &shutdown).unwrap();
        stores.ensure_indexes(&store).await.unwrap();
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

    /// The router of another process on the same database, which it reaches through `proxy`.
    pub(crate) async fn process_behind(&self, proxy: &Proxy) -> Router {
        let mongo = MongoConfig {
            uri: format!("mongodb://{}/?directConnection=true", proxy.address),
            ..self.config.mongo.clone()
        };
        let store = Arc::new(Store::connect(&mongo).await.unwrap());
        let state = AppState::new(&self.config, &store, &self.shutdown).unwrap();
        router(state)
    }

    /// A proxy to MongoDB that can inject faults.
    pub(crate) async fn proxy(&self) -> Proxy {
        let address = self.config.mongo.uri.trim_start_matches("mongodb://");
        let address = address.split('/').next().unwrap();
        Proxy::to(address).await.unwrap()
    }

    /// A second app on the same database, configured without `SEALING_KEYS`.
    pub(crate) fn without_encryption_keys(self) -> Self {
        let config = Config {
            encryption_keys: EncryptionKeys::default(),
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

    /// The app with the operator signed in.
    pub(crate) async fn with_operator() -> Self {
        let app = Self::start().await;
        app.sign_in(Caller::Operator).await;
        app
    }

    /// The app with the tenant `demo`. Every [`Caller`] has signed in once.
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
        self.set_tenant_roles(owner, json!({ "demo": "owner" }))
            .await;
        self.tenant("demo").await
    }

    /// Creates a partner that manages `demo`, and makes [`Caller::Partner`] its staff with this role.
    pub(crate) async fn with_partner(&self, role: &str) -> PartnerId {
        let slug = format!("partner-{}", PartnerId::new());
        let partner = self.insert_partner(&slug, "active").await;
        let staff = doc! { "authentikSubjectId": Caller::Partner.subject() };
        let fields = doc! { "partnerId": partner, "partnerRole": role };
        self.set("users", staff, fields).await;
        self.set_tenant("demo", doc! { "partnerId": partner }).await;
        partner
    }

    pub(crate) async fn sign_in(&self, identity: impl Identity) -> Reply {
        let reply = self.client(identity).get("/users/me").await;
        assert_eq!(reply.status, StatusCode::OK, "{reply:?}");
        reply
    }

    /// Creates a tenant as the operator.
    pub(crate) async fn create(&self, slug: &str) -> Reply {
        let domain = format!("{slug}.test");
        let body = json!({ "slug": slug, "name": "Demo", "plan": "business", "domains": [domain] });
        self.operator().post("/tenants", body).await
    }

    /// Creates a confidential app of the tenant `demo`, as the operator.
    pub(crate) async fn add_app(&self, slug: &str) -> Reply {
        let body = json!({
            "name": slug, "slug": slug, "redirectUris": [format!("https://{slug}.test/callback")],
        });
        let created = self.operator().post("/tenants/demo/apps", body).await;
        assert_eq!(created.status, StatusCode::ACCEPTED, "{created:?}");
        created
    }

    /// Changes the roles of a user by slug, as the operator.
    pub(crate) async fn set_tenant_roles(&self, user: UserId, roles: Value) -> Reply {
        let body = json!({ "tenantRoles": roles });
        let reply = self.operator().patch(format!("/users/{user}"), body).await;
        assert_eq!(reply.status, StatusCode::OK, "{reply:?}");
        reply
    }

    /// The OpenAPI document.
    pub(crate) async fn openapi(&self) -> Value {
        self.anonymous().get("/openapi.json").await.body
    }

    pub(crate) fn token(&self, spec: &TokenSpec) -> String {
        self.issuer.token(spec).unwrap()
    }

    pub(crate) fn collection(&self, name: &str) -> mongodb::Collection<Document> {
        self.state.store.collection(name)
    }

    /// The one document that matches `filter`.
    pub(crate) async fn document(&self, collection: &str, filter: Document) -> Document {
        let found = self.collection(collection).find_one(filter).await;
        found.unwrap().unwrap()
    }

    /// The newest audit event of this action.
    pub(crate) async fn audit_event(&self, action: &str) -> Document {
        let events = self.collection("audit_events");
        let newest = events
            .find_one(doc! { "action": action })
            .sort(doc! { "_id": -1 })
            .await;
        newest.unwrap().unwrap()
    }

    /// Sets fields of the document that matches `filter`, bypassing the API.
    pub(crate) async fn set(&self, collection: &str, filter: Document, fields: Document) {
        let documents = self.collection(collection);
        let set = doc! { "$set": fields };
        let updated = documents.update_one(filter, set).await.unwrap();
        assert_eq!(updated.matched_count, 1);
    }

    pub(crate) async fn count(&self, name: &str) -> u64 {
        self.collection(name)
            .count_documents(doc! {})
            .await
            .unwrap()
    }

    pub(crate) async fn tenant(&self, slug: &str) -> Tenant {
        self.state
            .db
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

    /// The stored user that signs in as `identity`.
    pub(crate) async fn user(&self, identity: impl Identity) -> User {
        let subject = identity.token_spec().unwrap().subject;
        let found = self.state.db.users.find_by_subject(&subject).await;
        found.unwrap().unwrap()
    }

    /// Overrides fields of the stored user.
    pub(crate) async fn set_user(&self, id: UserId, fields: Document) {
        self.set("users", doc! { "_id": id }, fields).await;
    }

    /// Replaces the stored user.
    pub(crate) async fn put_user(&self, user: &User) {
        let users = self.state.store.collection::<User>("users");
        users
            .replace_one(doc! { "_id": user.id }, user)
            .upsert(true)
            .await
            .unwrap();
    }

    /// Creates a subscription for `tenant`, with `fields` overriding the defaults.
    pub(crate) async fn subscribe(&self, tenant: &str, fields: Value) -> Reply {
        let mut body = json!({
            "tenant": tenant, "plan": "business", "cycle": "monthly", "seats": 5, "currency": "DKK",
            "priceMinor": 49_900,
        });
        let fields = fields.as_object().unwrap().clone();
        body.as_object_mut().unwrap().extend(fields);
        self.operator().post("/subscriptions", body).await
    }

    /// Creates a price.
    pub(crate) async fn set_price(
        &self,
        plan: &str,
        cycle: &str,
        currency: &str,
        amount: i64,
    ) -> Reply {
        let body =
            json!({ "plan": plan, "cycle": cycle, "currency": currency, "amountMinor": amount });
        self.operator().post("/prices", body).await
    }

    /// Waits until the change hints of all finished writes are published.
    pub(crate) async fn hints_published(&self) {
        self.state.hints.tasks.close();
        self.state.hints.tasks.wait().await;
    }

    /// All jobs, oldest first.
    pub(crate) async fn jobs(&self) -> Vec<Job> {
        let jobs = self.state.store.collection::<Job>("jobs");
        let found = jobs.find(doc! {}).sort(doc! { "_id": 1 }).await.unwrap();
        found.try_collect().await.unwrap()
    }

    /// Id of the oldest job.
    pub(crate) async fn first_job(&self) -> JobId {
        self.jobs().await[0].id
    }

    /// Kinds of all jobs, oldest first.
    pub(crate) async fn kinds(&self) -> Vec<String> {
        self.jobs().await.into_iter().map(|job| job.kind).collect()
    }

    /// Actions of all audit events, oldest first.
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

/// Issuer shared by all tests that do not change its keys, because key generation is slow. It runs on its own
/// runtime, which outlives the tests.
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
                let options = IssuerOptions {
                    keys: config::optional(isolated_stores::ISSUER_KEYS).unwrap(),
                    ..IssuerOptions::default()
                };
                let issuer = Issuer::start_with(([127, 0, 0, 1], 0).into(), options);
                send.send(Arc::new(issuer.await.unwrap())).unwrap();
                std::future::pending::<()>().await;
            });
        });
        receive.recv().unwrap()
    };
    ISSUER.get_or_init(start).clone()
}

/// Issuer of one test, which may change its keys.
pub(crate) async fn own_issuer() -> Arc<Issuer> {
    Arc::new(Issuer::start(([127, 0, 0, 1], 0).into()).await.unwrap())
}

/// An existing value for `{name}` in a route.
pub(crate) fn name_in(route: &str) -> &'static str {
    match route.split('/').nth(1) {
        Some("queues") => "dns",
        Some("schedules") => "nightly_reconcile",
        Some("reports" | "partner") => "mrr",
        _ => "stalwart",
    }
}
