//! The TypeScript client in `api/client`: its types, and its behaviour against the service, in Node.js.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use axum::Router;
use bson::doc;
use dezky_shared::id::JobId;
use dezky_sim::{
    callers::Caller,
    issuer::TokenSpec,
    tools::{NpmPackages, portal_tools},
};
use serde::Deserialize;
use serde_json::json;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    net::TcpListener,
    process::Command,
    task::spawn_blocking,
};

use crate::app::TestApp;

/// Set to write the generated types instead of comparing them.
const UPDATE: &str = "UPDATE_CLIENT_SCHEMA";

/// Operations that the portal calls.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Request {
    End { end: JobId, state: String },
    Change { change: String, industry: String },
}

fn package() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("client")
}

async fn tools() -> NpmPackages {
    spawn_blocking(portal_tools).await.unwrap().unwrap()
}

/// Runs a command. Panics with its output if it fails.
async fn run(command: &mut Command) {
    let ended = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let ended = ended.await.unwrap();
    let output = [ended.stdout, ended.stderr].concat();
    assert!(
        ended.status.success(),
        "{}",
        String::from_utf8_lossy(&output)
    );
}

#[tokio::test]
async fn the_types_are_those_of_the_document() {
    let tools = tools().await;
    let directory = TempDir::new().unwrap();
    let document = dezky_api::document().to_string();
    fs::write(directory.path().join("openapi.json"), document).unwrap();
    let mut generator = Command::from(tools.openapi.typescript_generator());
    generator.args(["openapi.json", "--output", "schema.ts"]);
    run(generator.current_dir(directory.path())).await;
    let generated = fs::read_to_string(directory.path().join("schema.ts")).unwrap();
    let path = package().join("src/schema.ts");

    if env::var_os(UPDATE).is_some() {
        fs::write(&path, &generated).unwrap();
    }
    let stored = fs::read_to_string(&path).unwrap_or_default();

    let is_current = stored == generated;
    assert!(is_current, "run: {UPDATE}=1 cargo dev test client_package");
}

/// The compiled client, with the portal that uses it.
async fn compiled(tools: &NpmPackages) -> TempDir {
    let directory = TempDir::new().unwrap();
    let sources = directory.path().join("src");
    fs::create_dir(&sources).unwrap();
    for entry in fs::read_dir(package().join("src")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), sources.join(entry.file_name())).unwrap();
    }
    for name in ["package.json", "tsconfig.json"] {
        fs::copy(package().join(name), directory.path().join(name)).unwrap();
    }
    let portal = package().join("test/portal.mjs");
    fs::copy(portal, directory.path().join("portal.mjs")).unwrap();
    tools.link_packages(directory.path()).unwrap();
    let mut compiler = Command::from(tools.openapi.typescript_compiler());
    compiler.args(["--project", "."]);
    run(compiler.current_dir(directory.path())).await;
    directory
}

/// Serves the app. Returns its address.
async fn serve(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

#[tokio::test]
async fn a_portal_uses_the_client_against_the_service() {
    let app = TestApp::with_operator().await;
    let tools = tools().await;
    let directory = compiled(&tools).await;
    let token = app.token(&Caller::Operator.token());
    let expired = app.token(&TokenSpec {
        expires_in: -3_600,
        ..Caller::Operator.token()
    });
    let base_url = serve(app.router.clone()).await;
    let arguments = json!({ "baseUrl": base_url, "token": token, "expired": expired });

    let mut portal = Command::from(tools.openapi.node())
        .arg("portal.mjs")
        .arg(arguments.to_string())
        .current_dir(directory.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut requests = BufReader::new(portal.stdout.take().unwrap()).lines();
    let mut served = 0;
    while let Some(line) = requests.next_line().await.unwrap() {
        match serde_json::from_str(&line).unwrap() {
            Request::End { end, state } => app.set_job(end, doc! { "state": state }).await,
            Request::Change { change, industry } => {
                app.set_tenant(&change, doc! { "industry": industry }).await;
            }
        }
        served += 1;
    }
    let mut errors = String::new();
    let mut stderr = portal.stderr.take().unwrap();
    stderr.read_to_string(&mut errors).await.unwrap();

    let status = portal.wait().await.unwrap();
    assert!(status.success(), "{errors}");
    assert_eq!(served, 4);
}
