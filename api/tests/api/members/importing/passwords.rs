//! Passwords of imported members: a file that is handed over once.

use bson::Document;
use futures::TryStreamExt as _;
use http_body_util::BodyExt as _;

use super::*;
use crate::client::Call;

/// A response whose body is text.
struct Fetched {
    status: u16,
    content_type: String,
    cache_control: String,
    text: String,
}

async fn open(call: Call<'_>) -> Fetched {
    let (parts, body) = call.open().await.into_parts();
    let header = |name: &str| {
        let value = parts.headers.get(name);
        value.map_or("", |value| value.to_str().unwrap()).to_owned()
    };
    let bytes = body.collect().await.unwrap().to_bytes();
    Fetched {
        status: parts.status.as_u16(),
        content_type: header("content-type"),
        cache_control: header("cache-control"),
        text: String::from_utf8(bytes.to_vec()).unwrap(),
    }
}

fn passwords_of(import: &Value) -> String {
    format!(
        "{USERS}/imports/{}/passwords",
        import["id"].as_str().unwrap()
    )
}

/// The cells of each line after the header.
fn cells(text: &str) -> Vec<Vec<String>> {
    let lines = text.strip_prefix('\u{feff}').unwrap().lines().skip(1);
    let cells = |line: &str| {
        let inner = line.strip_prefix('"').unwrap().strip_suffix('"').unwrap();
        inner.split("\",\"").map(str::to_owned).collect()
    };
    lines.map(cells).collect()
}

async fn carried_out(app: &TestApp, file: &str) -> Value {
    let import = accepted(app, file).await;
    carry_out(app, &import).await;
    import
}

#[tokio::test]
async fn the_passwords_are_handed_over_once_and_removed() {
    let app = TestApp::with_demo().await;
    let import = carried_out(&app, TWO).await;
    let path = passwords_of(&import);

    let fetched = open(app.owner().post_empty(&path).idempotency_key("k")).await;
    let repeated = app.owner().post_empty(&path).idempotency_key("k").await;
    let again = app.owner().post_empty(&path).await;

    assert_eq!(fetched.status, 200);
    assert!(
        fetched.content_type.starts_with("text/csv"),
        "{}",
        fetched.content_type
    );
    assert_eq!(fetched.cache_control, "no-store");
    let lines = cells(&fetched.text);
    assert_eq!(lines.len(), 2);
    assert_eq!(
        lines[0][..4],
        ["2", "ada@demo.test", "ada@demo.test", "Ada King"]
    );
    assert_eq!(lines[0][4].len(), 24, "{lines:?}");
    assert_eq!(lines[0][5..], ["all", ""]);
    assert_ne!(lines[0][4], lines[1][4]);
    assert_eq!(repeated.summary(), "410 passwords_gone");
    assert_eq!(again.summary(), "410 passwords_gone");
    assert_eq!(app.count("member_import_passwords").await, 0);
    let rows = report(&app, &import).await;
    assert_eq!(rows[0]["oneTimePassword"], "fetched");
    assert!(rows[0]["passwordExpiresAt"].is_null());
    let event = app.audit_event("memberImport.passwords").await;
    assert!(!event.to_string().contains(&lines[0][4]));
    let keys = app.collection("idempotency_keys").find(doc! {}).await;
    let keys: Vec<Document> = keys.unwrap().try_collect().await.unwrap();
    assert!(!keys.is_empty() && !format!("{keys:?}").contains(&lines[0][4]));
}

#[tokio::test]
async fn of_requests_at_once_one_gets_the_passwords() {
    let app = TestApp::with_demo().await;
    for round in 0..10 {
        let file = format!("localPart,name,role\na{round},A,member\n");
        let path = passwords_of(&carried_out(&app, &file).await);

        let calls =
            [app.owner(), app.operator(), app.owner()].map(|client| client.post_empty(&path));
        let replies = send_all(calls).await;

        let handed_over = replies.iter().filter(|reply| reply.status == 200).count();
        assert_eq!(handed_over, 1, "{replies:?}");
    }
}

#[tokio::test]
async fn the_passwords_wait_for_the_end_of_the_job() {
    let app = TestApp::with_demo().await;
    let import = carried_out(&app, TWO).await;
    let job = app::id_of(&import["job"]["id"]);
    let path = passwords_of(&import);

    app.set_job(job, doc! { "state": "running" }).await;
    let running = app.owner().post_empty(&path).await;
    app.set_job(job, doc! { "state": "cancelled" }).await;
    let cancelled = open(app.owner().post_empty(&path)).await;

    assert_eq!(running.summary(), "409 import_running");
    assert_eq!(running.body["retryable"], true);
    assert_eq!(cancelled.status, 200);
}

#[tokio::test]
async fn an_expired_password_has_to_be_reset() {
    let app = TestApp::with_demo().await;
    let import = carried_out(&app, TWO).await;
    let past = DateTime::from_millis(1_000);
    let (rows, passwords) = ("member_import_rows", "member_import_passwords");
    app.set(
        rows,
        doc! { "n": 1_i64 },
        doc! { "passwordExpiresAt": past },
    )
    .await;
    let first = app.document(rows, doc! { "n": 1_i64 }).await;
    let member = first.get("memberId").unwrap().clone();
    app.set(
        passwords,
        doc! { "memberId": member },
        doc! { "expireAt": past },
    )
    .await;

    let before = report(&app, &import).await;
    let fetched = open(app.owner().post_empty(passwords_of(&import))).await;

    assert_eq!(before[0]["oneTimePassword"], "expired");
    assert_eq!(before[1]["oneTimePassword"], "inFile");
    let lines = cells(&fetched.text);
    assert_eq!(
        lines[0][4..],
        ["", "", "The password has expired: reset it."]
    );
    assert_eq!(lines[1][4].len(), 24);
}

#[tokio::test]
async fn a_line_says_why_it_has_no_password() {
    let app = TestApp::with_demo().await;
    let file = "localPart,name,role\nreset,R,member\ngone,G,member\nadopted,A,member\n";
    let import = carried_out(&app, file).await;
    let ids: Vec<MemberId> = report(&app, &import)
        .await
        .as_array()
        .unwrap()
        .iter()
        .map(|row| app::id_of(&row["memberId"]))
        .collect();
    let reset = member(&app, ids[0]).await;
    assert_eq!(act(&app, &reset, "/reset-password").await.status, 202);
    app.set(
        "members",
        doc! { "_id": ids[1] },
        doc! { "status": "removed" },
    )
    .await;
    let subject = Caller::Stranger.subject();
    link(&app, ids[2], subject, AccountOrigin::Adopted).await;

    let fetched = open(app.owner().post_empty(passwords_of(&import))).await;

    let lines = cells(&fetched.text);
    assert_eq!(lines[0][4..], ["", "", "A newer password was issued."]);
    assert_eq!(
        lines[1][1..],
        ["gone", "", "", "", "", "The member was removed."]
    );
    assert_eq!(lines[2][5..], ["mailbox", ""]);
}

#[tokio::test]
async fn names_do_not_become_formulas_in_the_file() {
    let app = TestApp::with_demo().await;
    let file =
        "localPart;name;role\na;=HYPERLINK(A1);member\nb;+45;member\nc;-A1;member\nd;@x;member\n";
    let import = carried_out(&app, file).await;

    let fetched = open(app.owner().post_empty(passwords_of(&import))).await;

    let names: Vec<String> = cells(&fetched.text)
        .into_iter()
        .map(|mut cells| cells.swap_remove(3))
        .collect();
    assert_eq!(names, ["'=HYPERLINK(A1)", "'+45", "'-A1", "'@x"]);
}

#[tokio::test]
async fn the_requester_owners_and_operators_fetch_the_passwords() {
    let app = TestApp::with_personas().await;
    let admin = app.client(Persona::Admin);

    for (persona, expected) in [
        (Persona::Admin, 200),
        (Persona::Owner, 200),
        (Persona::Operator, 200),
        (Persona::PartnerManager, 403),
        (Persona::PartnerReadOnly, 403),
        (Persona::Member, 403),
        (Persona::OtherOwner, 404),
    ] {
        let file = format!("localPart,name,role\n{persona:?},P,member\n");
        let import = send(&admin, "", file).await.body;
        carry_out(&app, &import).await;

        let reply = app.client(persona).post_empty(passwords_of(&import)).await;

        assert_eq!(reply.status, expected, "{persona:?}");
    }
}

#[tokio::test]
async fn an_admin_gets_no_password_of_a_member_who_was_made_an_owner() {
    let app = TestApp::with_personas().await;
    let import = send(&app.client(Persona::Admin), "", TWO).await.body;
    carry_out(&app, &import).await;
    let rows = report(&app, &import).await;
    let ada: MemberId = app::id_of(&rows[0]["memberId"]);
    app.set("members", doc! { "_id": ada }, doc! { "role": "owner" })
        .await;

    let call = app.client(Persona::Admin).post_empty(passwords_of(&import));
    let lines = cells(&open(call).await.text);

    assert_eq!(lines[0][4], "");
    assert!(lines[0][6].contains("owner"), "{lines:?}");
    assert_eq!(lines[1][4].len(), 24);
}

#[tokio::test]
async fn a_password_is_withheld_if_the_rights_of_the_person_cannot_be_read() {
    let app = TestApp::with_demo().await;
    let import = carried_out(&app, TWO).await;
    let first = report(&app, &import).await[0]["memberId"].clone();
    let subject = Caller::Stranger.subject();
    let linked = link(&app, app::id_of(&first), subject, AccountOrigin::Created).await;
    let user = doc! { "_id": linked.user_id.unwrap() };
    app.set(
        "users",
        user,
        doc! { "platformAdminSource": "of_a_newer_build" },
    )
    .await;

    let fetched = open(app.owner().post_empty(passwords_of(&import))).await;

    let lines = cells(&fetched.text);
    let note = "The rights of the person cannot be read: reset the password.";
    assert_eq!(lines[0][4..], ["", "", note]);
    assert_eq!(lines[1][4].len(), 24);
}
