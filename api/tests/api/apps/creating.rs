//! Creation.

use bson::doc;
use dezky_shared::app::{AppStatus, GrantType};
use dezky_sim::callers::Caller;
use serde_json::json;

use super::{carried, create, jobs, new, path_of, stored};
use crate::{app::TestApp, client::send_all};

#[tokio::test]
async fn a_new_app_has_a_client_id_a_secret_and_the_urls_of_its_issuer() {
    let app = TestApp::with_demo().await;

    let created = create(&app, &new("wiki")).await;

    assert_eq!(created.status, 202, "{created:?}");
    let body = &created.body;
    let secret = body["clientSecret"].as_str().unwrap();
    assert_eq!(secret.len(), 64);
    assert_eq!(
        (&body["status"], &body["clientType"], &body["scopes"]),
        (
            &json!("pending"),
            &json!("confidential"),
            &json!(["openid", "email", "profile"])
        )
    );
    assert_eq!(body["grantTypes"], json!(["authorization_code"]));
    assert_eq!(body["accessTokenMinutes"], 5);
    let root = "https://auth.example.com/application/o";
    assert_eq!(body["issuer"], format!("{root}/demo_wiki/"));
    assert_eq!(
        body["endpoints"],
        json!({
            "discovery": format!("{root}/demo_wiki/.well-known/openid-configuration"),
            "authorize": format!("{root}/authorize/"),
            "token": format!("{root}/token/"),
            "userinfo": format!("{root}/userinfo/"),
            "endSession": format!("{root}/demo_wiki/end-session/"),
            "jwks": format!("{root}/demo_wiki/jwks/"),
        })
    );
    let job = &jobs(&app, "provision_app").await[0];
    assert_eq!(carried(&app, job).as_deref(), Some(secret));
    assert_eq!(created.header("location"), body["job"]["href"].as_str());
    assert_eq!(
        job.lock_key,
        format!("tenant:{}", app.tenant("demo").await.id)
    );
    let read = app.owner().get(path_of(&created)).await;
    assert_eq!(read.body["clientId"], body["clientId"]);
    assert_eq!(read.body.get("clientSecret"), None);
    assert_eq!(stored(&app, "wiki").await.status, AppStatus::Pending);
}

#[tokio::test]
async fn offline_access_allows_refresh_tokens() {
    let app = TestApp::with_demo().await;
    let mut body = new("wiki");
    body["scopes"] = json!(["offline_access"]);

    let created = create(&app, &body).await;

    assert_eq!(created.body["scopes"], json!(["openid", "offline_access"]));
    let stored = stored(&app, "wiki").await;
    let both = [GrantType::AuthorizationCode, GrantType::RefreshToken];
    assert_eq!(stored.grant_types, both);
}

#[tokio::test]
async fn a_public_client_has_no_secret_and_may_use_its_own_scheme() {
    let app = TestApp::with_demo().await.without_encryption_keys();
    let mut body = new("mobile");
    body["clientType"] = json!("public");
    body["redirectUris"] = json!(["com.example.app:/callback"]);

    let created = create(&app, &body).await;
    let rotated = app
        .owner()
        .post_empty(format!("{}/rotate-secret", path_of(&created)))
        .await;

    assert_eq!(created.status, 202, "{created:?}");
    assert_eq!(created.body.get("clientSecret"), None);
    assert!(jobs(&app, "provision_app").await[0].secrets.is_none());
    assert_eq!(rotated.summary(), "503 sealing_not_configured");
    body["clientType"] = json!("confidential");
    let refused = create(&app, &body).await;
    assert_eq!(
        refused.errors(),
        [("/redirectUris/0", "invalid_redirect_uri")]
    );
}

#[tokio::test]
async fn a_slug_is_unique_in_its_tenant() {
    let app = TestApp::with_demo().await;
    app.create("globex").await;
    create(&app, &new("wiki")).await;

    let again = create(&app, &new("wiki")).await;
    let elsewhere = app
        .operator()
        .post("/tenants/globex/apps", new("wiki"))
        .await;

    assert_eq!(again.summary(), "409 app_exists");
    assert_eq!(elsewhere.status, 202, "{elsewhere:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_requests_for_one_slug_one_wins() {
    let app = TestApp::with_demo().await;
    let body = new("wiki");

    let calls = (0..2).map(|_| app.owner().post("/tenants/demo/apps", &body));
    let replies = send_all(calls).await;

    let mut summaries: Vec<String> = replies
        .iter()
        .map(super::super::client::Reply::summary)
        .collect();
    summaries.sort();
    assert_eq!(replies.iter().filter(|it| it.status == 202).count(), 1);
    assert!(
        summaries.contains(&"409 app_exists".to_owned()),
        "{summaries:?}"
    );
    assert_eq!(app.count("apps").await, 1);
}

#[tokio::test]
async fn a_tenant_has_a_limited_number_of_apps() {
    let app = TestApp::with_demo().await;
    create(&app, &new("wiki")).await;
    let like = app.document("apps", doc! {}).await;
    let copies = (1..100).map(|n| {
        let mut copy = like.clone();
        copy.extend(doc! {
            "_id": bson::Uuid::new(), "slug": format!("app{n}"), "clientId": format!("client-{n}"),
        });
        copy
    });
    app.collection("apps").insert_many(copies).await.unwrap();

    let refused = create(&app, &new("one-more")).await;

    assert_eq!(refused.summary(), "409 too_many_apps");
}

#[tokio::test]
async fn a_terminating_tenant_gets_no_app_and_a_suspended_one_does() {
    let app = TestApp::with_demo().await;
    app.operator().post_empty("/tenants/demo/suspend").await;
    let suspended = create(&app, &new("wiki")).await;
    app.operator().delete("/tenants/demo?confirm=demo").await;
    let terminating = create(&app, &new("board")).await;

    assert_eq!(suspended.status, 202, "{suspended:?}");
    assert_eq!(terminating.summary(), "409 tenant_terminating");
}

#[tokio::test]
async fn a_list_is_paged_and_shows_no_other_tenants_apps() {
    let app = TestApp::with_demo().await;
    app.create("globex").await;
    app.operator()
        .post("/tenants/globex/apps", new("wiki"))
        .await;
    for slug in ["one", "two", "three"] {
        create(&app, &new(slug)).await;
    }

    let first = app.owner().get("/tenants/demo/apps?limit=2").await;
    let cursor = first.body["nextCursor"].as_str().unwrap();
    let path = format!("/tenants/demo/apps?limit=2&cursor={cursor}");
    let second = app.owner().get(path).await;
    let id = first.body["items"][0]["id"].as_str().unwrap();
    let elsewhere = app
        .operator()
        .get(format!("/tenants/globex/apps/{id}"))
        .await;
    let member = app.client(Caller::Member).get("/tenants/demo/apps").await;

    assert_eq!(first.texts("/slug"), ["one", "two"]);
    assert_eq!(second.texts("/slug"), ["three"]);
    assert_eq!(elsewhere.summary(), "404 not_found");
    assert_eq!(member.summary(), "403 forbidden");
}

#[tokio::test]
async fn a_public_client_has_no_secret_to_rotate() {
    let app = TestApp::with_demo().await;
    let mut body = new("mobile");
    body["clientType"] = json!("public");
    let path = path_of(&create(&app, &body).await);

    let refused = app
        .owner()
        .post_empty(format!("{path}/rotate-secret"))
        .await;

    assert_eq!(refused.summary(), "409 public_client");
}
