//! Sign-in at the simulated issuer, by the OIDC clients that portals use, and by hand.

use std::{fs, process::Stdio};

use dezky_shared::platform::tls::TrustRoots;
use dezky_sim::{
    issuer::{CLIENT_SECRET, Issuer, PORTAL},
    tools::portal_tools,
};
use http::StatusCode;
use reqwest::{Client, redirect::Policy};
use tempfile::TempDir;
use tokio::{process::Command, task::spawn_blocking};

const SCRIPTS: [(&str, &str); 3] = [
    ("browser.mjs", include_str!("sign_in/browser.mjs")),
    (
        "openid_client.mjs",
        include_str!("sign_in/openid_client.mjs"),
    ),
    ("oauth4webapi.mjs", include_str!("sign_in/oauth4webapi.mjs")),
];

async fn issuer() -> Issuer {
    Issuer::start("127.0.0.1:0".parse().unwrap()).await.unwrap()
}

/// Runs a script against the issuer. Panics with its output if it fails.
async fn run(issuer: &Issuer, script: &str, arguments: &[&str]) {
    let tools = spawn_blocking(portal_tools).await.unwrap().unwrap();
    let directory = TempDir::new().unwrap();
    for (name, text) in SCRIPTS {
        fs::write(directory.path().join(name), text).unwrap();
    }
    tools.link_packages(directory.path()).unwrap();
    let mut command = Command::from(tools.openapi.node());
    command
        .arg(directory.path().join(script))
        .arg(issuer.url(PORTAL))
        .arg(PORTAL)
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let ended = command.output().await.unwrap();
    let output = [ended.stdout, ended.stderr].concat();
    assert!(
        ended.status.success(),
        "{}",
        String::from_utf8_lossy(&output)
    );
}

#[tokio::test]
async fn openid_client_signs_in_refreshes_and_signs_out() {
    let issuer = issuer().await;
    for method in ["basic", "post", "none"] {
        run(&issuer, "openid_client.mjs", &[CLIENT_SECRET, method]).await;
    }
}

#[tokio::test]
async fn oauth4webapi_signs_in_and_refreshes() {
    run(&issuer().await, "oauth4webapi.mjs", &[]).await;
}

fn browser() -> Client {
    let builder = TrustRoots::default().client_builder();
    builder.redirect(Policy::none()).build().unwrap()
}

fn authorize(issuer: &Issuer, changed: &[(&str, &str)]) -> String {
    let mut url = reqwest::Url::parse(&format!("{}/application/o/authorize/", issuer.server.url));
    let url = url.as_mut().unwrap();
    let valid = [
        ("client_id", PORTAL),
        ("redirect_uri", "http://localhost:3000/callback"),
        ("response_type", "code"),
        ("scope", "openid"),
        ("state", "<s>"),
        (
            "code_challenge",
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
        ),
        ("code_challenge_method", "S256"),
    ];
    for (name, value) in valid {
        let changed = changed.iter().find(|(other, _)| *other == name);
        let value = changed.map_or(value, |(_, value)| *value);
        url.query_pairs_mut().append_pair(name, value);
    }
    let added = changed
        .iter()
        .filter(|(name, _)| !valid.iter().any(|(it, _)| it == name));
    url.query_pairs_mut().extend_pairs(added);
    url.to_string()
}

#[tokio::test]
async fn a_request_without_pkce_is_refused_at_the_portal_and_a_foreign_portal_gets_nothing() {
    let issuer = issuer().await;
    let browser = browser();
    for (changed, error) in [
        (("code_challenge_method", "plain"), "invalid_request"),
        (("code_challenge", ""), "invalid_request"),
        (("response_type", "token"), "unsupported_response_type"),
        (("scope", "email"), "invalid_scope"),
        (("prompt", "none"), "login_required"),
    ] {
        let reply = browser
            .get(authorize(&issuer, &[changed]))
            .send()
            .await
            .unwrap();

        let location = reply.headers()["location"].to_str().unwrap();
        assert!(
            location.starts_with("http://localhost:3000/callback?"),
            "{location}"
        );
        assert!(location.contains(&format!("error={error}&")), "{location}");
        assert!(location.contains("state=%3Cs%3E"), "{location}");
    }
    for changed in [
        ("client_id", "unknown"),
        ("redirect_uri", "http://portal.example.com/"),
        ("redirect_uri", "javascript:alert(1)"),
        ("redirect_uri", "http://localhost:3000/#x"),
    ] {
        let reply = browser
            .get(authorize(&issuer, &[changed]))
            .send()
            .await
            .unwrap();

        assert_eq!(reply.status(), StatusCode::BAD_REQUEST, "{changed:?}");
    }
}

#[tokio::test]
async fn any_person_can_be_entered_and_the_page_escapes_what_it_repeats() {
    let issuer = issuer().await;
    let browser = browser();

    let page = browser.get(authorize(&issuer, &[])).send().await.unwrap();
    let page = page.text().await.unwrap();
    let person = [
        ("sign_in_as", "other"),
        ("subject", "00000000-0000-4000-8000-0000000000bb"),
        ("groups", "demo, dezky-platform-admins"),
    ];
    let entered = browser
        .get(authorize(&issuer, &person))
        .send()
        .await
        .unwrap();

    assert!(
        page.contains("value=\"&lt;s&gt;\"") && !page.contains("<s>"),
        "{page}"
    );
    assert_eq!(entered.status(), StatusCode::FOUND);
    let location = entered.headers()["location"].to_str().unwrap();
    assert!(location.contains("code="), "{location}");
}
