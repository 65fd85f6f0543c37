//! The document, held against the service by schemathesis: whatever it makes up, sent by every kind of caller, is
//! answered as documented, and refused where the document forbids it.

use std::{fs, path::Path, process::Stdio};

use bson::{Bson, DateTime, Document, doc};
use dezky_shared::id::PartnerId;
use dezky_sim::{
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
const LEAST: u64 = 2_000;

#[tokio::test]
async fn what_is_served_is_what_is_documented_to_every_kind_of_caller() {
    let stack = Stack::start().await;
    let callers = callers(&stack).await;
    let directory = tempfile::tempdir().unwrap();
    let document = directory.path().join("openapi.json");
    let (_, mut served) = stack.ask(Method::GET, "/openapi.json", None).await;
    make_strict(&mut served);
    fs::write(&document, served.to_string()).unwrap();

    let tried: Vec<Tried> = stream::iter(&callers)
        .map(|caller| try_as(caller, &stack.url, &document))
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;

    let mut requests = 0;
    let mut failed = Vec::new();
    for Tried {
        caller,
        report,
        output,
    } in &tried
    {
        let generated = report["test_cases"]["generated"]
            .as_u64()
            .unwrap_or_default();
        requests += generated;
        println!("{caller}: {generated} requests");
        if report["exit_code"] != 0 {
            println!("{output}");
            failed.push(caller);
        }
    }
    assert!(failed.is_empty(), "see above what {failed:?} found");
    assert!(requests >= LEAST, "only {requests} requests");
    let [api, _] = stack.scrape().await;
    assert_eq!(api.sum("http_requests_total", "status=\"5"), 0.0);
}

/// Who calls.
struct Caller {
    name: &'static str,
    token: Option<String>,
    thoroughly: bool,
}

/// One caller of every kind, as MongoDB knows them. `demo` and `other` are tenants of different partners.
async fn callers(stack: &Stack) -> Vec<Caller> {
    stack.create("demo").await;
    stack.create("other").await;
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
        thoroughly: false,
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
        callers.push(Caller {
            name,
            token: Some(token),
            thoroughly: matches!(name, "operator" | "owner" | "partner-owner"),
        });
    }
    let expired = TokenSpec {
        expires_in: -60,
        ..dezky_sim::callers::Caller::Operator.token()
    };
    let token = Some(stack.issuer.token(&expired).unwrap());
    callers.push(Caller {
        name: "expired",
        token,
        thoroughly: false,
    });
    // What takes longest begins first.
    callers.sort_by_key(|caller| !caller.thoroughly);
    callers
}

/// What schemathesis made of the service as one caller sees it.
struct Tried {
    caller: &'static str,
    report: Value,
    output: String,
}

async fn try_as(caller: &Caller, url: &str, document: &Path) -> Tried {
    let directory = tempfile::tempdir().unwrap();
    let report = directory.path().join("report.json");
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/schemathesis.toml");
    let mut command = Command::from(tools::schemathesis().unwrap());
    command
        .arg("--no-color")
        .arg("--config-file")
        .arg(config)
        .arg("run")
        .arg(document)
        .args(["--url", url, "--seed", SEED, "--warnings", "off"])
        .args(["--generation-database", "none", "--continue-on-failure"])
        .args(["--report", "json", "--report-json-path"])
        .arg(&report)
        // It keeps what it finds where it runs.
        .current_dir(directory.path());
    if let Some(token) = &caller.token {
        command.args(["--header", &format!("Authorization: Bearer {token}")]);
    }
    if caller.thoroughly {
        command.args(["--max-examples", "20"]);
    } else {
        command.args(["--phases", "fuzzing", "--max-examples", "4"]);
    }
    let ended = command
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();

    let report = fs::read(report).unwrap_or_default();
    Tried {
        caller: caller.name,
        report: serde_json::from_slice(&report).unwrap_or_default(),
        output: String::from_utf8_lossy(&ended.stdout).into_owned()
            + &String::from_utf8_lossy(&ended.stderr),
    }
}

/// Forbids what an answer holds beyond the document, which callers have to put up with so that fields can be added;
/// and leaves out what lasts: streams, and waiting.
fn make_strict(document: &mut Value) {
    let paths = document["paths"].as_object_mut().unwrap();
    paths.retain(|path, _| !path.ends_with("/events"));
    for operation in paths
        .values_mut()
        .flat_map(|item| item.as_object_mut().unwrap().values_mut())
    {
        if let Some(parameters) = operation["parameters"].as_array_mut() {
            parameters.retain(|parameter| parameter["name"] != "wait");
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
