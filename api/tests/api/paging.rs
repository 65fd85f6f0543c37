//! Pagination under concurrent inserts and deletes.

use std::collections::BTreeSet;

use bson::{Bson, Document, doc};
use dezky_shared::id::{JobId, PartnerId, TenantId};
use proptest::{
    collection::vec,
    prelude::any,
    sample::Index,
    test_runner::{Config, TestRunner},
};

use crate::app::TestApp;

/// List endpoint, with a filter that restricts it to the test's documents.
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

    /// Copy of `like` in this group.
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

/// Random schedule of inserts and deletes between pages.
#[derive(Debug, Clone)]
struct Plan {
    limit: usize,
    count: usize,
    /// After each page: the number of inserts, and the index of the document to delete.
    between: Vec<(usize, Index)>,
}

async fn assert_stable_pages(app: &TestApp, list: List, plan: &Plan) {
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
    let mut stable: BTreeSet<String> = add(plan.count).await.into_iter().collect();
    let mut seen = Vec::new();
    let mut cursor = None;
    let mut between = plan.between.iter();

    loop {
        let mut path = format!("{}&limit={}", list.path(group), plan.limit);
        if let Some(cursor) = &cursor {
            path = format!("{path}&cursor={cursor}");
        }
        let page = app.operator().get(&path).await;
        assert_eq!(page.status, 200, "{page:?}");
        let items = page.items();
        assert!(items.len() <= plan.limit);
        seen.extend(page.texts("/id").into_iter().map(str::to_owned));
        let Some(next) = page.body["nextCursor"].as_str() else {
            break;
        };
        cursor = Some(next.to_owned());

        if let Some((inserts, deleted)) = between.next() {
            add(*inserts).await;
            if !stable.is_empty() {
                let id = stable
                    .iter()
                    .nth(deleted.index(stable.len()))
                    .unwrap()
                    .clone();
                stable.remove(&id);
                let id: JobId = id.parse().unwrap();
                collection.delete_one(doc! { "_id": id }).await.unwrap();
            }
        }
    }

    let unique: BTreeSet<String> = seen.iter().cloned().collect();
    assert_eq!(
        unique.len(),
        seen.len(),
        "an item was returned twice: {seen:?}"
    );
    assert!(stable.is_subset(&unique), "an item is missing: {seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pagination_under_concurrent_changes_returns_every_stable_item_once() {
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
                tokio::runtime::Handle::current().block_on(assert_stable_pages(&app, list, &plan));
            });
            Ok(())
        });
        outcome.unwrap();
    }
}

#[tokio::test]
async fn a_cursor_of_another_list_is_rejected() {
    let app = TestApp::with_demo().await;
    app.create("other").await;
    let page = app.operator().get("/tenants?limit=1").await;
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
            let reply = app.operator().get(format!("{list}?cursor={cursor}")).await;

            assert!(
                matches!(reply.status.as_u16(), 400 | 422),
                "{list} {cursor}: {reply:?}"
            );
            assert!(!reply.code().is_empty());
        }
    }
}
