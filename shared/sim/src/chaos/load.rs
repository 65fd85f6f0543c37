//! Customers: each asks for one thing after another, as good clients do, and writes down what it was answered.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use dezky_shared::{platform::tls::TrustRoots, queue::job::Queue, upstream::Upstream};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::client::{Answered, Client, Fate, Request};

/// How many of the tenants deleted last may still be restored, about.
const RECENT: usize = 4;
/// The time between an answer and the next request of the same customer, in milliseconds.
const PAUSE: std::ops::Range<u64> = 50..250;
/// One in so many requests is repeated though it was answered.
const REPEATED: u32 = 20;

/// All customers together.
#[derive(Debug)]
pub(super) struct Load {
    client: Client,
    next: AtomicU64,
    world: Mutex<World>,
    ledger: Mutex<Ledger>,
}

/// What the customers know.
#[derive(Debug, Default)]
struct World {
    slugs: Vec<String>,
    deleted: Vec<String>,
    /// Domains that were added to a tenant, by their paths.
    domains: Vec<String>,
    jobs: Vec<String>,
}

/// A request and what became of it.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// The request's id, as the audit trail knows it.
    pub(super) id: String,
    /// What was asked for.
    pub(super) action: &'static str,
    /// How often it was sent.
    pub(super) tries: u32,
    /// What was answered at last; nothing if the customer lost its patience.
    pub(super) answer: Option<Answered>,
}

/// Everything that was asked for.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// The requests.
    pub(super) entries: Vec<Entry>,
    /// How many answered requests were repeated.
    pub(super) repeated: u64,
    /// Those that were then answered otherwise.
    pub(super) answered_otherwise: Vec<String>,
}

impl Load {
    /// Customers of the apis at `urls`.
    pub(super) fn new(urls: Vec<String>, operator: String) -> anyhow::Result<Self> {
        Ok(Self {
            client: Client {
                http: TrustRoots::default().client_builder().build()?,
                urls,
                operator,
            },
            next: AtomicU64::new(1),
            world: Mutex::default(),
            ledger: Mutex::default(),
        })
    }

    /// Introduces the operator, who may do nothing before.
    pub(super) async fn introduce(&self) -> anyhow::Result<()> {
        self.client.introduce().await
    }

    /// One customer, who asks for nothing new after `end`.
    pub(super) async fn customer(&self, seed: u64, end: &CancellationToken) {
        let mut random = StdRng::seed_from_u64(seed);
        while !end.is_cancelled() {
            let (action, request) = self.choose(&mut random);
            self.ask(action, request, &mut random).await;
            sleep(Duration::from_millis(random.random_range(PAUSE))).await;
        }
    }

    /// Has every one of these tenants reconciled.
    pub(super) async fn reconcile(&self, slugs: &[String]) {
        let mut random = StdRng::seed_from_u64(0);
        for slug in slugs {
            let request = post(format!("/tenants/{slug}/reconcile"), None);
            self.ask("reconcile", request, &mut random).await;
        }
    }

    /// Has an operator stop work with an upstream, and says whether that was accepted.
    pub(super) async fn pause_upstream(&self, upstream: Upstream) -> bool {
        let path = format!("/upstreams/{upstream}/pause");
        self.operate("pause upstream", path).await
    }

    /// Has an operator let work with an upstream go on.
    pub(super) async fn resume_upstream(&self, upstream: Upstream) -> bool {
        let path = format!("/upstreams/{upstream}/resume");
        self.operate("resume upstream", path).await
    }

    /// Has an operator stop a queue.
    pub(super) async fn pause_queue(&self, queue: Queue) -> bool {
        let path = format!("/queues/{}/pause", queue.name());
        self.operate("pause queue", path).await
    }

    /// Has an operator let a queue go on.
    pub(super) async fn resume_queue(&self, queue: Queue) -> bool {
        let path = format!("/queues/{}/resume", queue.name());
        self.operate("resume queue", path).await
    }

    async fn operate(&self, action: &'static str, path: String) -> bool {
        let mut random = StdRng::seed_from_u64(0);
        let answer = self.ask(action, post(path, None), &mut random).await;
        answer.is_some_and(|answer| answer.is_accepted())
    }

    /// Everything that was asked for so far.
    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn choose(&self, random: &mut StdRng) -> (&'static str, Request) {
        let mut world = self.world();
        let dice = random.random_range(0..100);
        let number = self.number();
        let Some(slug) = world.slugs.choose(random).filter(|_| dice >= 18).cloned() else {
            return ("create", create(number, random));
        };
        let tenant = format!("/tenants/{slug}");
        let on = |action: &str| post(format!("{tenant}/{action}"), None);
        match dice {
            ..34 => {
                let body = json!({ "name": format!("{slug} {number}"), "plan": plan(random) });
                ("change", patch(tenant, body))
            }
            34..39 => {
                // No name is used twice, so each is made once and removed once.
                let mut domains = vec![format!("{slug}-{number}.test")];
                if random.random_bool(0.3) {
                    domains.push(format!("{slug}-{number}b.test"));
                }
                ("change", patch(tenant, json!({ "domains": domains })))
            }
            39..44 => {
                let name = format!("{slug}-{number}.test");
                world.domains.push(format!("{tenant}/domains/{name}"));
                let body = json!({ "name": name, "primary": random.random_bool(0.2) });
                ("add domain", post(format!("{tenant}/domains"), Some(body)))
            }
            44..47 => match world.domains.choose(random) {
                Some(domain) => ("look at domain", post(format!("{domain}/recheck"), None)),
                None => ("reconcile", on("reconcile")),
            },
            // Each at most once, so that nothing is removed that is not there any more.
            47..50 => match world.domains.pop() {
                Some(domain) => ("remove domain", Request::new(Method::DELETE, domain, None)),
                None => ("reconcile", on("reconcile")),
            },
            50..58 => ("suspend", on("suspend")),
            58..67 => ("resume", on("resume")),
            67..73 => ("reconcile", on("reconcile")),
            73 => ("many jobs", many_jobs(random)),
            74..78 => (
                "dry run",
                post(
                    format!("{tenant}/reconcile"),
                    Some(json!({ "dryRun": true })),
                ),
            ),
            78..83 => {
                world.deleted.push(slug.clone());
                let path = format!("{tenant}?confirm={slug}");
                ("delete", Request::new(Method::DELETE, path, None))
            }
            83..88 => {
                let recent = world.deleted.len().saturating_sub(RECENT);
                let deleted = world.deleted[recent..].choose(random).unwrap_or(&slug);
                ("restore", post(format!("/tenants/{deleted}/restore"), None))
            }
            88..94 => match world.jobs.choose(random) {
                Some(job) => ("requeue", post(format!("/jobs/{job}/requeue"), None)),
                None => ("reconcile", on("reconcile")),
            },
            // Each job at most once, so that an accepted one was surely not cancelled before.
            _ => match world.jobs.pop() {
                Some(job) => ("cancel", post(format!("/jobs/{job}/cancel"), None)),
                None => ("reconcile", on("reconcile")),
            },
        }
    }

    async fn ask(
        &self,
        action: &'static str,
        request: Request,
        random: &mut StdRng,
    ) -> Option<Answered> {
        let id = format!("chaos-{}", self.number());
        let Fate { tries, answer } = self.client.ask(&id, &request, random).await;
        if let Some(answer) = answer.as_ref().filter(|answer| answer.is_accepted()) {
            self.learn(action, answer);
            if random.random_ratio(1, REPEATED) {
                self.repeat(&id, &request, answer, random).await;
            }
        }
        self.ledger().entries.push(Entry {
            id,
            action,
            tries,
            answer: answer.clone(),
        });
        answer
    }

    fn learn(&self, action: &str, answer: &Answered) {
        let mut world = self.world();
        if action == "create" {
            world.slugs.extend(answer.slug.clone());
        }
        if action != "cancel" {
            world.jobs.extend(answer.job.clone());
        }
    }

    /// Sends an answered request once more, which must change nothing and be answered alike.
    async fn repeat(&self, id: &str, request: &Request, answer: &Answered, random: &mut StdRng) {
        let again = self.client.ask(id, request, random).await;
        let mut ledger = self.ledger();
        ledger.repeated += 1;
        if let Some(again) = again.answer.filter(|again| again != answer) {
            ledger
                .answered_otherwise
                .push(format!("{id}: first {answer:?}, then {again:?}"));
        }
    }
}

fn create(number: u64, random: &mut StdRng) -> Request {
    let slug = format!("tenant-{number}");
    let mut body = json!({ "slug": slug, "name": format!("{slug} Ltd"), "plan": plan(random) });
    if random.random_bool(0.8) {
        body["domains"] = json!([format!("{slug}.test")]);
    }
    if random.random_bool(0.5) {
        body["owner"] = json!({ "email": format!("owner@{slug}.test"), "name": "Ada" });
    }
    post("/tenants".to_owned(), Some(body))
}

/// Operators have what was cancelled done after all.
fn many_jobs(random: &mut StdRng) -> Request {
    let kinds = ["provision_tenant", "suspend_tenant", "provision_domain"];
    let kind = kinds[random.random_range(0..kinds.len())];
    let filter = json!({ "state": "cancelled", "kind": kind });
    let body = json!({ "action": "requeue", "filter": filter, "rate": 100 });
    post("/job-operations".to_owned(), Some(body))
}

fn plan(random: &mut StdRng) -> Value {
    let plans = ["starter", "business", "enterprise"];
    json!(plans[random.random_range(0..plans.len())])
}

fn post(path: String, body: Option<Value>) -> Request {
    Request::new(Method::POST, path, body)
}

fn patch(path: String, body: Value) -> Request {
    Request::new(Method::PATCH, path, Some(body))
}

impl Answered {
    /// Whether it was a 2xx.
    pub(super) fn is_accepted(&self) -> bool {
        self.status.is_success()
    }
}

impl Entry {
    /// Whether it changed something, as far as the answer says.
    pub(super) fn has_changed(&self) -> bool {
        let status = self.answer.as_ref().map(|answer| answer.status);
        match self.action {
            // A job that waited is over at once; what an operator pauses is, too.
            "cancel" | "pause upstream" | "resume upstream" | "pause queue" | "resume queue" => {
                status.is_some_and(|status| status.is_success())
            }
            // 200 says that all was as wanted.
            _ => status == Some(StatusCode::ACCEPTED),
        }
    }
}
