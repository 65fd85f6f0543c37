//! Health of a tenant with an open app.

use bson::doc;

use super::{create, new};
use crate::app::TestApp;

#[tokio::test]
async fn a_tenant_with_an_open_app_is_critical_until_it_is_closed() {
    let app = TestApp::with_demo().await;
    create(&app, &new("wiki")).await;
    let restricted = |status: &str, reason: &str| {
        doc! { "conditions": [{
            "type": "Restricted", "status": status, "reason": reason, "message": "m", "observedGeneration": 1_i64,
            "lastTransitionAt": app.state.store.now(),
        }] }
    };

    app.set("apps", doc! {}, restricted("false", "BindingMissing"))
        .await;
    let open = app.owner().get("/tenants/demo/summary").await;
    app.set("apps", doc! {}, restricted("true", "BindingPresent"))
        .await;
    let closed = app.owner().get("/tenants/demo/summary").await;

    assert_eq!(open.body["health"]["status"], "critical");
    let reason = &open.body["health"]["reasons"][0];
    assert_eq!(reason["code"], "apps_open");
    assert_eq!(
        reason["message"],
        "1 app without a restriction to the tenant's members."
    );
    let reasons = closed.body["health"]["reasons"].to_string();
    assert!(!reasons.contains("apps_open"), "{reasons}");
}
