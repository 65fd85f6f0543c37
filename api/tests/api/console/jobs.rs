//! The page of a job: its times and its arguments.

use bson::{DateTime, doc};
use dezky_sim::callers::Caller;

use super::browser::{Browser, app};

#[tokio::test]
async fn attempts_and_steps_are_drawn_on_an_axis_and_listed_with_the_same_times() {
    let app = app().await;
    let job = app.first_job().await;
    let at = |seconds: i64| DateTime::from_millis(1_790_000_000_000 + seconds * 1_000);
    let attempt = doc! {
        "n": 1, "worker": "worker-1", "startedAt": at(0), "finishedAt": at(10), "outcome": "retry",
    };
    let step = doc! {
        "name": "authentik", "state": "ok", "attempts": 0, "startedAt": at(1), "finishedAt": at(6),
    };
    let pending = doc! { "name": "stalwart", "state": "pending", "attempts": 0 };
    app.set_job(
        job,
        doc! { "attempts": [attempt], "steps": [step, pending], "attempt": 1 },
    )
    .await;
    let mut browser = Browser::signed_in(&app, Caller::Operator).await;

    let page = browser.get(&format!("/console/jobs/{job}")).await;

    let text = &page.text;
    assert_eq!(text.matches("<rect ").count(), 2, "{text}");
    assert!(
        text.contains("<title>Attempt 1: retry, 10 s</title>"),
        "{text}"
    );
    assert!(text.contains("<title>authentik: ok, 5 s</title>"), "{text}");
    for (end, cells) in [(at(0), 1), (at(10), 1), (at(1), 1), (at(6), 1)] {
        let time = end.try_to_rfc3339_string().unwrap();
        let prefix = &time[..19];
        let shown = format!("<time datetime=\"{prefix}");
        assert_eq!(text.matches(&shown).count(), cells, "{shown}: {text}");
    }
}

#[tokio::test]
async fn arguments_are_shown_without_their_texts() {
    let app = app().await;
    let job = app.first_job().await;
    let demo = app.tenant("demo").await.id;
    app.set_job(
        job,
        doc! { "args.dryRun": true, "args.email": "ada@demo.test" },
    )
    .await;
    let mut browser = Browser::signed_in(&app, Caller::Operator).await;

    let page = browser.get(&format!("/console/jobs/{job}")).await;

    let text = &page.text;
    assert!(text.contains("<caption>Arguments</caption>"), "{text}");
    assert!(text.contains(&format!("<code>{demo}</code>")), "{text}");
    assert!(text.contains("<code>true</code>"), "{text}");
    assert!(text.contains("<code>••••</code>"), "{text}");
    assert!(!text.contains("ada@demo.test"), "{text}");
}
