//! Many clients change the same document at once, and no change is lost: with `If-Match` one of them wins each round,
//! and without it what was not sent stays as it is.

use std::{collections::BTreeMap, sync::Arc};

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
    path: &'static str,
    /// Each with the value that the `n`th change gives it, which is another than the one before.
    fields: [(&'static str, fn(usize) -> Value); 2],
}

const PATCHES: &[Route] = &[
    Route {
        path: "/tenants/demo",
        fields: [
            ("/name", |n| json!(format!("Name {n}"))),
            ("/industry", |n| json!(format!("Industry {n}"))),
        ],
    },
    Route {
        path: "/tenants/demo/domains/demo.test",
        fields: [
            ("/dmarc/policy", |n| json!(["reject", "quarantine"][n % 2])),
            ("/dmarc/rua", |n| json!(format!("reports-{n}@demo.test"))),
        ],
    },
    Route {
        path: "/users/{user}",
        fields: [
            ("/tenantRoles/{demo}", |n| json!(["member", "admin"][n % 2])),
            ("/platformAdmin", |n| json!(n.is_multiple_of(2))),
        ],
    },
];

#[tokio::test(flavor = "multi_thread")]
async fn of_many_with_the_same_version_one_wins_each_round() {
    for route in PATCHES {
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
    for route in PATCHES {
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

/// The app, and the document that is changed.
struct World {
    app: Arc<TestApp>,
    path: String,
    fields: [(String, fn(usize) -> Value); 2],
}

impl World {
    async fn of(route: &Route) -> Self {
        let app = Arc::new(TestApp::with_demo().await);
        let user = app.user(Caller::Stranger).await.id.to_string();
        let demo = app.tenant("demo").await.id.to_string();
        let concrete = |text: &str| text.replace("{user}", &user).replace("{demo}", &demo);
        Self {
            path: concrete(route.path),
            fields: route.fields.map(|(field, value)| (concrete(field), value)),
            app,
        }
    }

    async fn get(&self) -> Reply {
        // Nobody but operators changes rights, and only whoever has them sees them.
        let reply = match self.path.strip_prefix("/users/") {
            None => self.app.get(&self.path).by(Caller::Operator),
            Some(_) => self.app.get("/users/me").by(Caller::Stranger),
        };
        reply.send().await
    }

    /// What everybody is answered who sends their change at the same time.
    async fn all(&self, body: impl Fn(usize) -> Value, known: Option<&str>) -> Vec<Reply> {
        let clients = (0..CLIENTS).map(|client| {
            let (app, path, body) = (self.app.clone(), self.path.clone(), body(client));
            let known = known.map(str::to_owned);
            tokio::spawn(async move { change(&app, &path, &body, known.as_deref()).await })
        });
        let replies = join_all(clients).await;
        replies.into_iter().map(Result::unwrap).collect()
    }

    fn seen(&self, body: &Value) -> [Value; 2] {
        let seen = |(field, _): &(String, _)| body.pointer(field).cloned().unwrap_or_default();
        [seen(&self.fields[0]), seen(&self.fields[1])]
    }
}

/// Sends a change, again and again while it is only refused because others are before it.
async fn change(app: &TestApp, path: &str, body: &Value, known: Option<&str>) -> Reply {
    loop {
        let mut call = app
            .call(Method::PATCH, path)
            .by(Caller::Operator)
            .json(body);
        if let Some(known) = known {
            call = call.header("if-match", known);
        }
        let reply = call.send().await;
        if reply.body["retryable"] != true {
            return reply;
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
