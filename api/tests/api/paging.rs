//! Lists in pages, while what they list comes and goes.

use std::collections::BTreeSet;

use bson::{Bson, Document, doc};
use dezky_shared::id::{JobId, PartnerId, TenantId};
use dezky_sim::callers::Caller;
use proptest::{
    collection::vec,
    prelude::any,
    sample::Index,
    test_runner::{Config, TestRunner},
};

use crate::app::TestApp;

/// A list that can be told from others by a filter.
#[derive(Debug, Clone, Copy)]
enum List {
    Jobs,
    Tenants,
}

impl List {
    fn collection(self) -> &'static str {
        match self {
            Self::Jobs => "jobs",
            Self::Tenants => "tenants",
        }
    }

    fn path(self, group: PartnerId) -> String {
        match self {
            Self::Jobs => format!("/jobs?kind={group}"),
            Self::Tenants => format!("/tenants?partnerId={group}"),
        }
    }

    /// One more like `like`, in this group.
    fn another(self, like: &Document, group: PartnerId) -> (String, Document) {
        let mut new = like.clone();
        let id: (String, Bson) = match self {
            Self::Jobs => {
                new.insert("kind", group.to_string());
                new.remove("uniqueKey");
                let id = JobId::new();
                (id.to_string(), id.into())
            }
            Self::Tenants => {
                let id = TenantId::new();
                new.insert("partnerId", group);
                new.insert("slug", id.to_string());
                new.insert("domains", [format!("{id}.test")]);
                (id.to_string(), id.into())
            }
        };
        new.insert("_id", id.1);
        (id.0, new)
    }
}

/// What happens while one page after the other is asked for.
#[derive(Debug, Clone)]
struct Plan {
    limit: usize,
    count: usize,
    /// After each page, how many come, and which goes.
    between: Vec<(usize, Index)>,
}

async fn follow(app: &TestApp, list: List, plan: &Plan) {
    let group = PartnerId::new();
    let collection = app.collection(list.collection());
    let like = collection.find_one(doc! {}).await.unwrap().unwrap();
    let add = async |count: usize| {
        let mut ids = Vec::new();
        for _ in 0..count {
            let (id, document) = list.another(&like, group);
            collection.insert_one(document).await.unwrap();
            ids.push(id);
        }
        ids
    };
    let mut always: BTreeSet<String> = add(plan.count).await.into_iter().collect();
    let mut seen = Vec::new();
    let mut cursor = None;
    let mut between = plan.between.iter();

    loop {
        let mut path = format!("{}&limit={}", list.path(group), plan.limit);
        if let Some(cursor) = &cursor {
            path = format!("{path}&cursor={cursor}");
        }
        let page = app.get(&path).by(Caller::Operator).send().await;
        assert_eq!(page.status, 200, "{page:?}");
        let items = page.body["items"].as_array().unwrap();
        assert!(items.len() <= plan.limit);
        seen.extend(
            items
                .iter()
                .map(|item| item["id"].as_str().unwrap().to_owned()),
        );
        let Some(next) = page.body["nextCursor"].as_str() else {
            break;
        };
        cursor = Some(next.to_owned());

        if let Some((come, goes)) = between.next() {
            add(*come).await;
            if !always.is_empty() {
                let goes = always.iter().nth(goes.index(always.len())).unwrap().clone();
                always.remove(&goes);
                let id: JobId = goes.parse().unwrap();
                collection.delete_one(doc! { "_id": id }).await.unwrap();
            }
        }
    }

    let once: BTreeSet<String> = seen.iter().cloned().collect();
    assert_eq!(
        once.len(),
        seen.len(),
        "something was shown twice: {seen:?}"
    );
    assert!(always.is_subset(&once), "something was left out: {seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn paging_shows_once_what_was_there_all_the_time_whatever_comes_and_goes() {
    let app = TestApp::with_demo().await;
    let mut runner = TestRunner::new(Config {
        cases: 16,
        failure_persistence: None,
        ..Config::default()
    });
    let between = vec((0_usize..4, any::<Index>()), 0..8);

    for list in [List::Jobs, List::Tenants] {
        let plans = (1_usize..5, 0_usize..16, between.clone());
        let outcome = runner.run(&plans, |(limit, count, between)| {
            let plan = Plan {
                limit,
                count,
                between,
            };
            tokio::task::block_in_place(|| {
                tokio::runtime::Handle::current().block_on(follow(&app, list, &plan));
            });
            Ok(())
        });
        outcome.unwrap();
    }
}

#[tokio::test]
async fn a_cursor_that_is_not_the_lists_own_is_refused() {
    let app = TestApp::with_demo().await;
    app.create("other").await;
    let page = app
        .get("/tenants?limit=1")
        .by(Caller::Operator)
        .send()
        .await;
    let own = page.body["nextCursor"].as_str().unwrap();
    let longer = format!("{own}AAAA");
    let hostile = [
        "",
        "%00",
        "..%2F..",
        "null",
        "AAAA",
        "%7B%22%24gt%22%3A%22%22%7D",
        "%F0%9F%92%A3",
        &own[1..],
        &longer,
        &"A".repeat(4_000),
    ];

    for list in [
        "/tenants",
        "/jobs",
        "/job-operations",
        "/tenants/demo/jobs",
        "/users",
        "/tenants/demo/users",
        "/subscriptions",
        "/prices",
    ] {
        for cursor in hostile
            .into_iter()
            .chain((list != "/tenants").then_some(own))
        {
            let reply = app
                .get(&format!("{list}?cursor={cursor}"))
                .by(Caller::Operator)
                .send()
                .await;

            assert!(
                matches!(reply.status.as_u16(), 400 | 422),
                "{list} {cursor}: {reply:?}"
            );
            assert!(!reply.code().is_empty());
        }
    }
}
