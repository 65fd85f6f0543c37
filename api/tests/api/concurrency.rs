//! Optimistic concurrency: of many concurrent edits with one `If-Match`, one wins each round; edits without it keep
//! omitted fields.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bson::doc;
use dezky_sim::callers::Caller;
use futures::future::join_all;
use http::Method;
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::client::Reply;

/// Number of concurrent clients.
const CLIENTS: usize = 50;
/// Number of rounds.
const ROUNDS: usize = 3;

/// Route that edits a document, and two of its fields by pointer.
struct Route {
    method: Method,
    path: &'static str,
    by: Caller,
    /// Pointer, and the value of the `n`th edit, which differs from the previous one.
    fields: [Field; 2],
}

type Field = (&'static str, fn(usize) -> Value);

const fn patch(path: &'static str, by: Caller, fields: [Field; 2]) -> Route {
    Route {
        method: Method::PATCH,
        path,
        by,
        fields,
    }
}

/// Route that replaces the whole document.
const fn put(path: &'static str, by: Caller) -> Route {
    Route {
        method: Method::PUT,
        path,
        by,
        fields: [
            ("/productName", |n| json!(format!("Product {n}"))),
            ("/accentColor", |n| json!(format!("#0000{n:02}"))),
        ],
    }
}

const ROUTES: &[Route] = &[
    patch(
        "/tenants/demo",
        Caller::Operator,
        [
            ("/name", |n| json!(format!("Name {n}"))),
            ("/industry", |n| json!(format!("Industry {n}"))),
        ],
    ),
    patch(
        "/tenants/demo/domains/demo.test",
        Caller::Operator,
        [
            ("/dmarc/policy", |n| json!(["reject", "quarantine"][n % 2])),
            ("/dmarc/rua", |n| json!(format!("reports-{n}@demo.test"))),
        ],
    ),
    patch(
        "/tenants/demo/apps/{app}",
        Caller::Operator,
        [
            ("/name", |n| json!(format!("App {n}"))),
            ("/accessTokenMinutes", |n| json!(6 + n % 50)),
        ],
    ),
    patch(
        "/allowances/starter",
        Caller::Operator,
        [("/seats", |n| json!(1 + n)), ("/apps", |n| json!(1 + n))],
    ),
    patch(
        "/tenants/demo/billing-info",
        Caller::Operator,
        [
            ("/company", |n| json!(format!("Company {n}"))),
            ("/email", |n| json!(format!("invoices-{n}@demo.test"))),
        ],
    ),
    patch(
        "/tenants/demo/security-policy",
        Caller::Operator,
        [
            ("/sessionIdleMinutes", |n| json!(5 + n)),
            ("/sessionAbsoluteMinutes", |n| json!(1_000 + n)),
        ],
    ),
    put("/tenants/demo/branding", Caller::Operator),
    patch(
        "/users/{user}",
        Caller::Operator,
        [
            ("/tenantRoles/{demo}", |n| json!(["member", "admin"][n % 2])),
            ("/platformAdmin", |n| json!(n.is_multiple_of(2))),
        ],
    ),
    patch(
        "/subscriptions/{subscription}",
        Caller::Operator,
        [
            ("/seats", |n| json!(10 + n)),
            ("/priceMinor", |n| json!(1_000 + n)),
        ],
    ),
    patch(
        "/prices/{price}",
        Caller::Operator,
        [
            ("/amountMinor", |n| json!(1_000 + n)),
            ("/stripePriceId", |n| json!(format!("price_{n}"))),
        ],
    ),
    patch(
        "/flags/{flag}",
        Caller::Operator,
        [
            ("/description", |n| json!(format!("Description {n}"))),
            ("/killSwitch", |n| json!(n.is_multiple_of(2))),
        ],
    ),
    patch(
        "/partners/{partner}",
        Caller::Operator,
        [
            ("/name", |n| json!(format!("Name {n}"))),
            ("/supportEmail", |n| json!(format!("help-{n}@demo.test"))),
        ],
    ),
    patch(
        "/partner/settings",
        Caller::Partner,
        [
            ("/name", |n| json!(format!("Name {n}"))),
            ("/contactInfo/email", |n| {
                json!(format!("ada-{n}@demo.test"))
            }),
        ],
    ),
    put("/partner/branding", Caller::Partner),
];

#[tokio::test]
async fn every_route_that_changes_a_document_is_in_the_table() {
    /// Routes that edit the same documents as other routes of the table.
    const ALIASES: [&str; 4] = [
        "/tenants/{slug}/users/{id}",
        "/tenants/{slug}/sso-apps/{id}",
        "/partner/team/{id}",
        "/partner/tenants/{slug}",
    ];
    /// A resource without versions: a job carries the change out.
    const UNVERSIONED: &str = "/tenants/{slug}/payment-method";
    let app = TestApp::start().await;
    let document = app.openapi().await;

    let paths = document["paths"].as_object().unwrap().iter();
    let changing = paths.filter(|(_, item)| !item["patch"].is_null() || !item["put"].is_null());
    let documented: BTreeSet<&str> = changing.map(|(path, _)| path.as_str()).collect();

    let routes = ROUTES.iter().map(|route| match route.path {
        "/tenants/demo/domains/demo.test" => "/tenants/{slug}/domains/{domain}".to_owned(),
        "/partners/{partner}" => "/partners/{slug}".to_owned(),
        "/flags/{flag}" => "/flags/{key}".to_owned(),
        path => path
            .replace("/demo", "/{slug}")
            .replace("/starter", "/{plan}")
            .replace("{user}", "{id}")
            .replace("{app}", "{id}")
            .replace("{subscription}", "{id}")
            .replace("{price}", "{id}"),
    });
    let others = ALIASES.into_iter().chain([UNVERSIONED]);
    let tabled: BTreeSet<String> = routes.chain(others.map(str::to_owned)).collect();
    assert_eq!(documented, tabled.iter().map(String::as_str).collect());
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_edits_of_one_version_have_one_winner_per_round() {
    for route in ROUTES {
        let world = World::of(route).await;
        let (field, value) = &world.fields[0];

        for round in 0..ROUNDS {
            let current_version = world.get().await;
            let body = nested(field, value(round));
            let replies = world
                .all(|_| body.clone(), Some(current_version.etag()))
                .await;

            let statuses = replies.iter().map(|reply| reply.status.as_u16());
            let (won, lost): (Vec<u16>, Vec<u16>) = statuses.partition(|status| *status < 300);
            assert_eq!(
                (won.len(), lost),
                (1, vec![412; CLIENTS - 1]),
                "{}",
                route.path
            );
            let now = world.get().await;
            assert_eq!(
                now.body.pointer(field),
                Some(&value(round)),
                "{}",
                route.path
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_edits_without_if_match_keep_omitted_fields() {
    for route in ROUTES.iter().filter(|route| route.method == Method::PATCH) {
        let world = World::of(route).await;
        let sent = |client: usize| {
            let (field, value) = &world.fields[client % 2];
            (field, value(client / 2))
        };
        let before = world.get().await;

        let replies = world
            .all(
                |client| {
                    let (field, value) = sent(client);
                    nested(field, value)
                },
                None,
            )
            .await;

        // Each version equals the previous one with the edit of one of its clients. Edits without effect share a
        // version.
        let mut versions = BTreeMap::<i64, Vec<(usize, [Value; 2])>>::new();
        for (client, reply) in replies.iter().enumerate() {
            assert!(reply.status.is_success(), "{}: {reply:?}", route.path);
            let revision = revision(reply);
            let reply = (client, world.seen(&reply.body));
            versions.entry(revision).or_default().push(reply);
        }
        let mut current = world.seen(&before.body);
        for (revision, replies) in versions {
            let about = format!("{} at revision {revision}: {replies:?}", route.path);
            let next = replies[0].1.clone();
            assert!(replies.iter().all(|(_, seen)| *seen == next), "{about}");
            let explains = |client: usize| {
                let mut changed = current.clone();
                changed[client % 2] = sent(client).1;
                changed == next
            };
            assert!(
                replies.iter().any(|(client, _)| explains(*client)),
                "{about}"
            );
            current = next;
        }
        let now = world.get().await;
        assert_eq!(world.seen(&now.body), current, "{}", route.path);
    }
}

/// Pointer of a field with resolved ids, and the value of the `n`th edit.
type ResolvedField = (String, fn(usize) -> Value);

/// The app and the edited document.
struct World {
    app: Arc<TestApp>,
    method: Method,
    path: String,
    by: Caller,
    fields: [ResolvedField; 2],
}

impl World {
    async fn of(route: &Route) -> Self {
        let app = TestApp::with_demo().await;
        let partner = app.with_partner("owner").await;
        let partners = app.collection("partners");
        let partner = partners.find_one(doc! { "_id": partner }).await;
        let id = |made: Reply| made.body["id"].as_str().unwrap().to_owned();
        let flag = json!({ "key": "beta_search", "description": "A new search." });
        let flag = app.operator().post("/flags", &flag);
        let names = [
            ("{user}", app.user(Caller::Stranger).await.id.to_string()),
            ("{demo}", app.tenant("demo").await.id.to_string()),
            ("{app}", id(app.add_app("wiki").await)),
            ("{subscription}", id(app.subscribe("demo", json!({})).await)),
            (
                "{price}",
                id(app.set_price("starter", "yearly", "EUR", 1).await),
            ),
            (
                "{flag}",
                flag.await.body["key"].as_str().unwrap().to_owned(),
            ),
            (
                "{partner}",
                partner
                    .unwrap()
                    .unwrap()
                    .get_str("slug")
                    .unwrap()
                    .to_owned(),
            ),
        ];
        let concrete = |text: &str| {
            let put = |text: String, (name, value): &(&str, String)| text.replace(name, value);
            names.iter().fold(text.to_owned(), put)
        };
        Self {
            method: route.method.clone(),
            path: concrete(route.path),
            by: route.by,
            fields: route.fields.map(|(field, value)| (concrete(field), value)),
            app: Arc::new(app),
        }
    }

    async fn get(&self) -> Reply {
        self.app.client(self.by).get(&self.path).await
    }

    /// Replies to the concurrent edits of all clients.
    async fn all(&self, body: impl Fn(usize) -> Value, etag: Option<&str>) -> Vec<Reply> {
        let clients = (0..CLIENTS).map(|client| {
            let app = self.app.clone();
            let change = Change {
                method: self.method.clone(),
                path: self.path.clone(),
                by: self.by,
                body: body(client),
                etag: etag.map(str::to_owned),
            };
            tokio::spawn(async move { change.send(&app).await })
        });
        let replies = join_all(clients).await;
        replies.into_iter().map(Result::unwrap).collect()
    }

    fn seen(&self, body: &Value) -> [Value; 2] {
        let seen = |(field, _): &(String, _)| body.pointer(field).cloned().unwrap_or_default();
        [seen(&self.fields[0]), seen(&self.fields[1])]
    }
}

/// Edit of one client.
struct Change {
    method: Method,
    path: String,
    by: Caller,
    body: Value,
    etag: Option<String>,
}

impl Change {
    /// Sends the edit, and retries on retryable errors.
    async fn send(&self, app: &TestApp) -> Reply {
        loop {
            let call = app.client(self.by).request(self.method.clone(), &self.path);
            let mut call = call.json(&self.body);
            if let Some(etag) = &self.etag {
                call = call.if_match(etag);
            }
            let reply = call.await;
            if reply.body["retryable"] != true {
                return reply;
            }
        }
    }
}

/// Revision in a reply's `ETag`, which is `"generation.revision"`.
fn revision(reply: &Reply) -> i64 {
    let tag = reply.etag().trim_matches('"');
    tag.split_once('.').unwrap().1.parse().unwrap()
}

/// Object with `value` at `pointer`.
fn nested(pointer: &str, value: Value) -> Value {
    let names = pointer.split('/').skip(1).collect::<Vec<_>>().into_iter();
    names
        .rev()
        .fold(value, |inner, name| json!({ name: inner }))
}
