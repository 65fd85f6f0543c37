//! Creation of members.

use super::*;
use crate::personas::Persona;

#[tokio::test]
async fn a_created_member_is_pending_until_its_job_is_done() {
    let app = TestApp::with_demo().await;
    let body = json!({
        "localPart": " Ada.King ", "name": "Ada King", "role": "admin", "aliases": ["ada", "Countess@DEMO.test"],
        "mailboxQuotaBytes": 5_000_000_000_i64, "password": "generate",
    });

    let reply = create(&app, body).await;

    assert_eq!(reply.summary(), "202");
    insta::assert_json_snapshot!(reply.body, {
        ".id" => "[id]", ".job.id" => "[id]", ".job.href" => "[href]", ".oneTimePassword" => "[password]",
        ".conditions" => "[conditions]", ".createdAt" => "[time]", ".updatedAt" => "[time]", ".passwordIssuedAt" => "[time]",
    }, @r#"
    {
      "conditions": "[conditions]",
      "createdAt": "[time]",
      "email": "ada.king@demo.test",
      "generation": 1,
      "id": "[id]",
      "job": {
        "href": "[href]",
        "id": "[id]",
        "state": "available"
      },
      "mailbox": {
        "address": "ada.king@demo.test",
        "aliases": [
          "ada@demo.test",
          "countess@demo.test"
        ],
        "quotaBytes": 5000000000
      },
      "managed": true,
      "name": "Ada King",
      "oneTimePassword": "[password]",
      "passwordIssuedAt": "[time]",
      "passwordScope": "all",
      "provisioningErrors": {},
      "provisioningStatus": {
        "authentik": "pending",
        "ocis": "pending",
        "stalwart": "pending"
      },
      "revision": 1,
      "role": "admin",
      "status": "pending",
      "updatedAt": "[time]"
    }
    "#);
    let id: MemberId = app::id_of(&reply.body["id"]);
    let stored = member(&app, id).await;
    let job = app.jobs().await.pop().unwrap();
    assert_eq!(
        (job.kind.as_str(), job.member_id()),
        ("provision_member", Some(id))
    );
    assert_eq!(job.lock_key, format!("tenant:{}", stored.tenant_id));
    assert!(job.had_secrets && job.secrets.is_some());
    assert_eq!(
        reply.header("location").unwrap(),
        format!("/jobs/{}", job.id)
    );
    assert_eq!(reply.etag(), "\"1.1\"");
    assert_eq!(stored.words, ["ada", "countess", "demo", "king", "test"]);
    let event = app.audit_event("member.create").await;
    assert_eq!(
        event
            .get_document("target")
            .unwrap()
            .get_str("kind")
            .unwrap(),
        "member"
    );
    assert_eq!(event.get_str("outcome").unwrap(), "accepted");
    let shown = app.owner().get(path(&stored, "")).await;
    assert_eq!(shown.body["mailbox"], reply.body["mailbox"]);
    assert!(shown.body["oneTimePassword"].is_null());
    let unchanged = app
        .owner()
        .get(path(&stored, ""))
        .if_none_match(shown.etag())
        .await;
    assert_eq!(unchanged.summary(), "304");
}

#[tokio::test]
async fn a_mailbox_needs_an_owned_primary_domain_and_a_member_without_one_does_not() {
    let app = TestApp::with_demo().await;
    let body = json!({ "slug": "bare", "name": "Bare" });
    app.operator().post("/tenants", body).await;
    let post = async |body: Value| app.operator().post("/tenants/bare/users", body).await;

    let no_domain = post(new("ada")).await;
    let no_login =
        post(json!({ "localPart": "ada", "name": "A", "role": "member", "mailbox": false })).await;
    let elsewhere =
        json!({ "email": "Ada@Work.test", "name": "A", "role": "owner", "mailbox": false });
    let without = post(elsewhere).await;
    let claim = json!({ "name": "claimed.test" });
    app.owner().post("/tenants/demo/domains", claim).await;
    let claimed = create(
        &app,
        json!({ "localPart": "a", "name": "A", "role": "member", "aliases": ["a@claimed.test"] }),
    )
    .await;

    assert_eq!(no_domain.summary(), "409 no_mail_domain");
    assert_eq!(no_login.summary(), "409 no_mail_domain");
    assert_eq!(without.summary(), "202");
    assert_eq!(without.body["email"], "ada@work.test");
    assert!(without.body["mailbox"].is_null());
    assert_eq!(without.body["passwordScope"], "signIn");
    assert_eq!(claimed.summary(), "422 validation_failed");
    assert_eq!(claimed.errors(), [("/aliases/0", "unknown_domain")]);
}

#[tokio::test]
async fn the_login_is_the_address_unless_an_address_elsewhere_is_given() {
    let app = TestApp::with_demo().await;
    let with_email = |email: &str, local: Option<&str>| json!({ "email": email, "localPart": local, "name": "A", "role": "member" });

    let from_email = create(&app, with_email("Grace@Demo.test", None)).await;
    let elsewhere = create(&app, with_email("ada@work.test", Some("ada"))).await;
    let no_local = create(&app, with_email("alan@work.test", None)).await;
    let differs = create(&app, with_email("x@demo.test", Some("y"))).await;
    let reserved = create(&app, with_email("abuse@demo.test", None)).await;

    assert_eq!(from_email.body["email"], "grace@demo.test");
    assert_eq!(from_email.body["mailbox"]["address"], "grace@demo.test");
    assert_eq!(elsewhere.body["email"], "ada@work.test");
    assert_eq!(elsewhere.body["mailbox"]["address"], "ada@demo.test");
    assert_eq!(no_local.errors(), [("/localPart", "missing")]);
    assert_eq!(differs.errors(), [("/email", "differs_from_mailbox")]);
    assert_eq!(reserved.errors(), [("/email", "reserved_local_part")]);
}

#[tokio::test]
async fn an_address_of_another_member_is_taken_whether_login_address_or_alias() {
    let app = TestApp::with_demo().await;
    let with_alias =
        json!({ "localPart": "ada", "name": "A", "role": "member", "aliases": ["sales"] });
    assert_eq!(create(&app, with_alias).await.status, 202);
    let consultant =
        json!({ "email": "zoe@work.test", "name": "Z", "role": "member", "mailbox": false });
    assert_eq!(create(&app, consultant.clone()).await.status, 202);
    let no_mailbox =
        |email: &str| json!({ "email": email, "name": "A", "role": "member", "mailbox": false });

    for taken in [
        new("ada"),
        new("SALES"),
        json!({ "localPart": "b", "name": "B", "role": "member", "aliases": ["ada"] }),
        json!({ "localPart": "b", "name": "B", "role": "member", "aliases": ["sales@demo.test"] }),
        no_mailbox("sales@demo.test"),
        no_mailbox("ADA@demo.test"),
        consultant.clone(),
    ] {
        let reply = create(&app, taken.clone()).await;
        assert_eq!(reply.summary(), "409 address_taken", "{taken}");
        assert!(reply.body["detail"].as_str().unwrap().contains('@'));
    }

    // A person in two tenants has one login.
    app.create("other").await;
    let elsewhere = app
        .operator()
        .post("/tenants/other/users", no_mailbox("ada@demo.test"))
        .await;
    assert_eq!(elsewhere.summary(), "202");
    assert_eq!(
        elsewhere.body["passwordScope"],
        Value::Null,
        "the account is demo's"
    );
    assert_eq!(elsewhere.body["oneTimePassword"], Value::Null);
}

#[tokio::test]
async fn a_login_in_a_domain_of_another_tenant_needs_a_person_who_has_it() {
    let app = TestApp::with_demo().await;
    app.create("other").await;
    let guest = async |email: &str| {
        let body = json!({ "email": email, "name": "A", "role": "member", "mailbox": false });
        create(&app, body).await
    };

    let squatted = guest("newhire@other.test").await;
    let unowned = guest("freelancer@mail.test").await;
    // A person who has signed in, and one whom the owner of the domain has added.
    let member = app.user(Caller::Member).await;
    let address = doc! { "email": "known@other.test" };
    app.set_user(member.id, address).await;
    let known = guest("known@other.test").await;
    let body = json!({ "localPart": "ada", "name": "A", "role": "member" });
    app.operator().post("/tenants/other/users", body).await;
    let added = guest("ada@other.test").await;

    assert_eq!(squatted.summary(), "409 login_in_foreign_domain");
    for created in [&unowned, &known, &added] {
        assert_eq!(created.summary(), "202");
    }
    assert_eq!(unowned.body["passwordScope"], "signIn");
    for existing in [known, added] {
        assert_eq!(existing.body["oneTimePassword"], Value::Null);
    }
}

#[tokio::test]
async fn an_import_checks_logins_in_domains_of_other_tenants_too() {
    let app = TestApp::with_demo().await;
    app.create("other").await;
    let file = "email,name,role,mailbox\nada@demo.test,Ada,member,false\n";

    let import = app
        .operator()
        .post_empty("/tenants/other/users/import?dryRun=true");
    let import = import.body("text/csv", file).await;

    let code = &import.body["rows"][0]["errors"][0]["code"];
    assert_eq!(code, "login_in_foreign_domain");
}

#[tokio::test]
async fn a_removed_members_address_is_free_again_only_after_the_purge() {
    let app = TestApp::with_demo().await;
    let ada = created(&app, "ada").await;
    let removed = app.owner().delete(path(&ada, "")).await;

    let early = create(&app, new("ada")).await;
    let mut gone = member(&app, ada.id).await;
    gone.mark_removed();
    let members = app.state.store.collection::<Member>("members");
    members
        .replace_one(doc! { "_id": ada.id }, &gone)
        .await
        .unwrap();
    let late = create(&app, new("ada")).await;
    let again = member(&app, app::id_of(&late.body["id"])).await;

    assert_eq!(removed.summary(), "202");
    assert_eq!(early.summary(), "409 address_taken");
    assert_eq!(late.summary(), "202");
    assert_ne!(again.id, ada.id);
    assert_eq!(
        app.owner().get(path(&ada, "")).await.summary(),
        "404 not_found"
    );
}

#[tokio::test]
async fn owners_are_created_by_owners_and_operators_alone() {
    let app = TestApp::with_personas().await;
    let owner = |local: &str| json!({ "localPart": local, "name": "O", "role": "owner" });
    let postmaster = |local: &str| json!({ "localPart": local, "name": "P", "role": "member", "aliases": ["postmaster"] });
    let by = async |persona: Persona, body: Value| app.client(persona).post(USERS, body).await;

    assert_eq!(
        by(Persona::Admin, owner("a")).await.summary(),
        "403 forbidden"
    );
    assert_eq!(
        by(Persona::PartnerOwner, owner("a")).await.summary(),
        "403 forbidden"
    );
    assert_eq!(
        by(Persona::Admin, postmaster("a")).await.summary(),
        "403 forbidden"
    );
    assert_eq!(by(Persona::Owner, owner("a")).await.summary(), "202");
    assert_eq!(by(Persona::Operator, owner("b")).await.summary(), "202");
    assert_eq!(by(Persona::Owner, postmaster("c")).await.summary(), "202");
    assert_eq!(
        by(Persona::Owner, postmaster("d")).await.summary(),
        "409 address_taken"
    );
}

#[tokio::test]
async fn a_member_can_be_created_in_a_suspended_tenant_and_not_in_a_terminating_one() {
    let app = TestApp::with_demo().await;
    app.set_tenant("demo", doc! { "status": "suspended" }).await;
    let suspended = create(&app, new("ada")).await;
    app.set_tenant("demo", doc! { "status": "terminating" })
        .await;
    let terminating = create(&app, new("bob")).await;

    let ada = member(&app, app::id_of(&suspended.body["id"])).await;
    let suspend = act(&app, &ada, "/suspend").await;

    assert_eq!(suspended.summary(), "202");
    assert_eq!(terminating.summary(), "409 tenant_terminating");
    assert_eq!(suspend.summary(), "409 tenant_terminating");
}

#[tokio::test]
async fn no_member_is_created_without_encryption_keys() {
    let app = TestApp::with_demo().await.without_encryption_keys();

    let reply = create(&app, new("ada")).await;

    assert_eq!(reply.summary(), "503 sealing_not_configured");
    assert_eq!(app.count("members").await, 0);
}

#[tokio::test]
async fn enforced_seats_of_the_plan_are_a_limit() {
    let app = TestApp::with_demo().await;
    let seats = json!({ "seats": 1, "seatsEnforced": true });
    let set = app.operator().patch("/allowances/business", seats).await;
    assert_eq!(set.summary(), "200");
    let person = |name: &str| json!({ "localPart": name, "name": name, "role": "member" });

    let first = create(&app, person("ada")).await;
    let second = create(&app, person("bob")).await;

    assert_eq!(first.summary(), "202");
    assert_eq!(second.summary(), "409 no_seats");
}
