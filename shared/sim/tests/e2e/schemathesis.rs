//! The document, held against the service by schemathesis: whatever it makes up, sent by every kind of caller, is
//! answered as documented, and refused where the document forbids it.

use std::{fs, path::PathBuf, process::Stdio};

use bson::{Bson, DateTime, Document, doc};
use dezky_shared::id::PartnerId;
use dezky_sim::{
    callers,
    issuer::{OPERATOR, PORTAL, TokenSpec},
    tools,
};
use futures::{StreamExt as _, stream};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::stack::Stack;

/// What schemathesis begins with; another finds other requests.
const SEED: &str = "1";
/// How many callers are tried at a time.
const AT_ONCE: usize = 2;
/// How many requests there are at least.
const LEAST: f64 = 2_000.0;
/// Everything it can think of, for those who may do much.
const THOROUGHLY: &[&str] = &["--max-examples", "10", "--continue-on-failure"];
/// A few requests for each operation, most of which are refused.
const BRIEFLY: &[&str] = &["--phases", "fuzzing", "--max-examples", "4"];

#[tokio::test]
async fn what_is_served_is_what_is_documented_to_every_kind_of_caller() {
    let stack = Stack::start().await;
    let callers = everybody(&stack).await;
    let directory = tempfile::tempdir().unwrap();
    let trial = Trial {
        url: stack.url.clone(),
        document: directory.path().join("openapi.json"),
        config: directory.path().join("schemathesis.toml"),
    };
    let (_, mut document) = stack.ask(Method::GET, "/openapi.json", None).await;
    make_strict(&mut document);
    fs::write(&trial.document, document.to_string()).unwrap();
    fs::write(&trial.config, config(&stack).await).unwrap();
    let before = stack.scrape().await[0].sum("http_requests_total", "");

    let outcomes: Vec<Outcome> = stream::iter(&callers)
        .map(|caller| trial.by(caller))
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;

    let failed: Vec<&Outcome> = outcomes
        .iter()
        .filter(|outcome| !outcome.is_clean)
        .collect();
    for outcome in &failed {
        eprintln!("As {}:\n{}", outcome.caller, outcome.output);
    }
    let [api, _] = stack.scrape().await;
    let requests = api.sum("http_requests_total", "") - before;
    let accepted = api.sum("http_requests_total", "status=\"2");
    eprintln!("{requests} requests, {accepted} of them accepted");
    assert!(
        failed.is_empty(),
        "see above, and replay it against `cargo dev up`"
    );
    assert!(requests >= LEAST, "{requests}");
    assert!(
        accepted >= requests / 10.0,
        "{accepted} of {requests} were accepted"
    );
    assert!(api.sum("http_requests_total", "status=\"5") < 1.0);
}

/// What schemathesis is told beside the document.
async fn config(stack: &Stack) -> String {
    let (_, jobs) = stack.ask(Method::GET, "/tenants/demo/jobs", None).await;
    let (_, stranger) = stack
        .ask_as(callers::Caller::Stranger, Method::GET, "/users/me", None)
        .await;
    include_str!("schemathesis.toml")
        .replace("JOB", jobs["items"][0]["id"].as_str().unwrap())
        .replace("USER", stranger["id"].as_str().unwrap())
}

/// Who calls.
struct Caller {
    name: &'static str,
    token: Option<String>,
    extent: &'static [&'static str],
}

/// One caller of every kind, as MongoDB knows them. `demo` and `other` are tenants of different partners.
async fn everybody(stack: &Stack) -> Vec<Caller> {
    for slug in ["demo", "other"] {
        stack.create(slug).await;
        stack.until_status(slug, "active").await;
    }
    let database = stack.database().await;
    let partner = async |slug: &str, status: &str| {
        let id = PartnerId::new();
        let now = DateTime::now();
        let partner = doc! {
            "_id": id, "slug": slug, "name": slug, "status": status, "marginBasisPoints": 1_250,
            "revision": 1_i64, "createdAt": now, "updatedAt": now,
        };
        let partners = database.collection("partners");
        partners.insert_one(partner).await.unwrap();
        id
    };
    let nordic = partner("nordic", "active").await;
    let elsewhere = partner("elsewhere", "active").await;
    let former = partner("former", "terminated").await;
    let tenant = async |slug: &str, partner: PartnerId| {
        let tenants = database.collection::<Document>("tenants");
        let of = doc! { "$set": { "partnerId": partner } };
        let tenant = tenants.find_one_and_update(doc! { "slug": slug }, of).await;
        tenant.unwrap().unwrap().get("_id").unwrap().clone()
    };
    let demo = tenant("demo", nordic).await;
    let other = tenant("other", elsewhere).await;

    let member = |tenant: &Bson, role: &str| {
        let now = DateTime::now();
        doc! { "memberships": [{ "tenantId": tenant, "role": role, "source": "local", "changedAt": now }] }
    };
    let staff = |partner: PartnerId, role: &str| doc! { "partnerId": partner, "partnerRole": role };
    let flag = doc! { "platformAdmin": true };
    let nothing = Document::new();
    let kinds = [
        ("stranger", PORTAL, nothing.clone()),
        ("member", PORTAL, member(&demo, "member")),
        ("admin", PORTAL, member(&demo, "admin")),
        ("owner", PORTAL, member(&demo, "owner")),
        ("other-owner", PORTAL, member(&other, "owner")),
        ("partner-owner", PORTAL, staff(nordic, "owner")),
        ("partner-manager", PORTAL, staff(nordic, "manager")),
        ("partner-support", PORTAL, staff(nordic, "support")),
        ("partner-read-only", PORTAL, staff(nordic, "read-only")),
        ("other-partner", PORTAL, staff(elsewhere, "owner")),
        ("former-partner", PORTAL, staff(former, "owner")),
        ("operator-without-flag", OPERATOR, nothing),
        ("flag-without-audience", PORTAL, flag.clone()),
        ("operator", OPERATOR, flag),
    ];
    let mut callers = vec![Caller {
        name: "nobody",
        token: None,
        extent: BRIEFLY,
    }];
    for (name, application, rights) in kinds {
        let spec = TokenSpec {
            application: application.to_owned(),
            email: Some(format!("{name}@people.test")),
            name: Some(name.to_owned()),
            ..TokenSpec::default()
        };
        let token = stack.issuer.token(&spec).unwrap();
        let (status, _) = stack.ask_with(&token, Method::GET, "/users/me", None).await;
        assert_eq!(status, StatusCode::OK);
        if !rights.is_empty() {
            let users = database.collection::<Document>("users");
            let them = doc! { "authentikSubjectId": spec.subject };
            users
                .update_one(them, doc! { "$set": rights })
                .await
                .unwrap();
        }
        let extent = match name {
            "operator" | "owner" | "partner-owner" => THOROUGHLY,
            _ => BRIEFLY,
        };
        callers.push(Caller {
            name,
            token: Some(token),
            extent,
        });
    }
    let expired = TokenSpec {
        expires_in: -60,
        ..callers::Caller::Operator.token()
    };
    let token = Some(stack.issuer.token(&expired).unwrap());
    callers.push(Caller {
        name: "expired",
        token,
        extent: BRIEFLY,
    });
    // What takes longest begins first.
    callers.sort_by_key(|caller| caller.extent == BRIEFLY);
    callers
}

/// How the service is tried.
struct Trial {
    url: String,
    document: PathBuf,
    config: PathBuf,
}

/// What schemathesis made of the service as one caller sees it.
struct Outcome {
    caller: &'static str,
    is_clean: bool,
    output: String,
}

impl Trial {
    async fn by(&self, caller: &Caller) -> Outcome {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::from(tools::schemathesis().unwrap());
        command
            .args(["--no-color", "--config-file"])
            .arg(&self.config)
            .arg("run")
            .arg(&self.document)
            .args(["--url", &self.url, "--seed", SEED])
            .args(["--generation-database", "none", "--warnings", "off"])
            .args(caller.extent)
            // It keeps what it finds where it runs.
            .current_dir(&directory);
        if let Some(token) = &caller.token {
            command.args(["--header", &format!("Authorization: Bearer {token}")]);
        }
        let ended = command.stdin(Stdio::null()).kill_on_drop(true).output();
        let ended = ended.await.unwrap();
        Outcome {
            caller: caller.name,
            is_clean: ended.status.success(),
            output: [ended.stdout, ended.stderr]
                .map(|printed| String::from_utf8_lossy(&printed).into_owned())
                .concat(),
        }
    }
}

/// Forbids what an answer holds beyond the document, which callers have to put up with so that fields can be added.
/// Leaves out what lasts, which is streams and waiting, and the key that makes most requests a repetition of another.
fn make_strict(document: &mut Value) {
    let paths = document["paths"].as_object_mut().unwrap();
    paths.retain(|path, _| !path.ends_with("/events"));
    let items = paths.values_mut().map(|item| item.as_object_mut().unwrap());
    for operation in items.flat_map(|item| item.values_mut()) {
        if let Some(Value::Array(parameters)) = operation.get_mut("parameters") {
            let is_left_out = |name: &Value| name == "wait" || name == "Idempotency-Key";
            parameters.retain(|parameter| !is_left_out(&parameter["name"]));
        }
    }
    close(document);
}

/// Every object has the fields that are named, and no others.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            if members.get("type") == Some(&json!("object")) && members.contains_key("properties") {
                members
                    .entry("additionalProperties")
                    .or_insert(json!(false));
            }
            members.values_mut().for_each(close);
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}
