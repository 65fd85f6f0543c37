//! Load generator: customers that send one request after another and log the responses.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use dezky_shared::platform::tls::TrustRoots;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use reqwest::{Method, StatusCode};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{
    billing,
    client::{Client, Exchange, Reply, Request, patch, post},
    tenant_resources::{self, TenantResources},
};

/// Number of recently deleted tenants that are candidates for a restore.
const RECENTLY_DELETED: usize = 4;
/// Pause between a response and the customer's next request, in milliseconds.
const THINK_TIME_MILLIS: std::ops::Range<u64> = 50..250;
/// One in this many accepted requests is replayed.
const REPLAY_RATIO: u32 = 20;

/// All customers.
#[derive(Debug)]
pub(super) struct LoadGenerator {
    pub(super) client: Client,
    next: AtomicU64,
    resources: Mutex<Resources>,
    log: Mutex<RequestLog>,
}

/// Resources that the customers have created.
#[derive(Debug, Default)]
struct Resources {
    slugs: Vec<String>,
    deleted: Vec<String>,
    /// Paths of domains added to a tenant.
    domains: Vec<String>,
    of_tenants: TenantResources,
    jobs: Vec<String>,
}

/// A request and its outcome.
#[derive(Debug, Clone)]
pub(super) struct RequestRecord {
    /// Request id, also stored in the audit trail.
    pub(super) id: String,
    /// Kind of request.
    pub(super) action: &'static str,
    /// Number of attempts.
    pub(super) attempts: u32,
    /// Final response; `None` if the client gave up.
    pub(super) reply: Option<Reply>,
}

/// All requests of a run.
#[derive(Debug, Default)]
pub(super) struct RequestLog {
    /// Requests with their outcome.
    pub(super) records: Vec<RequestRecord>,
    /// Number of accepted requests that were replayed.
    pub(super) replays: u64,
    /// Replays with a different response, or with a one-time secret.
    pub(super) replay_mismatches: Vec<String>,
    /// One-time secrets in the responses.
    pub(super) secrets: Vec<ToldSecret>,
}

/// A one-time password or a client secret that a response told.
#[derive(Debug, Clone)]
pub(super) struct ToldSecret {
    /// Id of the request.
    pub(super) request: String,
    /// The secret.
    pub(super) value: SecretString,
}

impl RequestLog {
    /// Number of requests sent, retries and replays included.
    pub(super) fn sent(&self) -> u64 {
        let attempts = self.records.iter().map(|record| u64::from(record.attempts));
        attempts.sum::<u64>() + self.replays
    }
}

impl LoadGenerator {
    /// Customers of the apis at `urls`.
    pub(super) fn new(urls: Vec<String>, operator: String) -> anyhow::Result<Self> {
        Ok(Self {
            client: Client {
                http: TrustRoots::default().client_builder().build()?,
                urls,
                operator,
            },
            next: AtomicU64::new(1),
            resources: Mutex::default(),
            log: Mutex::default(),
        })
    }

    /// Runs one customer, which sends no new request after `end`.
    pub(super) async fn customer(&self, seed: u64, end: &CancellationToken) {
        let mut random = StdRng::seed_from_u64(seed);
        while !end.is_cancelled() {
            let (action, request) = self.choose(&mut random);
            let path = request.path.clone();
            if let Some(reply) = self.send(action, request, &mut random).await {
                self.remember(action, &path, &reply);
            }
            sleep(Duration::from_millis(
                random.random_range(THINK_TIME_MILLIS),
            ))
            .await;
        }
    }

    /// All requests so far.
    pub(super) fn log(&self) -> MutexGuard<'_, RequestLog> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn resources(&self) -> MutexGuard<'_, Resources> {
        self.resources
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// A number that no other request or tenant has.
    pub(super) fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn choose(&self, random: &mut StdRng) -> (&'static str, Request) {
        let mut resources = self.resources();
        let number = self.number();
        if random.random_bool(tenant_resources::SHARE)
            && let Some(chosen) = resources.of_tenants.choose(number, random)
        {
            return chosen;
        }
        let dice = random.random_range(0..100);
        let Some(slug) = resources
            .slugs
            .choose(random)
            .filter(|_| dice >= 18)
            .cloned()
        else {
            return ("create", create(number, random));
        };
        let tenant = format!("/tenants/{slug}");
        let on = |action: &str| post(format!("{tenant}/{action}"), None);
        match dice {
            ..34 => {
                let body = json!({ "name": format!("{slug} {number}"), "plan": plan(random) });
                ("change", patch(tenant, body))
            }
            // Not those on which members have mailboxes: a domain in use cannot be removed.
            34..39 if !tenant_resources::is_team(&slug) => {
                // Unique names, so that each domain is created and removed at most once.
                let mut domains = vec![format!("{slug}-{number}.test")];
                if random.random_bool(0.3) {
                    domains.push(format!("{slug}-{number}b.test"));
                }
                ("change", patch(tenant, json!({ "domains": domains })))
            }
            34..44 => {
                let name = format!("{slug}-{number}.test");
                resources.domains.push(format!("{tenant}/domains/{name}"));
                let body = json!({ "name": name, "primary": random.random_bool(0.2) });
                ("add domain", post(format!("{tenant}/domains"), Some(body)))
            }
            44..47 => match resources.domains.choose(random) {
                Some(domain) => ("recheck domain", post(format!("{domain}/recheck"), None)),
                None => ("reconcile", on("reconcile")),
            },
            // At most once per domain, so that no request concerns a removed domain.
            47..50 => match resources.domains.pop() {
                Some(domain) => ("remove domain", Request::new(Method::DELETE, domain, None)),
                None => ("reconcile", on("reconcile")),
            },
            50..58 => ("suspend", on("suspend")),
            58..67 => ("resume", on("resume")),
            67..73 => ("reconcile", on("reconcile")),
            73 => ("bulk requeue", bulk_requeue(random)),
            74..78 => (
                "dry run",
                post(
                    format!("{tenant}/reconcile"),
                    Some(json!({ "dryRun": true })),
                ),
            ),
            78..83 => {
                resources.deleted.push(slug.clone());
                let path = format!("{tenant}?confirm={slug}");
                ("delete", Request::new(Method::DELETE, path, None))
            }
            83..88 => {
                let recent = resources.deleted.len().saturating_sub(RECENTLY_DELETED);
                let deleted = resources.deleted[recent..].choose(random).unwrap_or(&slug);
                ("restore", post(format!("/tenants/{deleted}/restore"), None))
            }
            88..94 => match resources.jobs.choose(random) {
                Some(job) => ("requeue", post(format!("/jobs/{job}/requeue"), None)),
                None => ("reconcile", on("reconcile")),
            },
            // At most once per job, so that an accepted job was not cancelled before.
            _ => match resources.jobs.pop() {
                Some(job) => ("cancel", post(format!("/jobs/{job}/cancel"), None)),
                None => ("reconcile", on("reconcile")),
            },
        }
    }

    /// Sends a request until it has a final response, and logs it. Some are replayed.
    pub(super) async fn send(
        &self,
        action: &'static str,
        request: Request,
        random: &mut StdRng,
    ) -> Option<Reply> {
        let id = format!("chaos-{}", self.number());
        let Exchange {
            attempts,
            reply,
            secret,
        } = self.client.send_with_retries(&id, &request, random).await;
        if let Some(reply) = reply.as_ref().filter(|reply| reply.is_accepted())
            && request.is_replayable()
            && random.random_ratio(1, REPLAY_RATIO)
        {
            self.repeat(&id, &request, reply, random).await;
        }
        let mut log = self.log();
        log.secrets.extend(secret.map(|value| ToldSecret {
            request: id.clone(),
            value,
        }));
        log.records.push(RequestRecord {
            id,
            action,
            attempts,
            reply: reply.clone(),
        });
        reply
    }

    /// Records the resource that an accepted request of a customer created, for other requests.
    pub(super) fn remember(&self, action: &str, path: &str, reply: &Reply) {
        if !reply.is_accepted() {
            return;
        }
        let mut resources = self.resources();
        if action == "create" {
            resources.slugs.extend(reply.slug.clone());
        }
        resources.of_tenants.remember(action, path, reply);
        if action != "cancel" {
            resources.jobs.extend(reply.job.clone());
        }
    }

    /// Replays a request, which must change nothing and return the original response.
    async fn repeat(&self, id: &str, request: &Request, reply: &Reply, random: &mut StdRng) {
        let again = self.client.send_with_retries(id, request, random).await;
        let mut log = self.log();
        log.replays += 1;
        if again.secret.is_some() {
            let violation = format!("{id}: the replay tells the secret again");
            log.replay_mismatches.push(violation);
        }
        if let Some(again) = again.reply.filter(|again| again != reply) {
            log.replay_mismatches
                .push(format!("{id}: first {reply:?}, then {again:?}"));
        }
    }
}

fn create(number: u64, random: &mut StdRng) -> Request {
    let is_team = random.random_bool(0.5);
    let slug = if is_team {
        tenant_resources::team(number)
    } else {
        format!("tenant-{number}")
    };
    let mut body = json!({ "slug": slug, "name": format!("{slug} Ltd"), "plan": plan(random) });
    if is_team || random.random_bool(0.8) {
        body["domains"] = json!([format!("{slug}.test")]);
    }
    if random.random_bool(0.5) {
        body["owner"] = json!({ "email": format!("owner@{slug}.test"), "name": "Ada" });
    }
    post("/tenants".to_owned(), Some(body))
}

/// Requeues cancelled jobs in bulk.
fn bulk_requeue(random: &mut StdRng) -> Request {
    let kinds = [
        "provision_tenant",
        "suspend_tenant",
        "provision_domain",
        "suspend_member",
    ];
    let kind = kinds[random.random_range(0..kinds.len())];
    let filter = json!({ "state": "cancelled", "kind": kind });
    let body = json!({ "action": "requeue", "filter": filter, "rate": 100 });
    post("/job-operations".to_owned(), Some(body))
}

fn plan(random: &mut StdRng) -> Value {
    let plans = ["starter", "business", "enterprise"];
    json!(plans[random.random_range(0..plans.len())])
}

impl RequestRecord {
    /// Whether the response reports a recorded change.
    pub(super) fn recorded_change(&self) -> bool {
        let status = self.reply.as_ref().map(|reply| reply.status);
        match self.action {
            // Cancelling an available job takes effect immediately, as do pauses and settings.
            "cancel" | "pause upstream" | "resume upstream" | "pause queue" | "resume queue"
            | "save settings" => status.is_some_and(|status| status.is_success()),
            action if billing::takes_effect_at_once(action) => {
                status.is_some_and(|status| status.is_success())
            }
            // 200 means that nothing had to change.
            _ => status == Some(StatusCode::ACCEPTED),
        }
    }
}
