//! Pages and actions.

use bson::doc;
use dezky_sim::callers::Caller;
use http::StatusCode;

use super::browser::{Browser, app};

#[tokio::test]
async fn every_page_shows_the_demo_data() {
    let app = app().await;
    let mut browser = Browser::signed_in(&app, Caller::Operator).await;
    let job = app.first_job().await;
    let job = format!("/console/jobs/{job}");

    for (path, shown) in [
        ("/console", ", 0 discarded."),
        ("/console/", ", 0 discarded."),
        ("/console/operations", "There was no operation"),
        ("/console/partners", "No partner matches."),
        ("/console/billing", "Nothing was billed or paid"),
        ("/console/billing?month=2024-10", "Net amounts of 2024-10<"),
        ("/console/invoices", "No invoice matches."),
        ("/console/payouts?status=paid", "No payout matches."),
        ("/console/reports", "/console/reports/top-customers"),
        ("/console/reports/mrr", "All reports"),
        ("/console/flags", "Values for the tenant"),
        ("/console/jobs", "provision_tenant"),
        (
            "/console/jobs?state=available&kind=provision_tenant&queue=&tenant=demo",
            "/console/tenants/demo",
        ),
        (job.as_str(), "Steps of the job"),
        ("/console/queues", "Pause provisioning"),
        ("/console/upstreams", "authentik"),
        ("/console/schedules", "Run nightly_reconcile"),
        ("/console/workers", "No worker is running"),
        ("/console/tenants?q=demo", "/console/tenants/demo"),
        ("/console/tenants/demo", "demo.test"),
        (
            "/console/audit?action=tenant.create",
            "Demo operator (operator)",
        ),
    ] {
        let page = browser.get(path).await;
        assert_eq!(page.status, StatusCode::OK, "{path}: {page:?}");
        assert!(page.text.contains(shown), "{path}: {}", page.text);
        assert!(page.text.contains("<html lang=\"en\">"), "{path}");
        let tables = page.text.matches("<table>").count();
        assert_eq!(page.text.matches("<caption>").count(), tables, "{path}");
        assert_eq!(page.text.matches("<h1>").count(), 1, "{path}");
    }
    for path in [
        "/console/jobs/..%2Fqueues",
        "/console/tenants/missing",
        "/console/partners/missing",
        "/console/reports/missing",
        "/console/operations/missing",
    ] {
        let missing = browser.get(path).await;
        assert_eq!(missing.status, StatusCode::NOT_FOUND, "{path}");
        assert!(missing.text.contains("<h1>"), "{path}: {}", missing.text);
    }
    let invalid = browser.get("/console/jobs?errorCode=nonsense").await;
    assert!(invalid.status.is_client_error());
    assert!(
        invalid.text.contains("errorCode must be"),
        "{}",
        invalid.text
    );
    let style = browser.get("/console/style.css").await;
    assert!(style.text.contains("prefers-color-scheme: dark"));
}

#[tokio::test]
async fn a_forgotten_pause_is_found_and_ended() {
    let app = app().await;
    let mut browser = Browser::signed_in(&app, Caller::Operator).await;
    let page = browser.get("/console/queues").await;
    let path = "/console/queues/provisioning/pause";
    let reason = [("reason", "Maintenance"), ("until", "")];

    let asked = browser.submit(&page, path, &reason).await;
    assert_eq!(asked.status, StatusCode::OK);
    assert!(asked.text.contains("Pause the queue"), "{}", asked.text);
    assert_eq!(app.count("queues").await, 0, "nothing was done yet");
    let confirmed = [
        ("reason", asked.hidden("reason")),
        ("confirmed", asked.hidden("confirmed")),
    ];
    let paused = browser.submit(&asked, path, &confirmed).await;
    assert_eq!(paused.location(), "/console/queues?notice=queue-paused");

    let overview = browser.get("/console").await;
    assert!(
        overview.text.contains("1 queue paused"),
        "{}",
        overview.text
    );
    let queues = browser.open("/console/queues?notice=queue-paused").await;
    assert!(queues.text.contains("The queue is paused."));
    assert!(queues.text.contains(": Maintenance"), "{}", queues.text);
    let resume = "/console/queues/provisioning/resume";
    let resumed = browser.submit(&queues, resume, &[]).await;
    assert_eq!(resumed.location(), "/console/queues?notice=queue-resumed");
    let overview = browser.get("/console").await;
    assert!(!overview.text.contains("queue paused"), "{}", overview.text);
    let event = app.audit_event("queue.resume").await;
    assert_eq!(
        event
            .get_document("actor")
            .unwrap()
            .get_str("kind")
            .unwrap(),
        "operator"
    );
}

#[tokio::test]
async fn selected_jobs_are_cancelled_after_a_confirmation() {
    let app = app().await;
    let mut browser = Browser::signed_in(&app, Caller::Operator).await;
    let job = app.first_job().await;
    let page = browser.get("/console/jobs").await;
    let path = "/console/jobs/selected";
    let (id, unknown) = (job.to_string(), dezky_shared::id::JobId::new().to_string());
    let selected = [
        ("id", id.as_str()),
        ("id", unknown.as_str()),
        ("action", "cancel"),
    ];

    let asked = browser.submit(&page, path, &selected).await;
    let mut confirmed = selected.to_vec();
    confirmed.push(("confirmed", "yes"));
    let done = browser.submit(&asked, path, &confirmed).await;
    let none = browser.submit(&page, path, &[("action", "requeue")]).await;

    assert!(asked.text.contains("2 jobs?"), "{}", asked.text);
    assert!(done.text.contains("1 of 2 done"), "{}", done.text);
    assert!(done.text.contains("Not found"), "{}", done.text);
    // They answer forms: the script would read other pages at their addresses.
    assert!(page.text.contains("live.js"), "{}", page.text);
    assert!(!asked.text.contains("live.js"), "{}", asked.text);
    assert!(!done.text.contains("live.js"), "{}", done.text);
    assert_eq!(app.jobs().await[0].state.name(), "cancelled");
    assert_eq!(none.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn all_jobs_that_match_are_requeued_after_their_number_was_typed_in() {
    let app = app().await;
    let mut browser = Browser::signed_in(&app, Caller::Operator).await;
    let job = app.first_job().await;
    app.set_job(job, doc! { "state": "discarded" }).await;
    let list = browser.get("/console/jobs?state=discarded").await;
    let path = "/console/jobs/matching";
    let asked = [("action", "requeue"), ("state", "discarded"), ("kind", "")];

    let preview = browser.submit(&list, path, &asked).await;
    let with = |typed: &'static str| {
        let mut fields = asked.to_vec();
        fields.extend([("expected", "1"), ("typed", typed), ("rate", "10")]);
        fields
    };
    let wrong = browser.submit(&preview, path, &with("2")).await;
    let operations = app.count("job_operations").await;
    let started = browser.submit(&preview, path, &with("1")).await;

    assert!(list.text.contains("Requeue all"), "{}", list.text);
    assert!(list.text.contains("Dismiss all"), "{}", list.text);
    assert!(preview.text.contains("requeue: 1 job<"), "{}", preview.text);
    assert!(!preview.text.contains("live.js"), "{}", preview.text);
    assert_eq!(preview.hidden("expected"), "1");
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(operations, 0);
    let page = browser.open(started.location()).await;
    assert_eq!(page.status, StatusCode::OK, "{page:?}");
    assert!(page.text.contains("run_job_operation"), "{}", page.text);
    assert!(page.text.contains("0 of 1 done"), "{}", page.text);
    assert!(page.text.contains(&job.to_string()), "{}", page.text);
    let operations = browser.get("/console/operations").await;
    assert!(
        operations.text.contains("discarded jobs"),
        "{}",
        operations.text
    );
    assert_eq!(app.count("job_operations").await, 1);
}
