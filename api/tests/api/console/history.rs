//! The course of the backlog on the overview.

use std::{collections::BTreeMap, time::Duration};

use dezky_shared::{
    platform::clock,
    queue::{
        backlog_peak::{BacklogPeak, INTERVAL},
        job::Queue,
    },
};
use dezky_sim::callers::Caller;

use super::browser::{Browser, app};

#[tokio::test]
async fn the_backlog_of_the_last_24_hours_is_drawn_with_its_peak_and_last_number() {
    let app = app().await;
    let mut browser = Browser::signed_in(&app, Caller::Operator).await;
    let before = browser.get("/console").await;
    let now = app.state.store.now();
    let peaks = &app.state.db.backlog_peaks;
    for (age, due) in [
        (Duration::from_hours(26), 999_u64),
        (INTERVAL * 2, 40),
        (INTERVAL * 2, 30),
        (INTERVAL, 12),
    ] {
        let due = BTreeMap::from([(Queue::Dns, due)]);
        let sample = BacklogPeak::sample(&due, 3, clock::earlier(now, age));
        peaks.record(&sample).await.unwrap();
    }

    let page = browser.get("/console").await;

    assert!(
        before
            .text
            .contains("takes the first sample within a minute"),
        "{}",
        before.text
    );
    let label = |jobs: &str| format!("aria-label=\"Jobs {jobs} in the last 24 hours; ");
    let (of_dns, of_discarded) = (label("due in dns"), label("discarded"));
    for shown in [
        format!("{of_dns}peak 40, last 12\""),
        format!("{of_discarded}peak 3, last 3\""),
    ] {
        assert!(page.text.contains(&shown), "{shown}: {}", page.text);
    }
    assert_eq!(page.text.matches("class=\"spark\"").count(), 2);
    // A step down, without a gap between the intervals.
    assert!(page.text.contains(" 0h1V17h1\""), "{}", page.text);
}
