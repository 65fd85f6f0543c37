//! Query costs: in a large database no query of a repository reads more than a constant of what it returns, and none asks
//! all partitions of a sharded one unless it is listed.

mod coverage;
mod fixture;
mod routing;

use std::{collections::BTreeSet, fmt::Debug};

use bson::{Document, doc};
use futures::TryStreamExt as _;

use self::fixture::Fixture;

/// Documents of a page.
const PAGE: i64 = 25;
/// Keys and documents read for a page: each document and its key, and a few keys of each scan that is merged.
const PAGED: i64 = 4 * PAGE;
/// Keys and documents read for a page without a limit: MongoDB compares plans by their first 101 results.
const TRIED: i64 = 3 * 101;
/// Keys and documents read for one document, and again on a miss.
const ONE: i64 = 8;

/// The queries that were run, with the keys and documents that each read.
struct Costs<'a> {
    fixture: &'a Fixture,
    measured: Vec<(&'static str, i64, i64)>,
    /// The methods that would ask all partitions.
    asking_all: BTreeSet<&'static str>,
}

impl Costs<'_> {
    /// Runs a query that may read at most `most` keys and documents.
    async fn of<T, E: Debug>(
        &mut self,
        query: &'static str,
        most: i64,
        run: impl Future<Output = Result<T, E>>,
    ) -> T {
        let database = self.fixture.store.database();
        let _ = database
            .run_command(doc! { "drop": "system.profile" })
            .await;
        database.run_command(doc! { "profile": 2 }).await.unwrap();
        let result = run.await;
        database.run_command(doc! { "profile": 0 }).await.unwrap();
        let profile = self.fixture.store.collection::<Document>("system.profile");
        let entries: Vec<Document> = profile
            .find(doc! {})
            .await
            .unwrap()
            .try_collect()
            .await
            .unwrap();
        let number = |entry: &Document, name: &str| {
            let number = entry
                .get_i64(name)
                .or_else(|_| entry.get_i32(name).map(i64::from));
            number.unwrap_or(0)
        };
        let read: i64 = entries
            .iter()
            .map(|entry| number(entry, "keysExamined") + number(entry, "docsExamined"))
            .sum();
        if entries.iter().any(routing::asks_all_partitions) {
            self.asking_all.insert(routing::method_of(query));
        }
        self.measured.push((query, most, read));
        result.unwrap_or_else(|error| panic!("{query}: {error:?}"))
    }
}

/// Measures a query of a repository.
macro_rules! cost {
    ($costs:ident, $most:expr, $repository:ident.$method:ident($($argument:expr),* $(,)?)) => {{
        let fixture = $costs.fixture;
        $costs
            .of(
                concat!(stringify!($repository), ".", stringify!($method), "(", stringify!($($argument),*), ")"),
                $most,
                fixture.$repository.$method($($argument),*),
            )
            .await
    }};
}

/// Measures a query of a repository in a transaction.
macro_rules! cost_in_transaction {
    ($costs:ident, $most:expr, $repository:ident.$method:ident($($argument:expr),* $(,)?)) => {{
        let fixture = $costs.fixture;
        let run = fixture.store.transaction(&fixture.$repository, |session, repository| {
            use futures::FutureExt as _;
            async move { Ok::<_, dezky_shared::store::TransactionError<()>>(repository.$method(session, $($argument),*).await?) }.boxed()
        });
        $costs
            .of(concat!(stringify!($repository), ".", stringify!($method)), $most, run)
            .await
    }};
}

// After the macros, which they use.
mod apps;
mod audit;
mod control;
mod domains;
mod invoices;
mod jobs;
mod members;
mod partners;
mod reports;
mod stripe;
mod subscriptions;
mod tenants;
mod users;

#[tokio::test(flavor = "multi_thread")]
async fn every_query_of_a_repository_is_cheap_and_none_asks_all_partitions_unless_it_is_listed() {
    let fixture = Fixture::new().await;
    let mut costs = Costs {
        fixture: &fixture,
        measured: Vec::new(),
        asking_all: BTreeSet::new(),
    };

    jobs::measure(&mut costs).await;
    tenants::measure(&mut costs).await;
    apps::measure(&mut costs).await;
    domains::measure(&mut costs).await;
    users::measure(&mut costs).await;
    members::measure(&mut costs).await;
    partners::measure(&mut costs).await;
    subscriptions::measure(&mut costs).await;
    reports::measure(&mut costs).await;
    invoices::measure(&mut costs).await;
    stripe::measure(&mut costs).await;
    audit::measure(&mut costs).await;
    control::measure(&mut costs).await;

    let excessive: Vec<_> = costs
        .measured
        .iter()
        .filter(|(_, most, read)| read > most)
        .collect();
    assert!(
        excessive.is_empty(),
        "(query, limit, keys and documents read): {excessive:#?}"
    );
    assert!(
        costs.measured.iter().any(|(_, _, read)| *read > 0),
        "nothing was measured"
    );
    // The profile would show no query of a collection under another name.
    assert!(costs.asking_all.contains("tenants.list"));
    let listed = routing::listed();
    let unlisted: Vec<_> = costs.asking_all.difference(&listed).collect();
    assert!(
        unlisted.is_empty(),
        "give these queries a field that determines their partition, or list them: {unlisted:#?}"
    );
    let measured = costs.measured.iter();
    let measured: BTreeSet<_> = measured
        .map(|(query, ..)| routing::method_of(query))
        .collect();
    let gone: Vec<_> = listed.difference(&measured).collect();
    assert!(gone.is_empty(), "not measured: {gone:?}");
    routing::assert_unique_indexes(&fixture).await;
}
