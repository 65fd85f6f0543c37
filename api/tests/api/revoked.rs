//! Revocation: a revoked permission applies to the next request with the same token, whatever its kind, and ends
//! open streams and long polls.

use std::time::Duration;

use axum::response::Response;
use bson::{Bson, Document, doc};
use futures::StreamExt as _;
use serde_json::json;
use tokio::time::timeout;

use crate::{
    app::TestApp,
    client::{Client, Reply},
    personas::Persona,
};

/// Upper limit for immediate responses on a slow test machine.
const PROMPT: Duration = Duration::from_secs(10);
/// Statuses of a read and a write with the permission.
const GRANTED: [u16; 2] = [200; 2];

/// Permission on the tenant `demo`, and how it is revoked.
#[derive(Debug, Clone, Copy)]
enum Grant {
    /// Tenant role, removed.
    Role,
    /// Tenant role, downgraded to read-only.
    WriteRole,
    /// Partner access level, downgraded to read-only.
    WriteAccessLevel,
    /// Membership of the partner's team.
    TeamMembership,
    /// Partner status: terminated.
    Partner,
    /// Assignment of the tenant to the partner.
    Assignment,
    /// Admin flag of an operator.
    AdminFlag,
}

impl Grant {
    fn holder(self) -> Persona {
        match self {
            Self::Role | Self::WriteRole => Persona::Owner,
            Self::WriteAccessLevel | Self::TeamMembership => Persona::PartnerManager,
            Self::Partner | Self::Assignment => Persona::PartnerOwner,
            Self::AdminFlag => Persona::Operator,
        }
    }

    /// Statuses of a read and a write after revocation.
    fn statuses_after(self) -> [u16; 2] {
        match self {
            Self::WriteRole | Self::WriteAccessLevel => [200, 403],
            _ => [404, 404],
        }
    }

    /// Revokes the permission directly in the database, as another process may: this process gets no change hint.
    async fn revoke(self, app: &TestApp) {
        let user = doc! { "email": format!("{:?}@people.test", self.holder()).to_lowercase() };
        let demo = doc! { "slug": "demo" };
        let nordic = doc! { "slug": "nordic" };
        let set = |field: &str, value: Bson| doc! { "$set": { field: value } };
        let unset = |field: &str| doc! { "$unset": { field: "" } };
        let (collection, which, mut change): (&str, Document, Document) = match self {
            Self::Role => ("users", user, set("memberships.0.role", Bson::Null)),
            Self::WriteRole => ("users", user, set("memberships.0.role", "member".into())),
            Self::WriteAccessLevel => ("users", user, set("partnerRole", "read-only".into())),
            Self::TeamMembership => ("users", user, unset("partnerId")),
            Self::Partner => ("partners", nordic, set("status", "terminated".into())),
            Self::Assignment => ("tenants", demo, unset("partnerId")),
            Self::AdminFlag => ("users", user, set("platformAdmin", false.into())),
        };
        change.insert("$inc", doc! { "revision": 1_i64 });
        let changed = app.collection(collection).update_one(which, change).await;
        assert_eq!(changed.unwrap().modified_count, 1, "{self:?}");
    }
}

async fn write(client: &Client<'_>, key: &str) -> Reply {
    let body = json!({ "industry": key });
    client
        .patch("/tenants/demo", body)
        .idempotency_key(key)
        .await
}

async fn ends(stream: Response) -> bool {
    let all = stream.into_body().into_data_stream().count();
    timeout(PROMPT, all).await.is_ok()
}

async fn assert_revocation(grant: Grant) {
    let app = TestApp::with_personas().await;
    let job = app.jobs().await[0].id;
    let holder = app.client(grant.holder());
    let read = holder.get("/tenants/demo").await;
    let written = write(&holder, "before").await;
    let etag = written.etag().to_owned();
    let streams = [
        holder.get("/tenants/demo/events").open().await,
        holder.get(format!("/jobs/{job}/events")).open().await,
    ];
    assert_eq!(
        [&read, &written].map(|reply| reply.status.as_u16()),
        GRANTED
    );
    assert!(streams.iter().all(|stream| stream.status() == 200));

    grant.revoke(&app).await;

    let [reading, writing] = grant.statuses_after();
    let wrote = write(&holder, "after").await;
    assert_eq!(wrote.status, writing, "{wrote:?}");
    // A stored response is not replayed either.
    let repeated = write(&holder, "before").await;
    assert_eq!(repeated.status, writing, "{repeated:?}");
    for path in [
        "/tenants/demo",
        "/tenants/demo/jobs",
        &format!("/jobs/{job}"),
    ] {
        let read = holder.get(path).await;
        assert_eq!(read.status, reading, "{path}: {read:?}");
    }
    if reading != 200 {
        assert_no_access(&holder, &etag).await;
        for stream in streams {
            assert!(ends(stream).await);
        }
    }
    let industry = app.tenant("demo").await.industry;
    assert_eq!(industry.as_deref(), Some("before"));
}

async fn assert_no_access(holder: &Client<'_>, etag: &str) {
    let wait = holder.get("/tenants/demo?wait=25s").if_none_match(etag);
    let waited = timeout(PROMPT, wait).await.unwrap();
    assert_eq!(waited.status, 404, "{waited:?}");
    let again = holder.get("/tenants/demo/events").open().await;
    assert_eq!(again.status(), 404);
    for path in ["/tenants", "/jobs"] {
        let listed = holder.get(path).await;
        assert_eq!(listed.body["items"], json!([]), "{path}");
    }
}

#[tokio::test]
async fn a_removed_tenant_role_applies_to_the_next_request() {
    assert_revocation(Grant::Role).await;
}

#[tokio::test]
async fn a_downgraded_tenant_role_applies_to_the_next_request() {
    assert_revocation(Grant::WriteRole).await;
}

#[tokio::test]
async fn a_downgraded_access_level_applies_to_the_next_request() {
    assert_revocation(Grant::WriteAccessLevel).await;
}

#[tokio::test]
async fn leaving_a_partner_team_applies_to_the_next_request() {
    assert_revocation(Grant::TeamMembership).await;
}

#[tokio::test]
async fn a_terminated_partner_applies_to_its_staffs_next_request() {
    assert_revocation(Grant::Partner).await;
}

#[tokio::test]
async fn detaching_a_tenant_applies_to_the_partners_next_request() {
    assert_revocation(Grant::Assignment).await;
}

#[tokio::test]
async fn a_removed_admin_flag_applies_to_the_next_tenant_request() {
    assert_revocation(Grant::AdminFlag).await;
}

#[tokio::test]
async fn a_removed_admin_flag_applies_to_operator_routes() {
    let app = TestApp::with_personas().await;
    let operator = app.client(Persona::Operator);
    let before = operator.get("/queues").await;

    Grant::AdminFlag.revoke(&app).await;
    let after = operator.get("/queues").await;

    assert_eq!(before.status, 200);
    assert_eq!(after.summary(), "403 forbidden");
}
