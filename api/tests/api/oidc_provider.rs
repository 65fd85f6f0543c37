//! Tokens of `oidc-provider`, a certified OIDC issuer that others wrote.

use std::process::Stdio;

use dezky_api::config::IssuerConfig;
use dezky_sim::tools::portal_tools;
use serde::Deserialize;
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    task::spawn_blocking,
};

use crate::app::{TestApp, shared_issuer};

/// Origin of a console that no test of this file opens.
const CONSOLE: &str = "https://console.test";

/// Tokens that the issuer gave to a person who signed in, and a refreshed one.
#[derive(Debug, Deserialize)]
struct Tokens {
    issuer: String,
    access_token: String,
    refreshed: String,
}

/// The issuer's process.
#[derive(Debug)]
pub(crate) struct OidcProvider {
    _directory: tempfile::TempDir,
    _process: Child,
    tokens: Tokens,
}

impl OidcProvider {
    /// Starts an issuer at which a person with these groups signs in, also to the console at this origin.
    pub(crate) async fn start(groups: &[&str], console: &str) -> Self {
        let tools = spawn_blocking(portal_tools).await.unwrap().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let script = directory.path().join("issuer.mjs");
        std::fs::write(&script, include_str!("oidc_provider/issuer.mjs")).unwrap();
        tools.link_packages(directory.path()).unwrap();
        let person = json!({
            "sub": "00000000-0000-4000-8000-0000000000aa", "email": "ada@people.test", "name": "Ada King",
            "groups": groups,
        });
        let mut process = Command::from(tools.openapi.node())
            .arg(script)
            .arg(person.to_string())
            .arg(console)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let printed = process.stdout.take().unwrap();
        let line = BufReader::new(printed).lines().next_line().await.unwrap();
        let line = line.expect("the issuer prints the tokens");
        Self {
            _directory: directory,
            _process: process,
            tokens: serde_json::from_str(&line).unwrap(),
        }
    }

    /// The issuer's name, which is its address.
    pub(crate) fn issuer(&self) -> &str {
        &self.tokens.issuer
    }
}

#[tokio::test]
async fn tokens_of_a_certified_issuer_are_accepted_with_their_claims() {
    let provider = OidcProvider::start(&["demo"], CONSOLE).await;
    let tokens = &provider.tokens;
    let app = TestApp::start_with(shared_issuer(), |config| {
        config.auth.issuers.push(IssuerConfig {
            name: tokens.issuer.clone(),
            jwks_url: None,
            audiences: vec!["dezky-portal".to_owned()],
        });
    })
    .await;
    app.demo().await;

    let profile = app.with_token(&tokens.access_token).get("/users/me").await;
    let tenant = app.with_token(&tokens.refreshed).get("/tenants/demo").await;

    assert_eq!(profile.status, 200, "{profile:?}");
    assert_eq!(profile.body["email"], "ada@people.test");
    assert_eq!(profile.body["name"], "Ada King");
    assert_eq!(tenant.status, 200, "{tenant:?}");
}

#[tokio::test]
async fn tokens_of_another_issuer_are_refused() {
    let provider = OidcProvider::start(&["demo"], CONSOLE).await;
    let app = TestApp::start().await;

    let reply = app
        .with_token(&provider.tokens.access_token)
        .get("/users/me")
        .await;

    assert_eq!(reply.summary(), "401 token_wrong_issuer");
}
