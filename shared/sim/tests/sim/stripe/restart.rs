//! Restart of the simulator: its objects and its clock survive, and no id is given twice.

use super::Api;

const DAY: i64 = 24 * 60 * 60;

#[tokio::test]
async fn objects_and_clock_survive_a_restart() {
    let before = Api::start().await;
    let customer = before.customer().await;
    before.sim.advance(40 * DAY);
    let saved = before.sim.saved();

    let after = Api::start().await;
    after.sim.number_from_now();
    after.sim.restore(saved).unwrap();

    // Within a day, as the test may take its time.
    let ahead = after.sim.now() - Api::start().await.sim.now();
    assert!((39 * DAY..=40 * DAY).contains(&ahead), "{ahead}");
    let found = after.get(&format!("customers/{customer}"), &[]).await;
    assert_eq!((found.status, found.id()), (200, customer.as_str()));
    let other = after.customer().await;
    assert_ne!(other, customer);
    assert_eq!(after.sim.objects("customer").len(), 2);
}

#[tokio::test]
async fn a_state_of_another_form_is_refused() {
    let api = Api::start().await;

    let refused = api.sim.restore(serde_json::json!({ "objects": 1 }));

    assert!(refused.is_err());
    assert!(api.sim.objects("customer").is_empty());
}
