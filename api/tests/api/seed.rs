//! What is there from the start.

use dezky_api::seed::seed;

use crate::app::TestApp;

#[tokio::test]
async fn the_default_tenant_is_seeded_once_however_often_and_by_however_many() {
    let app = TestApp::start().await;

    let (one, two) = tokio::join!(seed(&app.state), seed(&app.state));
    one.unwrap();
    two.unwrap();
    seed(&app.state).await.unwrap();

    let tenant = app.tenant("dezky").await;
    let subscriptions = app
        .state
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
async fn a_subscription_that_is_missing_is_seeded_alone() {
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
