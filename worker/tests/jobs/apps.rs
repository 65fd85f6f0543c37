//! Apps, from the enqueued job to a sign-in of an OIDC client.

mod drift;
mod openid_client;
mod provision;
mod removal;
mod secrets;
mod with_tenant;

use bson::{Document, doc};
use dezky_shared::{
    app::{App, AppRefs, AppStatus, ClientType, GrantType, Scope},
    id::AppId,
    queue::{
        args::{ProvisionApp, RemoveApp, RotateAppSecret},
        job::{Job, JobArgs},
    },
    store::{TransactionError, VersionedRepository as _, jobs::NewJob},
    tenant::{Condition, Tenant},
};
use dezky_sim::{
    faults::{Fault, FaultRule},
    relying_party::{NotSignedIn, RelyingParty, SignedIn},
};
use futures::{FutureExt as _, TryStreamExt as _};

use crate::{harness::encryption_keys, world::World};

/// The client secret that provisioning jobs carry.
pub(crate) const SECRET: &str = "first-client-secret-0123456789abcdef";
/// The client secret that rotations carry.
pub(crate) const NEW_SECRET: &str = "second-client-secret-0123456789abcdef";
pub(crate) const REDIRECT_URI: &str = "https://wiki.acme.test/callback";

impl World {
    /// Adds a confidential app as the API does, without its job.
    pub(crate) async fn add_app(&self, tenant: &Tenant, slug: &str) -> App {
        let context = &self.harness.context;
        let now = context.store.now();
        let mut app = App {
            id: AppId::new(),
            tenant_id: tenant.id,
            name: format!("{slug} app"),
            slug: slug.to_owned(),
            redirect_uris: vec![REDIRECT_URI.to_owned()],
            launch_url: Some("https://wiki.acme.test/".to_owned()),
            logo_url: None,
            client_type: ClientType::Confidential,
            grant_types: vec![GrantType::AuthorizationCode, GrantType::RefreshToken],
            scopes: Scope::ALL.to_vec(),
            access_token_minutes: 5,
            client_id: bson::Uuid::new().to_string(),
            secret_version: 1,
            authentik: AppRefs::default(),
            status: AppStatus::Pending,
            conditions: Vec::new(),
            generation: 1,
            revision: 1,
            created_at: now,
            updated_at: now,
        };
        app.set_pending(now);
        let added: Result<(), TransactionError<()>> = context
            .store
            .transaction((context, &app), |session, (context, app)| {
                async move { Ok(context.apps.insert(session, app).await?) }.boxed()
            })
            .await;
        added.unwrap();
        app
    }

    /// Adds an app and waits until it is provisioned.
    pub(crate) async fn active_app(&self, tenant: &Tenant, slug: &str) -> App {
        let app = self.add_app(tenant, slug).await;
        self.completed(&self.provision_app(&app).await).await;
        let app = self.reload_app(&app).await;
        assert_eq!(app.status, AppStatus::Active);
        app
    }

    /// Changes an app as the API does.
    pub(crate) async fn change_app(&self, app: &App, set: Document) {
        let apps = self.harness.context.store.collection::<Document>("apps");
        let change = doc! { "$set": set, "$inc": { "generation": 1_i64, "revision": 1_i64 } };
        let changed = apps.update_one(doc! { "_id": app.id }, change).await;
        assert_eq!(changed.unwrap().matched_count, 1);
    }

    pub(crate) async fn find_app(&self, app: &App) -> Option<App> {
        self.harness.context.apps.find(app.id).await.unwrap()
    }

    pub(crate) async fn reload_app(&self, app: &App) -> App {
        self.find_app(app).await.unwrap()
    }

    /// Enqueues the job of a new app, with its secret.
    pub(crate) async fn provision_app(&self, app: &App) -> Job {
        let args = ProvisionApp {
            tenant_id: app.tenant_id,
            app_id: app.id,
            secret_version: 1,
        };
        self.enqueue_with_secret(&args, SECRET).await
    }

    /// Issues a new secret and enqueues the job that applies it.
    pub(crate) async fn rotate_secret(&self, app: &App, secret: &str) -> Job {
        let apps = self.harness.context.store.collection::<Document>("apps");
        let issued = doc! { "$inc": { "secretVersion": 1_i64, "revision": 1_i64 } };
        apps.update_one(doc! { "_id": app.id }, issued)
            .await
            .unwrap();
        let args = RotateAppSecret {
            tenant_id: app.tenant_id,
            app_id: app.id,
            secret_version: self.reload_app(app).await.secret_version,
        };
        self.enqueue_with_secret(&args, secret).await
    }

    pub(crate) async fn remove_app(&self, app: &App) -> Job {
        self.change_app(app, doc! { "status": "removing" }).await;
        let args = RemoveApp {
            tenant_id: app.tenant_id,
            app_id: app.id,
        };
        self.harness.enqueue(&args).await
    }

    async fn enqueue_with_secret<A: JobArgs>(&self, args: &A, secret: &str) -> Job {
        let context = &self.harness.context;
        let new = NewJob::new(args, "test", context.store.now()).unwrap();
        let new = new.with_secrets(&encryption_keys(), &secret).unwrap();
        let job = self.harness.enqueue_new(&new).await;
        context.ready.notify(std::slice::from_ref(&job)).await;
        job
    }

    /// An OIDC client of the app that has this secret.
    pub(crate) fn client_of(&self, app: &App, secret: &str) -> RelyingParty {
        RelyingParty {
            issuer: self
                .upstreams
                .authentik
                .issuer_of(&app.application_slug("acme")),
            client_id: app.client_id.clone(),
            client_secret: Some(secret.to_owned()),
            redirect_uri: REDIRECT_URI.to_owned(),
        }
    }

    /// Signs a user in to the app with the secret of its first job.
    pub(crate) async fn sign_in_to(
        &self,
        app: &App,
        username: &str,
    ) -> Result<SignedIn, NotSignedIn> {
        let session = self.upstreams.authentik.add_session(self.user(username).pk);
        let client = self.client_of(app, SECRET);
        client.sign_in(Some(session)).await.unwrap()
    }

    /// Audited actions of this app.
    pub(crate) async fn app_audit(&self, app: &App) -> Vec<Document> {
        let store = &self.harness.context.store;
        let events = store.collection::<Document>("audit_events");
        let about = doc! { "target.kind": "app", "target.id": app.id.to_string() };
        let found = events.find(about).sort(doc! { "_id": 1 }).await.unwrap();
        found.try_collect().await.unwrap()
    }

    /// Operations that changed the identity provider, in their order.
    pub(crate) fn sign_on_effects(&self) -> Vec<&'static str> {
        let effects = self.upstreams.authentik.server.effects.all();
        effects.iter().map(|effect| effect.operation).collect()
    }

    /// Asserts that no write left an app open to every user.
    pub(crate) fn assert_never_open(&self) {
        assert_eq!(self.upstreams.authentik.openings(), []);
    }
}

/// The condition of this type.
pub(crate) fn condition<'a>(app: &'a App, kind: &str) -> &'a Condition {
    app.condition(kind).unwrap_or_else(|| panic!("{app:#?}"))
}

/// Every call of this operation fails for now.
fn unavailable(operation: &str) -> FaultRule {
    FaultRule {
        times: None,
        ..FaultRule::once(operation, status(503))
    }
}

/// The next call of this operation is refused for good.
fn refused(operation: &str) -> FaultRule {
    FaultRule::once(operation, status(400))
}

fn status(status: u16) -> Fault {
    Fault::Status {
        status,
        retry_after: None,
    }
}
