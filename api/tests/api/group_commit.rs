//! Group commit: commands that wait at the same time are one transaction, and each gets a response of its own.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bson::{Document, doc};
use dezky_sim::{callers::Caller, proxy::Proxy};
use futures::{
    FutureExt as _, StreamExt as _, TryStreamExt as _,
    future::{BoxFuture, join_all},
    stream::FuturesUnordered,
};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    app::TestApp,
    client::{Call, Reply, sorted_summaries},
};

/// Number of concurrent creations.
const CREATIONS: usize = 24;
/// Number of edits that the queue of a tenant admits.
const QUEUED: usize = 64;

/// Counts the transactions that are committed through the proxy.
fn count_commits(proxy: &Proxy) -> Arc<AtomicUsize> {
    let commits = Arc::new(AtomicUsize::new(0));
    let counted = commits.clone();
    proxy.lose_the_answer_to(move |request| {
        let command = b"commitTransaction\0";
        if request.windows(command.len()).any(|part| part == command) {
            counted.fetch_add(1, Ordering::Relaxed);
        }
        false
    });
    commits
}

fn creation<'a>(app: &'a TestApp, slug: &str) -> Call<'a> {
    let body = json!({ "slug": slug, "name": "Acme" });
    app.operator()
        .post("/tenants", body)
        .idempotency_key(&format!("create-{slug}"))
}

#[tokio::test]
async fn concurrent_creations_share_transactions_and_keep_their_own_responses() {
    let app = TestApp::with_operator().await;
    let proxy = app.proxy().await;
    let process = app.process_behind(&proxy).await;
    let commits = count_commits(&proxy);
    // Slow transactions: the requests arrive while the first ones are in flight.
    proxy.delay(Duration::from_millis(10));
    let slugs: Vec<String> = (0..CREATIONS).map(|n| format!("acme-{n}")).collect();

    let created = slugs
        .iter()
        .map(|slug| creation(&app, slug).through(&process).send());
    let created = join_all(created).await;

    for (slug, reply) in slugs.iter().zip(&created) {
        assert_eq!(reply.status, 202, "{reply:?}");
        assert_eq!(reply.body["slug"], slug.as_str());
    }
    assert!(commits.load(Ordering::Relaxed) <= CREATIONS / 2);
    let count = u64::try_from(CREATIONS).unwrap();
    for collection in ["tenants", "jobs", "idempotency_keys", "audit_accepted"] {
        assert_eq!(app.count(collection).await, count, "{collection}");
    }
    let actions = app.actions().await;
    let created_once = actions
        .iter()
        .filter(|action| action.as_str() == "tenant.create");
    assert_eq!(created_once.count(), CREATIONS);
    let repeated = join_all(slugs.iter().map(|slug| creation(&app, slug).send())).await;
    for (first, again) in created.iter().zip(&repeated) {
        assert!(again.is_replayed(), "{again:?}");
        assert_eq!((&first.body, first.etag()), (&again.body, again.etag()));
    }
    assert_eq!(app.count("tenants").await, count);
}

#[tokio::test]
async fn a_refused_creation_does_not_affect_those_in_its_group() {
    let app = TestApp::with_operator().await;
    let proxy = app.proxy().await;
    let process = app.process_behind(&proxy).await;
    creation(&app, "used").await;
    let taken = json!({ "slug": "taken", "name": "Acme" });
    app.operator().post("/tenants", &taken).await;
    proxy.delay(Duration::from_millis(10));
    let creations = (0..8).map(|n| creation(&app, &format!("acme-{n}")));
    // The slug of another tenant, and a stored response to the key.
    let refused = [creation(&app, "taken"), creation(&app, "used")];

    let sent = creations.chain(refused);
    let replies = join_all(sent.map(|call| call.through(&process).send())).await;

    let (created, refused) = replies.split_at(8);
    assert_eq!(sorted_summaries(created), ["202"; 8]);
    assert_eq!(refused[0].summary(), "409 slug_taken");
    assert!(refused[1].is_replayed(), "{:?}", refused[1]);
    assert_eq!(app.count("tenants").await, 10);
    assert_eq!(app.count("jobs").await, 10);
}

/// An edit by its number, and the reply to it.
type Edited = (usize, Reply);

/// Sends `first` and more edits than the queue of `demo` admits while another request holds it, and returns the replies
/// to those that waited. `meanwhile` runs when all of them wait.
async fn queued_edits<'a>(
    app: &'a TestApp,
    first: Call<'a>,
    edit: impl Fn(usize) -> Call<'a>,
    meanwhile: impl Future<Output = ()>,
) -> Vec<Edited> {
    let guard = app.state.locks.lock("demo").await.unwrap();
    let numbered = |n, call: Call<'a>| -> BoxFuture<'a, Edited> {
        call.send().map(move |reply| (n, reply)).boxed()
    };
    let mut replies = FuturesUnordered::new();
    replies.push(numbered(0, first));
    let first_waits = async {
        while !guard.has_waiters() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        reply = replies.next() => panic!("{reply:?}"),
        () = first_waits => {}
    }
    for n in 1..=QUEUED {
        replies.push(numbered(n, edit(n)));
    }
    // The queue is full when it rejects an edit.
    let (_, rejected) = replies.next().await.unwrap();
    assert_eq!(rejected.summary(), "429 too_many_requests");
    meanwhile.await;
    drop(guard);
    let mut replies: Vec<Edited> = replies.collect().await;
    assert_eq!(replies.len(), QUEUED);
    replies.sort_by_key(|(n, _)| *n);
    replies
}

fn named(n: usize) -> Value {
    json!({ "name": format!("Name {n}") })
}

/// Revision in a reply's `ETag`, which is `"generation.revision"`.
fn revision(reply: &Reply) -> i64 {
    let tag = reply.etag().trim_matches('"');
    tag.split_once('.').unwrap().1.parse().unwrap()
}

async fn updates(app: &TestApp) -> Vec<Document> {
    let events = app.collection("audit_events");
    let found = events.find(doc! { "action": "tenant.update" });
    let found = found.sort(doc! { "_id": 1 }).await.unwrap();
    found.try_collect().await.unwrap()
}

#[tokio::test]
async fn edits_of_one_tenant_that_wait_are_one_transaction_with_a_version_each() {
    let app = TestApp::with_demo().await;
    let before = app.tenant("demo").await;
    let owner = app.user(Caller::Owner).await.id;
    let first = app
        .owner()
        .patch("/tenants/demo", json!({ "industry": "Mining" }));
    // Every other edit expects a version that the tenant never had.
    let edit = |n: usize| {
        let call = app.operator().patch("/tenants/demo", named(n));
        if n.is_multiple_of(2) {
            call
        } else {
            call.if_match("\"0.0\"")
        }
    };
    let revoke = app.set_user(owner, doc! { "memberships": [] });

    let mut replies = queued_edits(&app, first, edit, revoke).await;

    let (_, revoked) = replies.remove(0);
    assert_eq!(revoked.status, 404, "{revoked:?}");
    let (allowed, outdated): (Vec<_>, Vec<_>) = replies
        .into_iter()
        .map(|(_, reply)| reply)
        .partition(|reply| reply.status != 412);
    assert!(outdated.len() >= QUEUED / 2 - 1);
    let mut revisions: Vec<i64> = allowed.iter().map(revision).collect();
    revisions.sort_unstable();
    let after = app.tenant("demo").await;
    let expected: Vec<i64> = (before.revision + 1..=after.revision).collect();
    assert_eq!(revisions, expected);
    let jobs: Vec<&Value> = allowed
        .iter()
        .map(|reply| &reply.body["job"]["id"])
        .collect();
    assert!(jobs[0].is_string() && jobs.iter().all(|job| *job == jobs[0]));
    // One transaction: the events have one time, and each begins where the one before it ended.
    let events = updates(&app).await;
    assert_eq!(events.len(), allowed.len());
    let name = |event: &Document, side| {
        let side = event.get_document(side).unwrap();
        side.get_str("name").unwrap().to_owned()
    };
    for pair in events.windows(2) {
        assert_eq!(name(&pair[0], "after"), name(&pair[1], "before"));
        assert_eq!(pair[0].get("at"), pair[1].get("at"));
    }
    assert_eq!(name(events.last().unwrap(), "after"), after.name);
    assert_eq!(after.industry, before.industry);
}

#[tokio::test]
async fn an_edit_with_a_used_key_is_replayed_and_does_not_affect_those_that_wait_with_it() {
    let app = TestApp::with_demo().await;
    let etag = app.operator().get("/tenants/demo").await.etag().to_owned();
    let keyed = || {
        let call = app.operator().patch("/tenants/demo", named(0));
        call.if_match(&etag).idempotency_key("used")
    };
    let stored = keyed().await;
    let before = app.tenant("demo").await.revision;
    let edit = |n: usize| {
        let call = app.operator().patch("/tenants/demo", named(n));
        call.idempotency_key(&n.to_string())
    };

    let mut replies = queued_edits(&app, keyed(), edit, async {}).await;

    let (_, replayed) = replies.remove(0);
    assert!(replayed.is_replayed(), "{replayed:?}");
    assert_eq!(replayed.body, stored.body);
    let mut revisions: Vec<i64> = replies.iter().map(|(_, reply)| revision(reply)).collect();
    revisions.sort_unstable();
    let after = app.tenant("demo").await.revision;
    let expected: Vec<i64> = (before + 1..=after).collect();
    assert_eq!(revisions, expected);
    assert_eq!(revisions.len(), QUEUED - 1);
    for (n, first) in replies.iter().step_by(16) {
        let again = edit(*n).await;
        assert!(again.is_replayed(), "{again:?}");
        assert_eq!(again.body, first.body);
    }
}

#[tokio::test]
async fn an_edit_that_conflicts_with_another_transaction_is_made_after_it() {
    let app = TestApp::with_demo().await;
    let tenants = app.collection("tenants");
    let client = app.state.store.database().client();
    let mut session = client.start_session().await.unwrap();
    let edit = |n: usize| app.operator().patch("/tenants/demo", named(n));
    let demo = doc! { "slug": "demo" };
    let write = doc! { "$set": { "industry": "Mining" }, "$inc": { "revision": 1_i64 } };
    session.start_transaction().await.unwrap();
    let written = tenants.update_one(demo, write).session(&mut session);
    written.await.unwrap();
    // Released after the group has given up: each edit then repeats its own transaction.
    let release = async {
        tokio::spawn(async move {
            sleep(Duration::from_millis(500)).await;
            session.commit_transaction().await.unwrap();
        });
    };

    let replies = queued_edits(&app, edit(0), edit, release).await;

    let replies: Vec<&Reply> = replies.iter().map(|(_, reply)| reply).collect();
    assert_eq!(sorted_summaries(replies.clone()), ["202"; QUEUED]);
    let mut revisions: Vec<i64> = replies.into_iter().map(revision).collect();
    revisions.sort_unstable();
    revisions.dedup();
    assert_eq!(revisions.len(), QUEUED);
    let industry = app.tenant("demo").await.industry;
    assert_eq!(industry.as_deref(), Some("Mining"));
}
