//! One-time passwords and client secrets: in one response each, and in no store, log or trace.

use std::{
    fmt::Write as _,
    sync::{Arc, Mutex},
};

use dezky_sim::{
    faults::{Fault, FaultRule},
    process::Process,
};
use futures::TryStreamExt as _;
use mongodb::bson::{Document, doc};
use nix::sys::signal::Signal;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    collector::Collector,
    stack::{OwnStores, Stack},
};

const USERS: &str = "/tenants/acme/users";
const APPS: &str = "/tenants/acme/apps";

/// Every command that Redis executes, as text, from the start of this call on.
async fn monitored(url: &str) -> Arc<Mutex<Vec<u8>>> {
    let address = url.trim_start_matches("redis://").trim_end_matches('/');
    let address = address.split('/').next().unwrap();
    let mut connection = TcpStream::connect(address).await.unwrap();
    connection.write_all(b"MONITOR\r\n").await.unwrap();
    let seen = Arc::<Mutex<Vec<u8>>>::default();
    let sink = seen.clone();
    tokio::spawn(async move {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(read @ 1..) = connection.read(&mut buffer).await {
            sink.lock().unwrap().extend_from_slice(&buffer[..read]);
        }
    });
    seen
}

/// Sends a request twice with one key. Returns the secret of the first response, which no other response has.
async fn secret(stack: &Stack, path: &str, body: Option<&Value>, field: &str) -> (String, String) {
    let send = async || {
        let mut request = stack.request(Method::POST, path);
        if let Some(body) = body {
            request = request.json(body);
        }
        let request = request.header("idempotency-key", format!("once-{path}"));
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::ACCEPTED, "{path}");
        let body: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
        body
    };
    let first = send().await;
    let replayed = send().await;
    assert_eq!(replayed[field], Value::Null, "{path}");
    assert_eq!(replayed["secretAlreadyShown"], true, "{path}");
    let secret = first[field].as_str().unwrap().to_owned();
    (secret, first["id"].as_str().unwrap().to_owned())
}

/// Imports a member. Returns the one-time password, which is in a file that is handed over once, and the text of every
/// document while it is kept for that.
async fn imported(stack: &Stack) -> (String, String) {
    let file = "localPart,name,role\ngrace,Grace,member\n";
    let request = stack.request(Method::POST, &format!("{USERS}/import"));
    let request = request.header("content-type", "text/csv").body(file);
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), StatusCode::ACCEPTED);
    let import: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
    stack.until_no_job_of("import_members").await;
    let kept = stored(stack).await;
    let path = format!(
        "{USERS}/imports/{}/passwords",
        import["id"].as_str().unwrap()
    );
    let response = stack.request(Method::POST, &path).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let sheet = response.text().await.unwrap();
    let row = sheet.lines().nth(1).unwrap();
    let password = row.split("\",\"").nth(4).unwrap().to_owned();
    (password, kept)
}

/// The text of every document.
async fn stored(stack: &Stack) -> String {
    let database = stack.database().await;
    let mut texts = String::new();
    for name in database.list_collection_names().await.unwrap() {
        let found = database.collection::<Document>(&name).find(doc! {}).await;
        let documents: Vec<Document> = found.unwrap().try_collect().await.unwrap();
        write!(texts, "{documents:?}").unwrap();
    }
    texts
}

async fn stop(process: &mut Process) {
    process.signal(Signal::SIGTERM);
    process.ended().await.unwrap();
}

#[tokio::test]
async fn no_secret_is_in_a_store_a_log_or_a_trace() {
    let stores = OwnStores::start().await;
    let collector = Collector::start().await;
    let commands = monitored(&stores.redis.url).await;
    let mut stack = Stack::start_on_with(
        &stores,
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url.clone()),
            ("SEALING_KEYS", format!("test:{}=", "A".repeat(43))),
            ("RUST_LOG", "debug".to_owned()),
            ("LOG_FORMAT", "json".to_owned()),
        ],
    )
    .await;
    stack.create("acme").await;
    stack.until_status("acme", "active").await;
    // What quotes a request or a response is recorded with a failure.
    let refused = |status| Fault::Status {
        status,
        retry_after: None,
    };
    for operation in ["set_password", "create_provider", "update_provider"] {
        let faults = &stack.authentik.server.faults;
        faults.add(FaultRule::once(operation, refused(500)));
        faults.add(FaultRule::once(operation, Fault::AnswerLost));
    }
    let faults = &stack.stalwart.server.faults;
    faults.add(FaultRule::once("create_account", refused(503)));
    faults.add(FaultRule::once("set_mailbox_password", Fault::AnswerLost));

    let ada = json!({ "localPart": "ada", "name": "Ada", "role": "member" });
    let (first, ada) = secret(&stack, USERS, Some(&ada), "oneTimePassword").await;
    let wiki = json!({ "name": "Wiki", "slug": "wiki", "redirectUris": ["https://wiki.test/cb"] });
    let (client_secret, wiki) = secret(&stack, APPS, Some(&wiki), "clientSecret").await;
    let reset = format!("{USERS}/{ada}/reset-password");
    let (second, _) = secret(&stack, &reset, None, "oneTimePassword").await;
    let rotate = format!("{APPS}/{wiki}/rotate-secret");
    let (rotated, _) = secret(&stack, &rotate, None, "clientSecret").await;
    // While jobs carry them, and after their ends.
    let mut searched = vec![("MongoDB, before", stored(&stack).await)];
    let (of_import, kept) = imported(&stack).await;
    searched.push(("MongoDB, with an import", kept));
    let secrets = [first, second, client_secret, rotated, of_import];
    for kind in [
        "provision_member",
        "reset_member_password",
        "provision_app",
        "rotate_app_secret",
    ] {
        stack.until_no_job_of(kind).await;
    }
    searched.push(("MongoDB", stored(&stack).await));
    for path in [USERS, APPS, "/jobs", "/tenants/acme/audit"] {
        let (_, shown) = stack.ask(Method::GET, path, None).await;
        searched.push((path, shown.to_string()));
    }
    stop(&mut stack.api).await;
    stop(&mut stack.worker).await;
    searched.push(("the logs", stack.logs()));
    searched.push(("the traces", collector.text()));
    let commands = String::from_utf8_lossy(&commands.lock().unwrap()).into_owned();
    searched.push(("Redis", commands));

    for (place, text) in searched {
        assert!(!text.is_empty(), "{place}");
        for secret in &secrets {
            let bare = secret.replace('-', "");
            let is_there = text.contains(secret) || text.contains(&bare);
            assert!(!is_there, "{place} has a secret");
        }
    }
    // They work, so that the right texts were searched for.
    for (login, password) in [
        ("ada@acme.test", &secrets[1]),
        ("grace@acme.test", &secrets[4]),
    ] {
        assert!(stack.authentik.sign_in(login, password).is_ok(), "{login}");
    }
    assert!(
        stack
            .authentik
            .sign_in("ada@acme.test", &secrets[0])
            .is_err()
    );
}
