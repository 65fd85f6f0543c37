//! Imports of members: files, dry runs, reports and passwords. The worker's tests cover the creation of the members.

mod files;
mod passwords;

use bson::DateTime;
use dezky_shared::{
    id::MemberImportId,
    member_import::{ImportRow, ImportedPassword, RowOutcome, RowPassword},
    platform::clock,
    queue::job::JobState,
};

use super::*;
use crate::{
    client::{Client, send_all},
    personas::Persona,
};

/// Path that takes a file.
const IMPORT: &str = "/tenants/demo/users/import";
/// A file of two new members.
const TWO: &str = "localPart,name,role\nada,Ada King,member\nbob,Bob,admin\n";

/// Sends a CSV file.
async fn send(client: &Client<'_>, query: &str, file: impl Into<Vec<u8>>) -> Reply {
    let path = format!("{IMPORT}{query}");
    client.post_empty(path).body("text/csv", file).await
}

/// Dry run of a CSV file by the owner.
async fn dry_run(app: &TestApp, file: impl Into<Vec<u8>>) -> Reply {
    send(&app.owner(), "?dryRun=true", file).await
}

/// Accepts a CSV file of the owner.
async fn accepted(app: &TestApp, file: &str) -> Value {
    let reply = send(&app.owner(), "", file).await;
    assert_eq!(reply.summary(), "202", "{reply:?}");
    reply.body
}

/// Line, outcome, and the pointers and codes of the errors of each row.
fn rows(rows: &Value) -> Vec<String> {
    let rows = rows.as_array().unwrap().iter();
    let text = |row: &Value| {
        let errors = row["errors"].as_array().into_iter().flatten();
        let errors = errors.map(|error| {
            assert_ne!(error["message"].as_str().unwrap(), "", "{error}");
            let pointer = error["pointer"].as_str().unwrap_or_default();
            format!(" {pointer} {}", error["code"].as_str().unwrap())
        });
        let outcome = row["outcome"].as_str().unwrap();
        format!("{} {outcome}{}", row["line"], errors.collect::<String>())
    };
    rows.map(text).collect()
}

/// Rows of an import, as listed.
async fn report(app: &TestApp, import: &Value) -> Value {
    let id = import["id"].as_str().unwrap();
    let path = format!("{USERS}/imports/{id}/rows?limit=100");
    app.owner().get(path).await.body["items"].clone()
}

/// Carries an import out as the worker does: creates the members of its pending rows, and finishes its job.
async fn carry_out(app: &TestApp, import: &Value) {
    let id: MemberImportId = app::id_of(&import["id"]);
    let imports = &app.state.db.member_imports;
    let pending = Some(RowOutcome::Pending);
    let stored = imports.list_rows(id, pending, 0, 100).await.unwrap();
    let (mut settled, mut passwords) = (Vec::new(), Vec::new());
    for row in stored {
        let (row, password) = created_row(app, id, row).await;
        settled.push(row);
        passwords.push(password);
    }
    let job = app::id_of(&import["job"]["id"]);
    let written = app
        .state
        .store
        .transaction(
            (imports.clone(), settled, passwords),
            |session, (imports, settled, passwords)| {
                async move {
                    imports.add_passwords(session, passwords).await?;
                    imports.settle(session, id, settled, job).await?;
                    Ok::<_, TransactionError<StoreError>>(())
                }
                .boxed()
            },
        )
        .await;
    written.unwrap();
    let state = JobState::Completed.name();
    app.set_job(job, doc! { "state": state }).await;
}

async fn created_row(
    app: &TestApp,
    import_id: MemberImportId,
    mut row: ImportRow,
) -> (ImportRow, ImportedPassword) {
    let new = row.member.clone().unwrap();
    let body = json!({
        "localPart": new.local_part, "name": new.name, "role": new.role, "aliases": [],
    });
    let reply = create(app, body).await;
    let member: MemberId = app::id_of(&reply.body["id"]);
    let job = app.jobs().await.pop().unwrap();
    assert_eq!(job.member_id(), Some(member));
    let expire_at = clock::later(app.state.store.now(), std::time::Duration::from_hours(24));
    row.outcome = RowOutcome::Created;
    row.member_id = Some(member);
    row.password = Some(RowPassword::InFile);
    row.password_expires_at = Some(expire_at);
    row.at = Some(app.state.store.now());
    let password = ImportedPassword {
        job_id: job.id,
        import_id,
        member_id: member,
        secrets: job.secrets.unwrap(),
        expire_at,
    };
    (row, password)
}

#[tokio::test]
async fn an_import_is_stored_with_its_rows_its_job_and_an_audit_event() {
    let app = TestApp::with_demo().await;
    let file = format!("{TWO}cid,,member\n");

    let reply = send(&app.owner(), "", file).await;

    assert_eq!(reply.summary(), "202");
    insta::assert_json_snapshot!(reply.body, {
        ".id" => "[id]", ".job.id" => "[id]", ".job.href" => "[href]", ".requestedBy" => "[id]", ".createdAt" => "[time]",
    }, @r#"
    {
      "created": 0,
      "createdAt": "[time]",
      "exists": 0,
      "id": "[id]",
      "job": {
        "href": "[href]",
        "id": "[id]",
        "state": "available"
      },
      "pending": 2,
      "refused": 1,
      "requestedBy": "[id]",
      "total": 3
    }
    "#);
    let job = app.jobs().await.pop().unwrap();
    assert_eq!(job.kind, "import_members");
    assert_eq!(
        job.lock_key,
        format!("import:{}", app.tenant("demo").await.id)
    );
    let location = format!("/jobs/{}", job.id);
    assert_eq!(reply.header("location"), Some(location.as_str()));
    assert_eq!(
        rows(&report(&app, &reply.body).await),
        ["2 pending", "3 pending", "4 refused /name too_short"]
    );
    let event = app.audit_event("memberImport.create").await;
    assert_eq!(event.get_str("outcome").unwrap(), "accepted");
    let id = reply.body["id"].as_str().unwrap();
    let shown = app.owner().get(format!("{USERS}/imports/{id}")).await;
    assert_eq!(shown.body, reply.body);
    let listed = app.owner().get(format!("{USERS}/imports")).await;
    assert_eq!(listed.items(), [reply.body]);
    assert_eq!(app.count("members").await, 0);
}

#[tokio::test]
async fn a_repeated_file_is_one_import_with_an_idempotency_key_and_another_import_without() {
    let app = TestApp::with_demo().await;
    let keyed = |file: &str| {
        let call = app.owner().post_empty(IMPORT).body("text/csv", file);
        call.idempotency_key("k")
    };

    let first = keyed(TWO).await;
    let again = keyed(TWO).await;
    let other = keyed("localPart,name,role\neve,Eve,member\n").await;
    let dry = app.owner().post_empty(format!("{IMPORT}?dryRun=true"));
    let dry = dry.body("text/csv", TWO).idempotency_key("k").await;
    let without = accepted(&app, TWO).await;

    assert_eq!(
        (first.summary(), again.summary()),
        ("202".into(), "202".into())
    );
    assert!(again.is_replayed());
    assert_eq!(again.body, first.body);
    assert_eq!(other.summary(), "422 idempotency_key_reused");
    assert_eq!(dry.summary(), "422 idempotency_key_reused");
    assert_ne!(without["id"], first.body["id"]);
    assert_eq!(app.count("member_imports").await, 2);
}

#[tokio::test]
async fn a_dry_run_decides_every_row_as_the_import_would_and_changes_nothing() {
    let app = TestApp::with_demo().await;
    let sales =
        json!({ "localPart": "grace", "name": "G", "role": "member", "aliases": ["sales"] });
    create(&app, sales).await;
    let leaving = created(&app, "leaving").await;
    app.owner().delete(path(&leaving, "")).await;
    let file = "localPart,email,name,role,mailbox,aliases\n\
        ada,,Ada,member,,\n\
        grace,,Grace,member,,\n\
        sales,,Sales,member,,\n\
        leaving,,L,member,,\n\
        ADA,,Ada again,member,,\n\
        ben,,Ben,member,,ada\n\
        ,x@work.test,X,member,false,\n\
        ,y@work.test,Y,member,,\n\
        \"a b\",,,boss,maybe,\n\
        \"a b\",,,boss,,c..d\n";
    let before = app.count("audit_events").await;

    let reply = dry_run(&app, file).await;

    assert_eq!(reply.summary(), "200");
    assert_eq!(
        rows(&reply.body["rows"]),
        [
            "3 exists",
            "4 refused  address_taken",
            "5 refused  member_removing",
            "6 refused  duplicate_row",
            "7 refused  duplicate_row",
            "9 refused /localPart missing",
            "10 refused /mailbox wrong_type",
            "11 refused /localPart invalid_local_part /name too_short /role invalid_role /aliases/0 invalid_local_part",
        ]
    );
    let numbers = ["total", "created", "exists", "refused"].map(|name| &reply.body[name]);
    assert_eq!(numbers, [10, 2, 1, 7].map(Value::from).each_ref());
    assert_eq!(app.count("member_imports").await, 0);
    assert_eq!(app.count("audit_events").await, before);
}

#[tokio::test]
async fn a_dry_run_counts_the_seats() {
    let app = TestApp::with_demo().await;
    let seats = json!({ "seats": 2, "seatsEnforced": true });
    app.operator().patch("/allowances/business", seats).await;
    created(&app, "ada").await;

    let reply = dry_run(&app, format!("{TWO}cid,Cid,member\n")).await;

    assert_eq!(
        rows(&reply.body["rows"]),
        ["2 exists", "4 refused  no_seats"]
    );
}

#[tokio::test]
async fn a_tenant_without_a_domain_imports_members_without_mailboxes() {
    let app = TestApp::with_demo().await;
    let bare = json!({ "slug": "bare", "name": "Bare" });
    app.operator().post("/tenants", bare).await;
    let file =
        "email,localPart,name,role,mailbox\n,ada,Ada,member,true\nb@work.test,,Bob,member,false\n";

    let path = "/tenants/bare/users/import?dryRun=true";
    let call = app.operator().post_empty(path);
    let reply = call.body("text/csv", file).await;

    assert_eq!(rows(&reply.body["rows"]), ["2 refused  no_mail_domain"]);
    let message = &reply.body["rows"][0]["errors"][0]["message"];
    assert!(message.as_str().unwrap().contains("domain"), "{message}");
}

#[tokio::test]
async fn only_owners_and_operators_import_owners_and_reserved_aliases() {
    let app = TestApp::with_personas().await;
    let file = "localPart,name,role,aliases\nada,Ada,owner,\nbob,Bob,member,postmaster\n";

    for (persona, refused) in [
        (Persona::Admin, 2),
        (Persona::PartnerManager, 2),
        (Persona::Owner, 0),
        (Persona::Operator, 0),
    ] {
        let reply = send(&app.client(persona), "?dryRun=true", file).await;

        assert_eq!(reply.body["refused"], refused, "{persona:?}: {reply:?}");
    }
    let admin = send(&app.client(Persona::Admin), "?dryRun=true", file).await;
    assert_eq!(
        rows(&admin.body["rows"]),
        ["2 refused /role forbidden", "3 refused /aliases forbidden"]
    );
}

#[tokio::test]
async fn no_import_begins_in_a_terminating_tenant_or_without_encryption_keys() {
    let app = TestApp::with_demo().await;
    app.set_tenant("demo", doc! { "status": "terminating" })
        .await;
    let terminating = send(&app.owner(), "", TWO).await;
    app.set_tenant("demo", doc! { "status": "suspended" }).await;
    let suspended = send(&app.owner(), "", TWO).await;
    let app = app.without_encryption_keys();
    let keyless = send(&app.owner(), "", TWO).await;

    assert_eq!(terminating.summary(), "409 tenant_terminating");
    assert_eq!(suspended.summary(), "202");
    assert_eq!(keyless.summary(), "503 sealing_not_configured");
}

#[tokio::test]
async fn a_page_of_rows_is_full_although_a_row_of_a_newer_build_is_left_out() {
    let app = TestApp::with_demo().await;
    let import = accepted(&app, &format!("{TWO}cyd,Cyd,member\n")).await;
    let id: MemberImportId = app::id_of(&import["id"]);
    let first = doc! { "importId": id, "n": 1_i64 };
    let newer = doc! { "outcome": "of_a_newer_build" };
    app.set("member_import_rows", first, newer).await;

    let path = format!("{USERS}/imports/{id}/rows?limit=1");
    let page = app.owner().get(path).await;

    assert_eq!(page.items().len(), 1, "{page:?}");
    assert_eq!(page.items()[0]["line"], 3);
    assert!(page.body["nextCursor"].is_string(), "{page:?}");
}

#[tokio::test]
async fn an_import_of_another_tenant_is_not_found() {
    let app = TestApp::with_demo().await;
    app.create("other").await;
    let import = accepted(&app, TWO).await;
    let id = import["id"].as_str().unwrap();

    for path in ["", "/rows"] {
        let path = format!("/tenants/other/users/imports/{id}{path}");
        assert_eq!(app.operator().get(path).await.summary(), "404 not_found");
    }
    let path = format!("/tenants/other/users/imports/{id}/passwords");
    let fetched = app.operator().post_empty(path).await;
    assert_eq!(fetched.summary(), "404 not_found");
}
