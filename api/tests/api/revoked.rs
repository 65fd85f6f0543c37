//! A right that was taken away is refused on the very next request with the same token, whatever kind of request it
//! is; and what it held open ends.

use std::time::Duration;

use axum::response::Response;
use bson::{Bson, Document, doc};
use futures::StreamExt as _;
use serde_json::json;
use tokio::time::timeout;

use crate::{
    app::{Call, Reply, TestApp},
    everyone::Who,
};

/// How long what should be prompt may take on a busy machine.
const PROMPT: Duration = Duration::from_secs(10);
/// What is answered to a right that is there.
const GRANTED: [u16; 2] = [200; 2];

/// A right to the tenant `demo`.
#[derive(Debug, Clone, Copy)]
enum Right {
    /// A role in the tenant, taken away as a whole.
    Role,
    /// A role that may write, made one that may not.
    WritingRole,
    /// A level of access that may write, made one that may not.
    WritingLevel,
    /// A place in the partner's team.
    PlaceInTeam,
    /// The partner's contract.
    Partner,
    /// The partner's care for the tenant.
    Care,
    /// The flag that makes an operator.
    AdminFlag,
}

impl Right {
    fn holder(self) -> Who {
        match self {
            Self::Role | Self::WritingRole => Who::Owner,
            Self::WritingLevel | Self::PlaceInTeam => Who::PartnerManager,
            Self::Partner | Self::Care => Who::PartnerOwner,
            Self::AdminFlag => Who::Operator,
        }
    }

    /// What reading and writing is answered with when it is gone.
    fn refused(self) -> [u16; 2] {
        match self {
            Self::WritingRole | Self::WritingLevel => [200, 403],
            _ => [404, 404],
        }
    }

    /// Takes it away, as another process of ours may do: nothing in this one hears of it.
    async fn take_away(self, app: &TestApp) {
        let user = doc! { "email": format!("{:?}@people.test", self.holder()).to_lowercase() };
        let demo = doc! { "slug": "demo" };
        let nordic = doc! { "slug": "nordic" };
        let set = |field: &str, value: Bson| doc! { "$set": { field: value } };
        let unset = |field: &str| doc! { "$unset": { field: "" } };
        let (collection, which, mut change): (&str, Document, Document) = match self {
            Self::Role => ("users", user, set("memberships.0.role", Bson::Null)),
            Self::WritingRole => ("users", user, set("memberships.0.role", "member".into())),
            Self::WritingLevel => ("users", user, set("partnerRole", "read-only".into())),
            Self::PlaceInTeam => ("users", user, unset("partnerId")),
            Self::Partner => ("partners", nordic, set("status", "terminated".into())),
            Self::Care => ("tenants", demo, unset("partnerId")),
            Self::AdminFlag => ("users", user, set("platformAdmin", false.into())),
        };
        change.insert("$inc", doc! { "revision": 1_i64 });
        let changed = app.collection(collection).update_one(which, change).await;
        assert_eq!(changed.unwrap().modified_count, 1, "{self:?}");
    }
}

/// Somebody with one token, which they keep.
struct Holder<'a> {
    app: &'a TestApp,
    token: String,
}

impl Holder<'_> {
    fn get(&self, path: &str) -> Call<'_> {
        self.app.get(path).token(&self.token)
    }

    async fn write(&self, key: &str) -> Reply {
        let patch = self.app.patch("/tenants/demo").token(&self.token);
        let patch = patch.header("idempotency-key", key);
        patch.json(&json!({ "industry": key })).send().await
    }

    /// A wait for another version than this one.
    async fn wait(&self, etag: &str) -> Reply {
        let wait = self.get("/tenants/demo?wait=25s");
        wait.header("if-none-match", etag).send().await
    }

    async fn stream(&self, path: &str) -> Response {
        self.get(path).open().await
    }
}

async fn ends(stream: Response) -> bool {
    let all = stream.into_body().into_data_stream().count();
    timeout(PROMPT, all).await.is_ok()
}

async fn must_be_refused_once_gone(right: Right) {
    let app = TestApp::with_everyone().await;
    let job = app.jobs().await[0].id;
    let holder = Holder {
        token: app.token(&right.holder().token().unwrap()),
        app: &app,
    };
    let read = holder.get("/tenants/demo").send().await;
    let written = holder.write("before").await;
    let etag = written.etag().to_owned();
    let streams = [
        holder.stream("/tenants/demo/events").await,
        holder.stream(&format!("/jobs/{job}/events")).await,
    ];
    assert_eq!(
        [&read, &written].map(|reply| reply.status.as_u16()),
        GRANTED
    );
    assert!(streams.iter().all(|stream| stream.status() == 200));

    right.take_away(&app).await;

    let [reading, writing] = right.refused();
    let wrote = holder.write("after").await;
    assert_eq!(wrote.status, writing, "{wrote:?}");
    // Though the answer to it is known.
    let repeated = holder.write("before").await;
    assert_eq!(repeated.status, writing, "{repeated:?}");
    for path in [
        "/tenants/demo",
        "/tenants/demo/jobs",
        &format!("/jobs/{job}"),
    ] {
        let read = holder.get(path).send().await;
        assert_eq!(read.status, reading, "{path}: {read:?}");
    }
    if reading != 200 {
        must_see_nothing_more(&holder, &etag).await;
        for stream in streams {
            assert!(ends(stream).await);
        }
    }
    let industry = app.tenant("demo").await.industry;
    assert_eq!(industry.as_deref(), Some("before"));
}

async fn must_see_nothing_more(holder: &Holder<'_>, etag: &str) {
    let waited = timeout(PROMPT, holder.wait(etag)).await.unwrap();
    assert_eq!(waited.status, 404, "{waited:?}");
    let again = holder.stream("/tenants/demo/events").await;
    assert_eq!(again.status(), 404);
    for path in ["/tenants", "/jobs"] {
        let listed = holder.get(path).send().await;
        assert_eq!(listed.body["items"], json!([]), "{path}");
    }
}

#[tokio::test]
async fn a_role_that_was_taken_away_is_refused_at_once() {
    must_be_refused_once_gone(Right::Role).await;
}

#[tokio::test]
async fn a_role_that_may_no_longer_write_is_refused_at_once() {
    must_be_refused_once_gone(Right::WritingRole).await;
}

#[tokio::test]
async fn a_level_of_access_that_may_no_longer_write_is_refused_at_once() {
    must_be_refused_once_gone(Right::WritingLevel).await;
}

#[tokio::test]
async fn whoever_left_the_partners_team_is_refused_at_once() {
    must_be_refused_once_gone(Right::PlaceInTeam).await;
}

#[tokio::test]
async fn staff_of_a_terminated_partner_is_refused_at_once() {
    must_be_refused_once_gone(Right::Partner).await;
}

#[tokio::test]
async fn a_partner_that_lost_the_tenant_is_refused_at_once() {
    must_be_refused_once_gone(Right::Care).await;
}

#[tokio::test]
async fn an_operator_without_the_flag_is_refused_at_once() {
    must_be_refused_once_gone(Right::AdminFlag).await;
}

#[tokio::test]
async fn the_flag_that_was_taken_away_opens_no_operators_route() {
    let app = TestApp::with_everyone().await;
    let holder = Holder {
        token: app.token(&Who::Operator.token().unwrap()),
        app: &app,
    };
    let before = holder.get("/queues").send().await;

    Right::AdminFlag.take_away(&app).await;
    let after = holder.get("/queues").send().await;

    assert_eq!(before.status, 200);
    assert_eq!(after.summary(), "403 forbidden");
}
