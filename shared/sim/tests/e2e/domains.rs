//! The life of a domain, through the api and the public DNS, and its jobs in workers that are killed.

use std::time::Duration;

use dezky_shared::domain::check::Record;
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

/// How long a test waits for what comes at its own time: the first look is after a minute.
const PATIENCE: Duration = Duration::from_mins(2);
const DOMAIN: &str = "/tenants/demo/domains/verify.test";

impl Stack {
    /// With a tenant that has an owner and no domain.
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

    /// The owner claims the domain.
    async fn claim(&self) -> Value {
        let name = json!({ "name": "Verify.test." });
        let path = "/tenants/demo/domains";
        let (status, claim) = self.owner(Method::POST, path, Some(name)).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{claim}");
        claim
    }

    /// An operator adds the domain.
    async fn vouch(&self) -> Value {
        let name = json!({ "name": "verify.test" });
        let path = "/tenants/demo/domains";
        let (status, domain) = self.ask(Method::POST, path, Some(name)).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{domain}");
        domain
    }

    /// Waits until the domain is as it should be.
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

    /// Asks for a look at the DNS, as soon as one may, and waits for it.
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

    async fn until_job(&self, job: &Value, state: &str) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (_, job) = self
                .ask(Method::GET, job["href"].as_str().unwrap(), None)
                .await;
            if job["state"] == state {
                return job;
            }
            assert!(Instant::now() < deadline, "{job:#}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The customer publishes what the api shows.
    fn publish(&self, records: &Value) {
        let records: Vec<Record> = serde_json::from_value(records.clone()).unwrap();
        self.dns.publish(&records).unwrap();
    }

    fn made(&self) -> bool {
        self.stalwart.domains().contains(&"verify.test".to_owned())
    }
}

/// The kinds of the checks that say that something is wrong, extras left out.
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
async fn a_domain_turns_verified_by_itself_and_says_which_record_broke_and_stays_while_used() {
    let stack = Stack::with_owner().await;

    let claim = stack.claim().await;
    assert_eq!(
        (&claim["name"], &claim["status"]),
        (&json!("verify.test"), &json!("pending"))
    );
    assert!(claim["records"].as_array().unwrap().is_empty());
    assert!(!stack.made(), "nobody proved it");
    stack.publish(&json!([claim["ownership"]]));
    // The customer does nothing but publish what is shown.
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
    assert_eq!(wrong(&broken), ["mx"]);
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
async fn a_domain_of_an_operators_is_verified_without_proof_and_goes_when_nobody_uses_it() {
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
    stack.publish(&served["records"]);
    // Nobody asks for a look.
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
async fn a_name_that_nobody_can_have_is_refused_and_says_why() {
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
async fn a_worker_killed_while_it_makes_a_domain_loses_and_doubles_nothing() {
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
async fn a_worker_killed_while_it_removes_a_domain_leaves_nothing_behind() {
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
async fn a_worker_killed_while_it_looks_at_the_dns_looks_again_and_gives_the_domain_once() {
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
    // Dying right after the claim was proven: what follows from that is in the same transaction.
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

/// A request that is answered late, and one that takes effect late.
fn before_and_after() -> [Fault; 2] {
    [
        Fault::SlowAnswer { millis: 1_500 },
        Fault::SlowEffect { millis: 300 },
    ]
}

/// Kills the worker while what `begin` asks for has it make this request of the mail server.
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
