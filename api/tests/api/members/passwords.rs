//! One-time passwords: told once, and stored encrypted only.

use dezky_shared::member::MemberSecrets;
use futures::TryStreamExt as _;

use super::*;

fn password(reply: &Reply) -> String {
    let password = reply.body["oneTimePassword"].as_str().unwrap();
    assert_eq!(password.len(), 24, "{password}");
    password.to_owned()
}

/// The text of every stored document.
async fn stored_text(app: &TestApp) -> String {
    let mut texts = Vec::new();
    let database = app.state.store.database();
    for name in database.list_collection_names().await.unwrap() {
        let found = app.collection(&name).find(doc! {}).await.unwrap();
        let documents: Vec<bson::Document> = found.try_collect().await.unwrap();
        texts.push(format!("{documents:?}"));
    }
    texts.concat()
}

#[tokio::test]
async fn a_replay_gives_no_second_secret_and_creates_nothing() {
    let app = TestApp::with_demo().await;
    let post = async || {
        app.owner()
            .post(USERS, new("ada"))
            .idempotency_key("once")
            .await
    };
    let first = post().await;
    let replayed = post().await;
    let ada = member(&app, app::id_of(&first.body["id"])).await;
    let reset = async || {
        app.owner()
            .post_empty(path(&ada, "/reset-password"))
            .idempotency_key("twice")
            .await
    };
    let second = reset().await;
    let second_replayed = reset().await;

    assert_ne!(password(&first), password(&second));
    for (reply, replay) in [(&first, &replayed), (&second, &second_replayed)] {
        assert!(replay.is_replayed());
        assert_eq!(replay.summary(), "202");
        assert_eq!(replay.body["oneTimePassword"], Value::Null);
        assert_eq!(replay.body["secretAlreadyShown"], true);
        assert_eq!(replay.body["job"]["id"], reply.body["job"]["id"]);
    }
    assert_eq!(app.count("members").await, 1);
    assert_eq!(
        kinds_of(&app, &ada).await,
        ["provision_member", "reset_member_password"]
    );
}

#[tokio::test]
async fn no_password_is_stored_in_the_clear() {
    let app = TestApp::with_demo().await;
    let created = app
        .owner()
        .post(USERS, new("ada"))
        .idempotency_key("once")
        .await;
    let ada = member(&app, app::id_of(&created.body["id"])).await;
    let reset = act(&app, &ada, "/reset-password").await;

    let stored = stored_text(&app).await;
    let jobs = app.jobs().await;
    for (reply, kind) in [
        (&created, "provision_member"),
        (&reset, "reset_member_password"),
    ] {
        let password = password(reply);
        assert!(!stored.contains(&password));
        assert!(!stored.contains(&password.replace('-', "")));
        let job = jobs.iter().find(|job| job.kind == kind).unwrap();
        let keys = &app.config.encryption_keys;
        let secrets: MemberSecrets = keys.decrypt(job.id, job.secrets.as_ref().unwrap()).unwrap();
        assert_eq!(secrets.password, password);
    }
    let job = jobs
        .iter()
        .find(|job| job.kind == "reset_member_password")
        .unwrap();
    let shown = app.operator().get(format!("/jobs/{}", job.id)).await;
    assert!(!shown.body.to_string().contains(&password(&reset)));
}

#[tokio::test]
async fn of_several_passwords_the_last_one_issued_is_in_force() {
    let app = TestApp::with_demo().await;
    let ada = created(&app, "ada").await;
    act(&app, &ada, "/reset-password").await;
    act(&app, &ada, "/reset-password").await;

    let stored = member(&app, ada.id).await;
    let keys = &app.config.encryption_keys;
    let jobs = app
        .jobs()
        .await
        .into_iter()
        .filter(|job| job.member_id() == Some(ada.id));
    let issued: Vec<bool> = jobs
        .map(|job| {
            let secrets: MemberSecrets =
                keys.decrypt(job.id, job.secrets.as_ref().unwrap()).unwrap();
            Some(secrets.issued_at) == stored.password_issued_at
        })
        .collect();

    assert_eq!(issued, [false, false, true]);
}

#[tokio::test]
async fn a_password_that_belongs_to_the_person_is_not_reset() {
    let app = TestApp::with_demo().await;
    let reset = async |member: &Member| {
        app.operator()
            .post_empty(path(member, "/reset-password"))
            .await
    };
    let ours = provisioned(&app, "ada").await;
    let all = reset(&ours).await;

    // The person joins another tenant, which the domain of their login does not belong to.
    app.create("other").await;
    let other = app.tenant("other").await.id;
    let membership = doc! { "tenantId": other, "role": "member", "source": "local", "changedAt": app.state.store.now() };
    app.collection("users")
        .update_one(
            doc! { "_id": ours.user_id.unwrap() },
            doc! { "$push": { "memberships": membership } },
        )
        .await
        .unwrap();
    let again = reset(&ours).await;
    app.set_tenant("demo", doc! { "domains": [] }).await;
    let mailbox = reset(&ours).await;

    let adopted =
        json!({ "email": "grace@work.test", "name": "G", "role": "member", "mailbox": false });
    let adopted = create(&app, adopted).await;
    let subject = Caller::OperatorWithoutFlag.subject();
    let adopted = link(
        &app,
        app::id_of(&adopted.body["id"]),
        subject,
        AccountOrigin::Adopted,
    )
    .await;
    let rejected = reset(&adopted).await;

    assert_eq!(all.body["passwordScope"], "all");
    assert_eq!(mailbox.body["passwordScope"], "mailbox");
    assert_eq!(again.body["passwordScope"], "all");
    assert_eq!(rejected.summary(), "409 password_not_ours");
    let shown = app.owner().get(path(&adopted, "")).await;
    assert_eq!(shown.body["signIn"], "existing");
}

#[tokio::test]
async fn an_operator_or_partner_account_is_never_a_tenants_to_set() {
    let app = TestApp::with_demo().await;
    for (index, fields) in [
        doc! { "platformAdmin": true },
        doc! { "partnerId": dezky_shared::id::PartnerId::new() },
    ]
    .into_iter()
    .enumerate()
    {
        let ada = created(&app, &format!("a{index}")).await;
        let subject = format!("00000000-0000-4000-b000-00000000000{index}");
        let ada = link(&app, ada.id, &subject, AccountOrigin::Created).await;
        app.set("users", doc! { "authentikSubjectId": &subject }, fields)
            .await;

        let reset = act(&app, &ada, "/reset-password").await;

        assert_eq!(reset.body["passwordScope"], "mailbox", "{reset:?}");
    }
}
