//! Second factors of a tenant's people: status and reset.

use std::time::Duration;

use bson::{DateTime, doc};
use dezky_shared::{
    id::UserId,
    member::Member,
    platform::clock,
    queue::{
        args::{LookUpMfa, ResetMfa},
        job::{Job, JobArgs as _},
    },
    store::to_document,
    user::Role,
};
use dezky_sim::callers::Caller;
use futures::future::join_all;
use serde_json::{Value, json};

use crate::{app::TestApp, client::Reply, personas::Persona};

const PATH: &str = "/tenants/demo/mfa-status";

impl TestApp {
    async fn set_mfa_report(&self, as_of: DateTime) {
        let demo = self.tenant("demo").await.id;
        let report =
            doc! { "asOf": as_of, "enrolled": 1_i64, "notEnrolled": 1_i64, "unknown": 0_i64 };
        let reports = self.collection("mfa_reports");
        let set = doc! { "$set": report };
        let stored = reports.update_one(doc! { "_id": demo }, set).upsert(true);
        stored.await.unwrap();
    }

    async fn jobs_of(&self, kind: &str) -> Vec<Job> {
        let mut jobs = self.jobs().await;
        jobs.retain(|job| job.kind == kind);
        jobs
    }

    async fn reset_mfa(&self, persona: Persona, user: UserId) -> Reply {
        let path = format!("/tenants/demo/users/{user}/reset-mfa");
        self.client(persona).post_empty(path).await
    }
}

#[tokio::test]
async fn devices_are_shown_by_type_with_their_age() {
    let app = TestApp::with_demo().await;
    let now = app.state.store.now();
    app.set_mfa_report(now).await;
    let [owner, member] = [
        app.user(Caller::Owner).await.id,
        app.user(Caller::Member).await.id,
    ];
    let enrolled = doc! { "devices": 2, "byType": { "totp": 1, "webauthn": 1, "static": 1 }, "allVisible": false, "lookedUpAt": now };
    app.set_user(owner, doc! { "mfa": enrolled }).await;
    let none =
        doc! { "devices": 0, "byType": { "static": 1 }, "allVisible": true, "lookedUpAt": now };
    app.set_user(member, doc! { "mfa": none }).await;

    let reply = app.owner().get(PATH).await;

    let person = |id: UserId| {
        let mut items = reply.items().iter();
        items.find(|it| it["userId"] == id.to_string()).unwrap()
    };
    assert_eq!(person(owner)["enrolled"], "yes");
    assert_eq!(
        person(owner)["devices"],
        json!({ "totp": 1, "webauthn": 1, "static": 1 })
    );
    assert_eq!(person(owner)["role"], "owner");
    assert_eq!(person(member)["enrolled"], "no");
    assert_eq!(
        reply.body["totals"],
        json!({ "enrolled": 1, "notEnrolled": 1, "unknown": 0 })
    );
    assert_eq!(reply.body["job"], Value::Null);
    assert!(app.jobs_of(LookUpMfa::KIND).await.is_empty());
}

#[tokio::test]
async fn second_factors_that_were_not_looked_up_are_unknown() {
    let app = TestApp::with_demo().await;
    let member = app.user(Caller::Member).await.id;
    let hidden = doc! { "devices": 0, "allVisible": false, "lookedUpAt": app.state.store.now() };
    app.set_user(member, doc! { "mfa": hidden }).await;

    let reply = app.owner().get(PATH).await;

    assert!(!reply.items().is_empty());
    for person in reply.items() {
        assert_eq!(person["enrolled"], "unknown", "{person}");
    }
    assert_eq!(reply.body["asOf"], Value::Null);
    assert_eq!(reply.body["job"]["state"], "available");
}

#[tokio::test]
async fn an_old_look_up_is_repeated_by_one_job() {
    let app = TestApp::with_demo().await;
    let old = clock::earlier(app.state.store.now(), Duration::from_mins(6));
    app.set_mfa_report(old).await;

    let owner = app.owner();
    let replies = join_all((0..8).map(|_| owner.get(PATH).send())).await;

    let [job] = &app.jobs_of(LookUpMfa::KIND).await[..] else {
        panic!("{:#?}", app.jobs().await);
    };
    for reply in &replies {
        assert_eq!(reply.body["job"]["id"], job.id.to_string());
        assert_eq!(reply.body["totals"]["enrolled"], 1);
    }
}

#[tokio::test]
async fn a_caller_who_waits_is_answered_with_the_new_look_up() {
    let app = TestApp::with_demo().await;
    let look_up = async {
        let job = loop {
            if let Some(job) = app.jobs_of(LookUpMfa::KIND).await.pop() {
                break job;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        app.set_mfa_report(app.state.store.now()).await;
        app.set_job(job.id, doc! { "state": "completed" }).await;
    };

    let (reply, ()) = tokio::join!(app.owner().get(PATH).wait(20).send(), look_up);

    assert_eq!(reply.body["totals"]["enrolled"], 1);
    assert_eq!(reply.body["job"]["state"], "completed");
}

#[tokio::test]
async fn a_reset_is_carried_out_by_a_job_and_audited() {
    let app = TestApp::with_personas().await;
    let member = app.user(Persona::Member).await.id;

    let reply = app.reset_mfa(Persona::Owner, member).await;

    assert_eq!(reply.status, 202);
    assert_eq!(reply.body["userId"], member.to_string());
    let [job] = &app.jobs_of(ResetMfa::KIND).await[..] else {
        panic!("{:#?}", app.jobs().await);
    };
    let args: ResetMfa = job.args().unwrap();
    assert_eq!((args.user_id, args.by_operator), (member, false));
    assert_eq!(reply.body["job"]["id"], job.id.to_string());
    let event = app.audit_event("user.resetMfa").await;
    assert_eq!(event.get_str("outcome").unwrap(), "accepted");
    let target = event.get_document("target").unwrap();
    assert_eq!(target.get_str("id").unwrap(), member.to_string());
}

#[tokio::test]
async fn a_person_with_access_elsewhere_is_reset_by_operators_only() {
    let app = TestApp::with_personas().await;
    app.create("other").await;
    let other = app.tenant("other").await.id;
    let partner = app.insert_partner("another", "active").await;
    let member = app.user(Persona::Member).await;
    let elsewhere = doc! { "tenantId": other, "role": "member", "source": "local", "changedAt": app.state.store.now() };
    let mut cases = vec![
        doc! { "platformAdmin": true },
        doc! { "partnerId": partner },
    ];
    let mut memberships = app
        .document("users", doc! { "_id": member.id })
        .await
        .get_array("memberships")
        .unwrap()
        .clone();
    memberships.push(elsewhere.into());
    cases.push(doc! { "memberships": memberships });
    for case in cases {
        app.put_user(&member).await;
        app.set_user(member.id, case.clone()).await;

        let by_owner = app.reset_mfa(Persona::Owner, member.id).await;
        let jobs = app.jobs_of(ResetMfa::KIND).await.len();
        let by_operator = app.reset_mfa(Persona::Operator, member.id).await;

        assert_eq!(by_owner.summary(), "409 shared_account", "{case}");
        assert_eq!(by_operator.status, 202, "{case}");
        let reset = app.jobs_of(ResetMfa::KIND).await;
        assert_eq!(reset.len(), jobs + 1);
        let newest = reset.iter().max_by_key(|job| job.id).unwrap();
        assert!(newest.args::<ResetMfa>().unwrap().by_operator);
    }
}

#[tokio::test]
async fn only_operators_reset_a_member_who_had_the_account_before() {
    let app = TestApp::with_personas().await;
    let person = app.user(Persona::Member).await;
    let demo = app.tenant("demo").await.id;
    let member = doc! {
        "tenantId": demo, "userId": person.id, "email": "member@demo.test", "name": "M",
        "role": "member", "status": "active",
    };
    let mut stored = to_document(&Member::new(
        demo,
        "member@demo.test",
        "M",
        Role::Member,
        None,
        app.state.store.now(),
    ))
    .unwrap();
    stored.extend(member);
    let account = |origin: &str| doc! { "pk": 7_i64, "subject": &person.authentik_subject_id, "origin": origin };
    stored.insert("authentik", account("adopted"));
    let id = stored.get("_id").cloned().unwrap();
    app.collection("members").insert_one(stored).await.unwrap();

    let adopted = app.reset_mfa(Persona::Owner, person.id).await;
    let by_operator = app.reset_mfa(Persona::Operator, person.id).await;
    let created = doc! { "authentik": account("created") };
    app.set("members", doc! { "_id": id }, created).await;
    let created = app.reset_mfa(Persona::Owner, person.id).await;

    assert_eq!(adopted.summary(), "409 shared_account");
    assert_eq!(
        (by_operator.status.as_u16(), created.status.as_u16()),
        (202, 202)
    );
}

#[tokio::test]
async fn no_one_resets_their_own_account_or_a_stranger() {
    let app = TestApp::with_personas().await;
    let owner = app.user(Persona::Owner).await.id;
    let stranger = app.user(Persona::Stranger).await.id;

    let own = app.reset_mfa(Persona::Owner, owner).await;
    let of_stranger = app.reset_mfa(Persona::Owner, stranger).await;
    let unknown = app.reset_mfa(Persona::Operator, UserId::new()).await;

    assert_eq!(own.summary(), "409 own_account");
    assert_eq!(of_stranger.summary(), "404 not_found");
    assert_eq!(unknown.summary(), "404 not_found");
    assert!(app.jobs_of(ResetMfa::KIND).await.is_empty());
}

#[tokio::test]
async fn a_reset_in_a_tenant_that_is_being_terminated_is_rejected() {
    let app = TestApp::with_personas().await;
    let member = app.user(Persona::Member).await.id;
    app.set_tenant("demo", doc! { "status": "terminating" })
        .await;

    let reply = app.reset_mfa(Persona::Owner, member).await;

    assert_eq!(reply.summary(), "409 tenant_terminating");
}
