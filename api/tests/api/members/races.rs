//! Concurrent changes.

use dezky_api::{AppState, router};

use super::*;
use crate::client::{send_all, sorted_summaries};

#[tokio::test]
async fn of_two_admins_creating_one_address_at_once_one_succeeds() {
    let app = TestApp::with_demo().await;
    for round in 0..20 {
        let local = format!("ada{round}");
        let alias = json!({ "localPart": format!("b{round}"), "name": "B", "role": "member", "aliases": [local] });

        let replies = send_all([
            app.owner().post(USERS, new(&local)),
            app.operator().post(USERS, alias),
        ])
        .await;

        assert_eq!(sorted_summaries(&replies), ["202", "409 address_taken"]);
    }
    assert_eq!(app.count("members").await, 20);
}

/// Two processes do not share the mutex that serializes the commands on one tenant.
#[tokio::test]
async fn of_two_processes_creating_one_address_at_once_one_succeeds() {
    let app = TestApp::with_demo().await;
    let second = AppState::new(&app.config, &app.state.store, &app.shutdown).unwrap();
    let second = router(second);
    for round in 0..20 {
        let body = new(&format!("ada{round}"));

        let (one, other) = tokio::join!(
            app.owner().post(USERS, body.clone()).send(),
            app.owner()
                .post(USERS, body.clone())
                .through(&second)
                .send(),
        );

        assert_eq!(
            sorted_summaries([&one, &other]),
            ["202", "409 address_taken"]
        );
    }
    assert_eq!(app.count("members").await, 20);
}

#[tokio::test]
async fn of_two_processes_taking_the_last_seat_at_once_one_succeeds() {
    let app = TestApp::with_demo().await;
    let second = AppState::new(&app.config, &app.state.store, &app.shutdown).unwrap();
    let second = router(second);
    for round in 1..=10 {
        let seats = json!({ "seats": round, "seatsEnforced": true });
        app.operator().patch("/allowances/business", seats).await;
        // Without a mailbox, so that no address conflicts.
        let guest = |name: &str| {
            let email = format!("{name}{round}@work.test");
            json!({ "email": email, "name": name, "role": "member", "mailbox": false })
        };

        let (one, other) = tokio::join!(
            app.owner().post(USERS, guest("ada")).send(),
            app.owner()
                .post(USERS, guest("bob"))
                .through(&second)
                .send(),
        );

        assert_eq!(sorted_summaries([&one, &other]), ["202", "409 no_seats"]);
    }
}

#[tokio::test]
async fn a_member_created_while_the_domain_is_removed_never_has_an_address_in_a_removed_domain() {
    let app = TestApp::with_demo().await;
    for round in 0..20 {
        let name = format!("d{round}.test");
        let domain = json!({ "name": name });
        app.operator().post("/tenants/demo/domains", domain).await;
        let body = json!({
            "localPart": format!("a{round}"), "name": "A", "role": "member", "aliases": [format!("x@{name}")],
        });

        let replies = send_all([
            app.owner().post(USERS, body),
            app.owner().delete(format!("/tenants/demo/domains/{name}")),
        ])
        .await;

        let summaries = sorted_summaries(&replies);
        assert!(
            summaries == ["202", "409 domain_in_use"]
                || summaries == ["202", "409 domain_removing"],
            "{summaries:?}"
        );
    }
}

#[tokio::test]
async fn a_suspension_and_a_removal_at_once_leave_no_rights() {
    let app = TestApp::with_demo().await;
    let ada = provisioned(&app, "ada").await;

    let replies = send_all([
        app.owner().post_empty(path(&ada, "/suspend")),
        app.owner().delete(path(&ada, "")),
        app.owner().post_empty(path(&ada, "/resume")),
    ])
    .await;

    assert_eq!(
        member(&app, ada.id).await.status,
        MemberStatus::Removing,
        "{replies:?}"
    );
    assert_eq!(
        app.stranger().get("/tenants/demo").await.summary(),
        "404 not_found"
    );
}
