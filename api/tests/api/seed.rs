//! Seeding of the default tenant.

use dezky_api::seed::seed;

use crate::app::TestApp;

#[tokio::test]
async fn concurrent_and_repeated_seeding_creates_the_default_tenant_once() {
    let app = TestApp::start().await;

    let (one, two) = tokio::join!(seed(&app.state), seed(&app.state));
    one.unwrap();
    two.unwrap();
    seed(&app.state).await.unwrap();

    let tenant = app.tenant("dezky").await;
    let subscriptions = app
        .state
        .db
        .subscriptions
        .list_for(&[tenant.id])
        .await
        .unwrap();
    assert_eq!((app.count("tenants").await, subscriptions.len()), (1, 1));
    assert_eq!(app.kinds().await, ["provision_tenant"]);
    assert_eq!(
        app.actions().await,
        ["tenant.create", "subscription.create", "flag.create"]
    );
    assert_eq!(app.jobs().await[0].created_by, "system");
}

#[tokio::test]
async fn a_missing_subscription_is_seeded_without_recreating_the_tenant() {
    let app = TestApp::start().await;
    seed(&app.state).await.unwrap();
    app.collection("subscriptions")
        .delete_many(bson::doc! {})
        .await
        .unwrap();

    seed(&app.state).await.unwrap();

    assert_eq!(
        (app.count("tenants").await, app.count("subscriptions").await),
        (1, 1)
    );
    assert_eq!(app.count("jobs").await, 1);
}
