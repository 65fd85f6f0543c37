//! Creation in each state of the tenant, and at its limits.

use dezky_shared::member::MEMBERS_PER_TENANT;

use super::*;

#[tokio::test]
async fn a_member_is_created_unless_the_tenant_is_being_terminated() {
    let app = TestApp::with_demo().await;
    for (number, (status, expected)) in [
        ("pending", "202"),
        ("active", "202"),
        ("suspended", "202"),
        ("terminating", "409 tenant_terminating"),
        ("terminated", "409 tenant_terminated"),
    ]
    .into_iter()
    .enumerate()
    {
        app.set_tenant("demo", doc! { "status": status }).await;
        let before = (app.count("members").await, app.count("jobs").await);

        let reply = app
            .operator()
            .post(USERS, new(&format!("ada{number}")))
            .await;

        assert_eq!(reply.summary(), expected, "{status}");
        let made = u64::from(expected == "202");
        let after = (app.count("members").await, app.count("jobs").await);
        assert_eq!(after, (before.0 + made, before.1 + made), "{status}");
    }
}

#[tokio::test]
async fn a_tenant_has_at_most_ten_thousand_members() {
    let app = TestApp::with_demo().await;
    let tenant = app.tenant("demo").await.id;
    let members = (1..MEMBERS_PER_TENANT).map(|number| {
        doc! {
            "_id": MemberId::new(), "tenantId": tenant, "status": "active",
            "email": format!("m{number}@work.test"),
        }
    });
    let stored = app.collection("members");
    stored
        .insert_many(members.collect::<Vec<_>>())
        .await
        .unwrap();

    let last = create(&app, new("ada")).await;
    let beyond = create(&app, new("bob")).await;

    assert_eq!(last.summary(), "202");
    assert_eq!(beyond.summary(), "409 too_many_members");
}

#[tokio::test]
async fn creations_at_once_with_the_suspension_and_resumption_of_the_tenant_all_have_a_job() {
    let app = TestApp::with_demo().await;
    app.set_tenant("demo", doc! { "status": "active" }).await;
    for round in 0..20 {
        let act = |action: &str| app.operator().post_empty(format!("/tenants/demo/{action}"));

        let (created, suspended, resumed) = tokio::join!(
            app.operator()
                .post(USERS, new(&format!("ada{round}")))
                .send(),
            act("suspend").send(),
            act("resume").send(),
        );

        assert_eq!(created.summary(), "202");
        for reply in [suspended, resumed] {
            assert!(["202", "200"].contains(&&*reply.summary()), "{reply:?}");
        }
        let member = member(&app, app::id_of(&created.body["id"])).await;
        assert_eq!(kinds_of(&app, &member).await, ["provision_member"]);
    }
}

#[tokio::test]
async fn a_person_with_a_new_role_after_the_purge_is_listed_and_managed() {
    let app = TestApp::with_demo().await;
    let ada = provisioned(&app, "ada").await;
    app.owner().delete(path(&ada, "")).await;
    // As the worker does with the purge.
    let mut gone = member(&app, ada.id).await;
    gone.mark_removed();
    let members = app.state.store.collection::<Member>("members");
    members
        .replace_one(doc! { "_id": ada.id }, &gone)
        .await
        .unwrap();
    let user = ada.user_id.unwrap();
    let mut person = app.state.db.users.find(user).await.unwrap().unwrap();
    person.leave_member(ada.tenant_id, ada.id);
    app.put_user(&person).await;

    let granted = app
        .operator()
        .patch(
            format!("/users/{user}"),
            json!({ "tenantRoles": { "demo": "admin" } }),
        )
        .await;
    let list = app.owner().get(USERS).await;
    let removed = app.owner().delete(format!("{USERS}/{user}")).await;

    assert_eq!(granted.summary(), "200");
    let listed = list.items().iter();
    let listed = listed.filter(|person| person["id"] == user.to_string());
    assert_eq!(listed.count(), 1);
    assert_eq!(removed.summary(), "200");
}

#[tokio::test]
async fn second_factors_of_a_suspended_member_are_reset_after_a_resume() {
    let app = TestApp::with_demo().await;
    let ada = provisioned(&app, "ada").await;
    act(&app, &ada, "/suspend").await;

    let suspended = act(&app, &ada, "/reset-mfa").await;
    act(&app, &ada, "/resume").await;
    let resumed = act(&app, &ada, "/reset-mfa").await;

    assert_eq!(suspended.summary(), "409 member_suspended");
    assert_eq!(resumed.summary(), "202");
}

#[tokio::test]
async fn the_conditions_hold_for_a_version_that_changes_the_role_alone() {
    let app = TestApp::with_demo().await;
    let ada = provisioned(&app, "ada").await;
    let patch = async |body| app.owner().patch(path(&ada, ""), body).await;

    let role = patch(json!({ "role": "admin" })).await;
    let name = patch(json!({ "name": "Ada Lovelace" })).await;

    assert_eq!(role.summary(), "200");
    assert_eq!(role.body["generation"], ada.generation + 1);
    for condition in role.body["conditions"].as_array().unwrap() {
        assert_eq!(condition["observedGeneration"], ada.generation + 1);
    }
    assert_eq!(name.summary(), "202");
    assert_eq!(name.body["generation"], ada.generation + 2);
}

#[tokio::test]
async fn a_member_with_a_user_is_always_sent_in_full() {
    let app = TestApp::with_demo().await;
    let ada = provisioned(&app, "ada").await;
    let first = app.owner().get(path(&ada, "")).await;

    let again = app
        .owner()
        .get(path(&ada, ""))
        .if_none_match(first.etag())
        .await;

    // Second factors may have changed, which are no part of the version.
    assert_eq!(again.summary(), "200");
}

#[tokio::test]
async fn the_response_after_the_job_says_what_the_password_has_opened() {
    let app = TestApp::with_demo().await;
    for (number, (account, mailbox, scope)) in [
        (true, true, json!("all")),
        (true, false, json!("signIn")),
        (false, true, json!("mailbox")),
        (false, false, Value::Null),
    ]
    .into_iter()
    .enumerate()
    {
        let work = async {
            let job = loop {
                let mut jobs = app.jobs().await;
                jobs.retain(|job| job.kind == "provision_member" && !job.state.is_final());
                if let Some(job) = jobs.pop() {
                    break job;
                }
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            };
            let id = job.member_id().unwrap();
            let subject = format!("00000000-0000-4000-b000-0000000000{number:02}");
            let linked = link(&app, id, &subject, AccountOrigin::Created).await;
            let issued = linked.password_issued_at.unwrap();
            let mut set = doc! {};
            if account {
                set.insert("authentik.passwordIssuedAt", issued);
            }
            if mailbox {
                set.insert("mailbox.passwordIssuedAt", issued);
            }
            if !set.is_empty() {
                app.set("members", doc! { "_id": id }, set).await;
            }
            app.set_job(job.id, doc! { "state": "completed" }).await;
        };

        let create = app.owner().post(USERS, new(&format!("ada{number}")));
        let (reply, ()) = tokio::join!(create.wait(20).send(), work);

        assert_eq!(reply.body["passwordScope"], scope, "{reply:?}");
        assert_eq!(reply.body["oneTimePassword"].is_null(), scope.is_null());
    }
}
