//! Life cycle of a domain through the api and the simulated DNS, and its jobs in workers that are killed.

use std::time::Duration;

use bson::{Document, doc};
use dezky_shared::{domain::check::Record, platform::clock};
use dezky_sim::{
    callers::{Caller, DEMO_TENANT},
    dns::{DnsFault, DnsFaultRule},
    faults::{Fault, FaultRule},
    stalwart,
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::stack::{Stack, until};

/// Timeout for what comes at its own time: a check that is due is spread over a minute.
const PATIENCE: Duration = Duration::from_mins(2);
const DOMAIN: &str = "/tenants/demo/domains/verify.test";

impl Stack {
    /// A stack with a tenant that has an owner and no domain.
    async fn with_owner() -> Self {
        let stack = Self::start().await;
        let owner = Caller::Owner;
        stack
            .authentik
            .add_known_user(&owner.email(), owner.subject());
        stack.dns.add(stalwart::HOST, "A", "192.0.2.25").unwrap();
        let tenant = json!({
            "slug": DEMO_TENANT,
            "name": "Demo",
            "owner": { "email": owner.email(), "name": "Demo owner" },
        });
        let (status, answer) = stack.ask(Method::POST, "/tenants", Some(tenant)).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{answer}");
        let tenant = stack.until_status(DEMO_TENANT, "active").await;
        assert_eq!(tenant["provisioningStatus"]["stalwart"], "skipped");
        stack
    }

    async fn owner(&self, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        self.ask_as(Caller::Owner, method, path, body).await
    }

    /// Claims the domain as the owner.
    async fn claim(&self) -> Value {
        let name = json!({ "name": "Verify.test." });
        let path = "/tenants/demo/domains";
        let (status, claim) = self.owner(Method::POST, path, Some(name)).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{claim}");
        claim
    }

    /// Adds the domain as an operator.
    async fn vouch(&self) -> Value {
        let name = json!({ "name": "verify.test" });
        let path = "/tenants/demo/domains";
        let (status, domain) = self.ask(Method::POST, path, Some(name)).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{domain}");
        domain
    }

    /// Polls the domain until `is` returns true.
    async fn until_domain(&self, is: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (_, domain) = self.owner(Method::GET, DOMAIN, None).await;
            if is(&domain) {
                return domain;
            }
            assert!(Instant::now() < deadline, "{domain:#}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Requests a recheck as soon as one is allowed, and waits for it.
    async fn look(&self) -> Value {
        let deadline = Instant::now() + PATIENCE;
        let job = loop {
            let path = format!("{DOMAIN}/recheck");
            let (status, answer) = self.owner(Method::POST, &path, None).await;
            if status == StatusCode::ACCEPTED {
                break answer["job"].clone();
            }
            assert_eq!(answer["code"], "recheck_too_soon", "{answer}");
            assert!(Instant::now() < deadline, "{answer}");
            tokio::time::sleep(Duration::from_millis(500)).await;
        };
        self.until_job(&job, "completed").await;
        self.owner(Method::GET, DOMAIN, None).await.1
    }

    /// Makes the first check of a claim due, as after the minute that it waits.
    async fn pass_the_first_minute(&self) {
        let jobs = self.database().await.collection::<Document>("jobs");
        let waiting = doc! { "kind": "recheck_domain", "state": "available" };
        let due = doc! { "$set": { "runAt": clock::now() } };
        let found = jobs.update_one(waiting, due).await.unwrap();
        assert_eq!(found.matched_count, 1);
    }

    /// Makes the schedule of the checks due, and with it the next check of the domain, as after the minute that both wait.
    async fn pass_a_scheduled_minute(&self) {
        let database = self.database().await;
        // Seconds ahead: a check that is overdue is spread over a minute.
        let due = clock::later(clock::now(), Duration::from_secs(8));
        let next = doc! { "$set": { "nextCheckAt": due } };
        let domains = database.collection::<Document>("domains");
        let found = domains.update_one(doc! { "name": "verify.test" }, next);
        assert_eq!(found.await.unwrap().matched_count, 1);

        let name = "recheck_domains";
        let instants = database.collection::<Document>("schedule_instants");
        let run = doc! { "schedule": name };
        instants.delete_many(run).await.unwrap();
        let before = clock::earlier(clock::now(), Duration::from_mins(1));
        let seen = doc! { "$set": { "seen": before }, "$setOnInsert": { "missed": 0_i64 } };
        let schedules = database.collection::<Document>("schedules");
        let upserted = schedules.update_one(doc! { "_id": name }, seen);
        upserted.upsert(true).await.unwrap();
    }

    /// Waits for a job, or for the one of the schedule that superseded it.
    async fn until_job(&self, job: &Value, state: &str) -> Value {
        let deadline = Instant::now() + PATIENCE;
        let mut href = job["href"].as_str().unwrap().to_owned();
        loop {
            let (_, job) = self.ask(Method::GET, &href, None).await;
            if job["state"] == state {
                return job;
            }
            if let Some(successor) = job["supersededBy"].as_str() {
                href = format!("/jobs/{successor}");
            }
            assert!(Instant::now() < deadline, "{job:#}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Publishes records in the simulated DNS.
    fn publish(&self, records: &Value) {
        let records: Vec<Record> = serde_json::from_value(records.clone()).unwrap();
        self.dns.publish(&records).unwrap();
    }

    fn made(&self) -> bool {
        self.stalwart.domains().contains(&"verify.test".to_owned())
    }
}

/// Failed checks, optional ones excluded.
fn wrong(domain: &Value) -> Vec<&str> {
    let checks = domain["checks"].as_array().unwrap().iter();
    checks
        .filter(|check| {
            !matches!(
                check["state"].as_str().unwrap(),
                "ok" | "warning" | "unknown"
            )
        })
        .map(|check| check["kind"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn a_claimed_domain_is_verified_reports_a_broken_record_and_cannot_be_removed_while_in_use() {
    let stack = Stack::with_owner().await;

    let claim = stack.claim().await;
    assert_eq!(
        (&claim["name"], &claim["status"]),
        (&json!("verify.test"), &json!("pending"))
    );
    assert!(claim["records"].as_array().unwrap().is_empty());
    assert!(
        !stack.made(),
        "a domain without proof was created in the mail server"
    );
    stack.publish(&json!([claim["ownership"]]));
    // The customer does nothing but publish what is shown.
    stack.pass_the_first_minute().await;
    let owned = stack
        .until_domain(|domain| !domain["records"].as_array().unwrap().is_empty())
        .await;
    assert_eq!(owned["ownedBy"], "proof");
    assert!(stack.made());
    stack.publish(&owned["records"]);
    let verified = stack.look().await;
    assert_eq!(verified["status"], "verified", "{verified:#}");
    assert_eq!(wrong(&verified), [""; 0]);

    stack.dns.remove("verify.test", Some("MX")).unwrap();
    let broken = stack.look().await;
    assert_eq!(broken["status"], "attention", "{broken:#}");
    // The SPF record authorizes the MX hosts.
    assert_eq!(wrong(&broken), ["mx", "spf"]);
    let (_, summary) = stack
        .owner(Method::GET, "/tenants/demo/summary", None)
        .await;
    assert_eq!(summary["domains"]["attention"], 1, "{summary}");

    assert!(stack.stalwart.make_mailbox("ada@verify.test"));
    let (status, removing) = stack.owner(Method::DELETE, DOMAIN, None).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{removing}");
    let refused = stack.until_job(&removing["job"], "discarded").await;
    assert_eq!(refused["error"]["code"], "domain_in_use");
    let kept = stack.owner(Method::GET, DOMAIN, None).await.1;
    let conditions = kept["conditions"].as_array().unwrap();
    let told = conditions
        .iter()
        .find(|it| it["type"] == "Removable")
        .unwrap();
    assert!(
        told["message"]
            .as_str()
            .unwrap()
            .contains("ada@verify.test")
    );
    assert!(stack.made());
}

#[tokio::test]
async fn a_domain_added_by_an_operator_is_verified_without_proof_and_removed_when_unused() {
    let stack = Stack::with_owner().await;

    let added = stack.vouch().await;
    assert_eq!(added["ownedBy"], "operator");
    let served = stack
        .until_domain(|domain| !domain["records"].as_array().unwrap().is_empty())
        .await;
    stack
        .until(DEMO_TENANT, |tenant| {
            tenant["provisioningStatus"]["stalwart"] == "ok"
        })
        .await;
    // The check right after the records were expected.
    stack
        .until_domain(|domain| !domain["checkedAt"].is_null())
        .await;
    stack.publish(&served["records"]);
    // No check is requested.
    stack.pass_a_scheduled_minute().await;
    stack
        .until_domain(|domain| domain["status"] == "verified")
        .await;

    let (_, removing) = stack.owner(Method::DELETE, DOMAIN, None).await;
    stack.until_job(&removing["job"], "completed").await;
    assert_eq!(
        stack.owner(Method::GET, DOMAIN, None).await.0,
        StatusCode::NOT_FOUND
    );
    assert!(
        !stack.made()
            && stack
                .stalwart
                .dkim_signatures()
                .iter()
                .all(|key| key.domain != "verify.test")
    );
}

#[tokio::test]
async fn an_invalid_domain_name_is_refused_with_a_reason() {
    let stack = Stack::start_with(&[("DOMAINS_OWN", "dezky.com".to_owned())]).await;
    let (status, _) = stack
        .ask(
            Method::POST,
            "/tenants",
            Some(json!({ "slug": "acme", "name": "Acme" })),
        )
        .await;
    assert_eq!(status, StatusCode::ACCEPTED);
    let long = "a".repeat(300);

    for (name, code) in [
        (long.as_str(), "domain_too_long"),
        ("💩.dk", "domain_invalid_characters"),
        ("xn--a.dk", "domain_invalid_a_label"),
        ("раypal.com", "domain_mixed_scripts"),
        ("acme..dk", "domain_empty_label"),
        ("*.acme.dk", "domain_wildcard"),
        ("192.0.2.1", "domain_is_address"),
        ("2001:db8::1", "domain_is_address"),
        ("dk", "domain_public_suffix"),
        ("co.uk", "domain_public_suffix"),
        ("mail.dezky.com", "domain_is_ours"),
    ] {
        let path = "/tenants/acme/domains";
        let (status, answer) = stack
            .ask(Method::POST, path, Some(json!({ "name": name })))
            .await;

        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{name}");
        let error = &answer["errors"][0];
        assert_eq!(error["code"], code, "{name}: {answer}");
        assert!(!error["message"].as_str().unwrap().is_empty());
    }
    let path = "/tenants/acme/domains";
    let (_, list) = stack.ask(Method::GET, path, None).await;
    assert_eq!(list["items"], json!([]));
}

#[tokio::test]
async fn a_worker_killed_while_provisioning_a_domain_loses_and_duplicates_nothing() {
    for fault in before_and_after() {
        let mut stack = Stack::with_owner().await;
        killed_in(&mut stack, "create_domain", fault, async |stack| {
            stack.vouch().await;
        })
        .await;

        let served = stack
            .until_domain(|domain| !domain["records"].as_array().unwrap().is_empty())
            .await;
        let effects = &stack.stalwart.server.effects;
        assert_eq!(effects.count_for("create_domain", "verify.test"), 1);
        assert_eq!(served["ownedBy"], "operator");
        stack
            .until(DEMO_TENANT, |tenant| {
                tenant["provisioningStatus"]["stalwart"] == "ok"
            })
            .await;
    }
}

#[tokio::test]
async fn a_worker_killed_while_removing_a_domain_leaves_nothing_behind() {
    for fault in before_and_after() {
        let mut stack = Stack::with_owner().await;
        stack.vouch().await;
        stack
            .until_domain(|domain| !domain["records"].as_array().unwrap().is_empty())
            .await;
        killed_in(&mut stack, "destroy_domain", fault, async |stack| {
            stack.owner(Method::DELETE, DOMAIN, None).await;
        })
        .await;

        stack
            .until_domain(|answer| answer["code"] == "not_found")
            .await;
        assert!(!stack.made());
        let tenant = stack.tenant(DEMO_TENANT).await;
        assert_eq!(tenant["domains"], json!([]));
    }
}

#[tokio::test]
async fn a_worker_killed_during_a_dns_check_repeats_it_and_grants_ownership_once() {
    let mut stack = Stack::with_owner().await;
    let claim = stack.claim().await;
    stack.publish(&json!([claim["ownership"]]));
    let silent = DnsFaultRule {
        name: None,
        kind: None,
        fault: DnsFault::Silence,
    };
    stack.dns.fail(silent);

    let asked = stack.dns.questions().len();
    let (_, answer) = stack
        .owner(Method::POST, &format!("{DOMAIN}/recheck"), None)
        .await;
    until("a question", || stack.dns.questions().len() > asked).await;
    stack.worker.kill().await;
    stack.dns.mend();
    stack.worker.restart().await.unwrap();
    stack.until_job(&answer["job"], "completed").await;
    // Killed right after the proof: its consequences are in the same transaction.
    stack.worker.kill().await;
    stack.worker.restart().await.unwrap();

    let owned = stack
        .until_domain(|domain| !domain["records"].as_array().unwrap().is_empty())
        .await;
    assert_eq!(owned["ownedBy"], "proof");
    let effects = &stack.stalwart.server.effects;
    assert_eq!(effects.count_for("create_domain", "verify.test"), 1);
    let proven = owned["history"].as_array().unwrap().iter();
    let proven = proven.filter(|entry| entry["what"] == "ownership" && entry["to"] == "ok");
    assert_eq!(proven.count(), 1, "{owned:#}");
}

/// A late response, and a late effect.
fn before_and_after() -> [Fault; 2] {
    [
        Fault::SlowAnswer { millis: 1_500 },
        Fault::SlowEffect { millis: 300 },
    ]
}

/// Kills the worker during this request to the mail server, which `begin` leads to.
async fn killed_in(
    stack: &mut Stack,
    operation: &str,
    fault: Fault,
    begin: impl AsyncFnOnce(&Stack),
) {
    let faults = &stack.stalwart.server.faults;
    let asked = || faults.requests().get(operation).copied();
    let before = asked();
    faults.add(FaultRule::once(operation, fault));
    begin(stack).await;
    until(operation, || asked() > before).await;
    stack.worker.kill().await;
    stack.worker.restart().await.unwrap();
}
