//! Members of a tenant. The worker provisions them; here the tests link accounts as the worker does.

mod adopting;
mod creating;
mod importing;
mod input;
mod lifecycle;
mod listing;
mod passwords;
mod races;
mod states;

use bson::doc;
use dezky_shared::{
    id::MemberId,
    member::{AccountOrigin, Member, MemberStatus, SignInAccount},
    store::{StoreError, TransactionError, VersionedRepository as _},
};
use dezky_sim::callers::Caller;
use futures::FutureExt as _;
use serde_json::{Value, json};

use crate::{
    app::{self, TestApp},
    client::Reply,
};

/// Path of the members of `demo`.
const USERS: &str = "/tenants/demo/users";

fn new(local_part: &str) -> Value {
    json!({ "localPart": local_part, "name": "Ada King", "role": "member" })
}

/// Creates a member of `demo` as its owner.
async fn create(app: &TestApp, body: Value) -> Reply {
    app.owner().post(USERS, body).await
}

/// Creates a member of `demo`, and returns it as stored.
async fn created(app: &TestApp, local_part: &str) -> Member {
    let reply = create(app, new(local_part)).await;
    assert_eq!(reply.status, 202, "{reply:?}");
    member(app, app::id_of(&reply.body["id"])).await
}

async fn member(app: &TestApp, id: MemberId) -> Member {
    app.state.db.members.find(id).await.unwrap().unwrap()
}

/// Path of a member of `demo`, with an action.
fn path(member: &Member, action: &str) -> String {
    format!("{USERS}/{}{action}", member.id)
}

/// Runs an action on a member of `demo` as its owner.
async fn act(app: &TestApp, member: &Member, action: &str) -> Reply {
    app.owner().post_empty(path(member, action)).await
}

/// Links a member to the account with this subject, and marks it as provisioned, as the worker does.
async fn link(app: &TestApp, id: MemberId, subject: &str, origin: AccountOrigin) -> Member {
    let linked = app
        .state
        .store
        .transaction(
            (app, id, subject.to_owned(), origin),
            |session, (app, id, subject, origin)| {
                async move {
                    let (db, now) = (&app.state.db, app.state.store.now());
                    let found = db.members.find_in_transaction(session, *id).await?;
                    let mut member = found.unwrap();
                    let linked = db.users.link_member(session, &mut member, subject, now);
                    linked.await?;
                    member.authentik = Some(SignInAccount {
                        pk: 7,
                        subject: subject.clone(),
                        origin: *origin,
                        password_issued_at: None,
                    });
                    if member.status == MemberStatus::Pending {
                        member.status = MemberStatus::Active;
                    }
                    member.revision += 1;
                    db.members.save(session, &member).await?;
                    Ok::<_, TransactionError<StoreError>>(member)
                }
                .boxed()
            },
        )
        .await;
    linked.unwrap()
}

/// A provisioned member of `demo` whose account was created for it. Signs in as [`Caller::Stranger`].
async fn provisioned(app: &TestApp, local_part: &str) -> Member {
    let member = created(app, local_part).await;
    link(
        app,
        member.id,
        Caller::Stranger.subject(),
        AccountOrigin::Created,
    )
    .await
}

/// Kinds of the jobs of a member, oldest first.
async fn kinds_of(app: &TestApp, member: &Member) -> Vec<String> {
    let jobs = app.jobs().await.into_iter();
    let of_member = jobs.filter(|job| job.member_id() == Some(member.id));
    of_member.map(|job| job.kind).collect()
}
