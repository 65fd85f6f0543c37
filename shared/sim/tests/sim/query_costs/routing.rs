//! Routing of queries in a sharded store (`.ops/scale.md`): each names a field that determines its partition, unless it is
//! listed as one that asks all partitions.

use std::collections::BTreeSet;

use bson::{Bson, Document, doc};
use futures::TryStreamExt as _;

use super::fixture::Fixture;

/// The collections that grow with the tenants, each with the fields that determine a document's partition. An id does,
/// because it is that of the tenant or is created in the tenant's partition.
const SHARDED: [(&str, &[&str]); 9] = [
    ("tenants", &["_id"]),
    ("domains", &["_id", "tenantId"]),
    ("members", &["_id", "tenantId"]),
    ("apps", &["_id", "tenantId"]),
    ("subscriptions", &["_id", "tenantId"]),
    ("invoices", &["_id", "tenantId", "periodKey"]),
    ("jobs", &["_id", "tenantId", "lockKey"]),
    ("audit_events", &["_id", "tenantId"]),
    ("users", &["_id", "authentikSubjectId"]),
];

/// Queries that ask all partitions. Operators' lists and reports, which are paged and bounded in time:
const OF_OPERATORS: &str = "
    audit.list audit.list_all invoices.list jobs.count_ahead jobs.count_children jobs.count_in_state jobs.count_selected
    jobs.list jobs.sample_selected jobs.select jobs.stats queues.count_due queues.stats subscriptions.list
    tenants.count_on_plan tenants.estimated_count tenants.list tenants.list_ids_of_partner tenants.partner_revenue
    users.list
";
/// Work of the leader and of fan-outs, which each partition would do for itself:
const OF_LEADERS: &str = "
    apps.count_all_open audit.backlog audit.list_expired audit.list_unsealed domains.list_due invoices.list_newly_overdue
    invoices.list_unsent subscriptions.list_by_card subscriptions.list_due subscriptions.list_not_enrolled
    tenants.add_missing_words tenants.ids_not_terminated tenants.ids_on_plan tenants.list_for_snapshot
    tenants.list_with_mail_domains
";
/// Look-ups by a value that is unique beyond a tenant, which a reservation would answer:
const BY_RESERVATION: &str = "
    domains.backfill domains.find_owner domains.recheck_competing_claims domains.remove_all invoices.find_mirror
    jobs.find_pending members.holders tenants.domain_owners tenants.find_by_slug tenants.find_domain_owner tenants.ids_by_slugs
    tenants.list_by_slugs
";
/// The others: places of a person in several tenants, teams, and objects of upstreams that name no tenant.
const OTHERS: &str = "
    invoices.has_overdue invoices.list_overlapping invoices.mark_overdue members.find_in_domain
    members.has_account_elsewhere members.is_elsewhere members.is_login_elsewhere members.list_places
    members.set_personal_spaces tenants.any_outside_partner tenants.groups_granting_sign_in tenants.list_group_holders
    tenants.list_space_holders tenants.tenants_blocking_sign_in users.count_members users.count_mfa users.count_owners
    users.count_partner_owners users.count_team users.known_emails users.last_mfa_check users.list_team
    users.list_team_page
";

/// Fields of the unique indexes that hold beyond a partition: each needs a collection of reservations, or a unique key that
/// determines its partition.
const UNIQUE_BEYOND_A_PARTITION: [&str; 8] = [
    "apps.clientId",
    "domains.name",
    "invoices.number",
    "invoices.stripe.id",
    "jobs.uniqueKey",
    "members.mailbox.addresses",
    "tenants.domains",
    "tenants.slug",
];

/// The listed methods, as `collection.method`.
pub(super) fn listed() -> BTreeSet<&'static str> {
    [OF_OPERATORS, OF_LEADERS, BY_RESERVATION, OTHERS]
        .into_iter()
        .flat_map(str::split_whitespace)
        .collect()
}

/// The method of a measured query: `jobs.list` of `jobs.list(filter, PAGE)`.
pub(super) fn method_of(query: &str) -> &str {
    query.split('(').next().unwrap_or(query)
}

/// Whether a command of the profile would ask all partitions.
pub(super) fn asks_all_partitions(entry: &Document) -> bool {
    let Some(fields) = fields_of(entry) else {
        return false;
    };
    let Some(filter) = filter_of(entry) else {
        return false;
    };
    !determines(&filter, fields)
}

/// The fields that determine the partition in the collection of a command, if it is sharded.
fn fields_of(entry: &Document) -> Option<&'static [&'static str]> {
    let (_, collection) = entry.get_str("ns").ok()?.split_once('.')?;
    let mut sharded = SHARDED.into_iter();
    let (_, fields) = sharded.find(|(name, _)| *name == collection)?;
    Some(fields)
}

/// The filter of a command. `None` if it has none: an insert, or the continuation of a query.
fn filter_of(entry: &Document) -> Option<Document> {
    let command = entry.get_document("command").ok()?;
    let filter = |name: &str| Some(command.get_document(name).cloned().unwrap_or_default());
    match entry.get_str("op").ok()? {
        "update" | "remove" => filter("q"),
        "query" | "command" if command.contains_key("find") => filter("filter"),
        "query" | "command" if command.contains_key("aggregate") => {
            let stages = command.get_array("pipeline").ok()?;
            let first = stages.first().and_then(Bson::as_document);
            let matched = first.and_then(|stage| stage.get_document("$match").ok());
            Some(matched.cloned().unwrap_or_default())
        }
        "query" | "command" => {
            let by_query = ["count", "distinct", "findAndModify", "findandmodify"];
            let is_by_query = by_query.iter().any(|name| command.contains_key(*name));
            is_by_query.then(|| filter("query")).flatten()
        }
        _ => None,
    }
}

/// Whether every match of a filter has one of few values of a field.
fn determines(filter: &Document, fields: &[&str]) -> bool {
    filter.iter().any(|(name, condition)| match name.as_str() {
        "$and" => parts(condition).any(|part| determines(part, fields)),
        "$or" => parts(condition).all(|part| determines(part, fields)),
        name => fields.contains(&name) && is_equality(condition),
    })
}

fn parts(condition: &Bson) -> impl Iterator<Item = &Document> {
    let parts = condition.as_array().into_iter().flatten();
    parts.filter_map(Bson::as_document)
}

/// Whether a condition names values, as opposed to a range or an exclusion.
fn is_equality(condition: &Bson) -> bool {
    let operators = condition.as_document().into_iter().flat_map(Document::keys);
    let mut operators = operators.filter(|key| key.starts_with('$')).peekable();
    operators.peek().is_none() || operators.any(|operator| operator == "$eq" || operator == "$in")
}

/// Asserts that the unique indexes beyond a partition are those of the list.
pub(super) async fn assert_unique_indexes(fixture: &Fixture) {
    let found = unique_beyond_a_partition(fixture).await;

    assert_eq!(found, UNIQUE_BEYOND_A_PARTITION);
}

/// The fields of the unique indexes that hold beyond a partition.
async fn unique_beyond_a_partition(fixture: &Fixture) -> Vec<String> {
    let mut found = BTreeSet::new();
    for (name, fields) in SHARDED {
        let collection = fixture.store.collection::<Document>(name);
        let mut indexes = collection.list_indexes().await.unwrap();
        while let Some(index) = indexes.try_next().await.unwrap() {
            let is_unique = index.options.is_some_and(|it| it.unique == Some(true));
            let mut keys = index.keys.keys();
            if is_unique && !index.keys.keys().any(|key| fields.contains(&key.as_str())) {
                found.extend(keys.next().map(|key| format!("{name}.{key}")));
            }
        }
    }
    found.into_iter().collect()
}

fn query(collection: &str, filter: Document) -> Document {
    doc! { "op": "query", "ns": format!("test.{collection}"), "command": { "find": collection, "filter": filter } }
}

#[test]
fn a_query_is_routed_by_values_of_a_field_that_determines_its_partition() {
    let routed = [
        doc! { "_id": 1 },
        doc! { "lockKey": { "$in": ["a", "b"] }, "state": "available" },
        doc! { "$and": [{ "state": "available" }, { "tenantId": 1 }] },
        doc! { "$or": [{ "tenantId": 1, "state": "running" }, { "lockKey": "a" }] },
    ];
    let unrouted = [
        doc! {},
        doc! { "state": "available" },
        doc! { "_id": { "$gt": 1 } },
        doc! { "tenantId": { "$ne": 1 } },
        doc! { "$or": [{ "tenantId": 1 }, { "state": "running" }] },
    ];

    for filter in routed {
        assert!(
            !asks_all_partitions(&query("jobs", filter.clone())),
            "{filter}"
        );
    }
    for filter in unrouted {
        assert!(
            asks_all_partitions(&query("jobs", filter.clone())),
            "{filter}"
        );
    }
    assert!(!asks_all_partitions(&query("queues", doc! {})));
}

#[test]
fn every_kind_of_command_is_checked() {
    let all = [
        doc! { "op": "update", "ns": "test.jobs", "command": { "q": { "state": "running" }, "u": {} } },
        doc! { "op": "remove", "ns": "test.jobs", "command": { "q": {} } },
        doc! { "op": "command", "ns": "test.jobs", "command": { "count": "jobs" } },
        doc! { "op": "command", "ns": "test.jobs", "command": { "distinct": "jobs", "query": {} } },
        doc! { "op": "command", "ns": "test.jobs", "command": { "findAndModify": "jobs", "query": {} } },
        doc! { "op": "command", "ns": "test.jobs", "command": { "aggregate": "jobs", "pipeline": [
            { "$match": { "state": "running" } }, { "$limit": 1 },
        ] } },
    ];
    let none = [
        doc! { "op": "insert", "ns": "test.jobs", "command": { "insert": "jobs" } },
        doc! { "op": "getmore", "ns": "test.jobs", "command": { "getMore": 1, "collection": "jobs" } },
    ];

    assert!(all.iter().all(asks_all_partitions));
    assert!(!none.iter().any(asks_all_partitions));
}
