//! Many clients change the same document at once, and no change is lost: with `If-Match` one of them wins each round,
//! and without it what was not sent stays as it is.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bson::doc;
use dezky_sim::callers::Caller;
use futures::future::join_all;
use http::Method;
use serde_json::{Value, json};

use crate::app::{Reply, TestApp};

/// How many clients there are.
const CLIENTS: usize = 50;
/// How often all of them try to win.
const ROUNDS: usize = 3;

/// A route that changes a document, and two fields of it, as they are named in the request and in the answer.
struct Route {
    method: Method,
    path: &'static str,
    by: Caller,
    /// Each with the value that the `n`th change gives it, which is another than the one before.
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

/// What replaces the whole of it.
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
    /// It concerns a part of the user that `/users/{id}` changes, or a tenant in the partner's words.
    const THE_SAME: [&str; 3] = [
        "/tenants/{slug}/users/{id}",
        "/partner/team/{id}",
        "/partner/tenants/{slug}",
    ];
    let app = TestApp::start().await;
    let document = app.get("/openapi.json").send().await.body;

    let paths = document["paths"].as_object().unwrap().iter();
    let changing = paths.filter(|(_, item)| !item["patch"].is_null() || !item["put"].is_null());
    let documented: BTreeSet<&str> = changing.map(|(path, _)| path.as_str()).collect();

    let routes = ROUTES.iter().map(|route| match route.path {
        "/tenants/demo/domains/demo.test" => "/tenants/{slug}/domains/{domain}".to_owned(),
        "/partners/{partner}" => "/partners/{slug}".to_owned(),
        "/flags/{flag}" => "/flags/{key}".to_owned(),
        path => path
            .replace("/demo", "/{slug}")
            .replace("{user}", "{id}")
            .replace("{subscription}", "{id}")
            .replace("{price}", "{id}"),
    });
    let tabled: BTreeSet<String> = routes.chain(THE_SAME.map(str::to_owned)).collect();
    assert_eq!(documented, tabled.iter().map(String::as_str).collect());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_with_the_same_version_one_wins_each_round() {
    for route in ROUTES {
        let world = World::of(route).await;
        let (field, value) = &world.fields[0];

        for round in 0..ROUNDS {
            let known = world.get().await;
            let body = nested(field, value(round));
            let replies = world.all(|_| body.clone(), Some(known.etag())).await;

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
async fn what_was_not_sent_stays_as_others_left_it() {
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

        // Each version is the one before with what one of its clients sent. Some sent what was there already.
        let mut versions = BTreeMap::<i64, Vec<(usize, [Value; 2])>>::new();
        for (client, reply) in replies.iter().enumerate() {
            assert!(reply.status.is_success(), "{}: {reply:?}", route.path);
            let revision = revision(reply);
            let answer = (client, world.seen(&reply.body));
            versions.entry(revision).or_default().push(answer);
        }
        let mut stands = world.seen(&before.body);
        for (revision, answers) in versions {
            let about = format!("{} at revision {revision}: {answers:?}", route.path);
            let next = answers[0].1.clone();
            assert!(answers.iter().all(|(_, seen)| *seen == next), "{about}");
            let comes_of = |client: usize| {
                let mut changed = stands.clone();
                changed[client % 2] = sent(client).1;
                changed == next
            };
            assert!(
                answers.iter().any(|(client, _)| comes_of(*client)),
                "{about}"
            );
            stands = next;
        }
        let now = world.get().await;
        assert_eq!(world.seen(&now.body), stands, "{}", route.path);
    }
}

/// Where a field of this tenant stands, and what the n-th writer puts there.
type FieldHere = (String, fn(usize) -> Value);

/// The app, and the document that is changed.
struct World {
    app: Arc<TestApp>,
    method: Method,
    path: String,
    by: Caller,
    fields: [FieldHere; 2],
}

impl World {
    async fn of(route: &Route) -> Self {
        let app = TestApp::with_demo().await;
        let partner = app.with_partner("owner").await;
        let partners = app.collection("partners");
        let partner = partners.find_one(doc! { "_id": partner }).await;
        let id = |made: Reply| made.body["id"].as_str().unwrap().to_owned();
        let flag = json!({ "key": "beta_search", "description": "A new search." });
        let flag = app.post("/flags").by(Caller::Operator).json(&flag).send();
        let names = [
            ("{user}", app.user(Caller::Stranger).await.id.to_string()),
            ("{demo}", app.tenant("demo").await.id.to_string()),
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
        self.app.get(&self.path).by(self.by).send().await
    }

    /// What everybody is answered who sends their change at the same time.
    async fn all(&self, body: impl Fn(usize) -> Value, known: Option<&str>) -> Vec<Reply> {
        let clients = (0..CLIENTS).map(|client| {
            let app = self.app.clone();
            let change = Change {
                method: self.method.clone(),
                path: self.path.clone(),
                by: self.by,
                body: body(client),
                known: known.map(str::to_owned),
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

/// What one client sends.
struct Change {
    method: Method,
    path: String,
    by: Caller,
    body: Value,
    known: Option<String>,
}

impl Change {
    /// Sends it, again and again while it is only refused because others are before it.
    async fn send(&self, app: &TestApp) -> Reply {
        loop {
            let call = app.call(self.method.clone(), &self.path).by(self.by);
            let mut call = call.json(&self.body);
            if let Some(known) = &self.known {
                call = call.header("if-match", known);
            }
            let reply = call.send().await;
            if reply.body["retryable"] != true {
                return reply;
            }
        }
    }
}

/// The revision in an answer's `ETag`, which is `"generation.revision"`.
fn revision(reply: &Reply) -> i64 {
    let tag = reply.etag().trim_matches('"');
    tag.split_once('.').unwrap().1.parse().unwrap()
}

/// The object that has this value at the pointer.
fn nested(pointer: &str, value: Value) -> Value {
    let names = pointer.split('/').skip(1).collect::<Vec<_>>().into_iter();
    names
        .rev()
        .fold(value, |inner, name| json!({ name: inner }))
}
