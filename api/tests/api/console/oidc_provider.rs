//! Sign-in at `oidc-provider`, a certified OIDC issuer that others wrote.

use std::collections::BTreeMap;

use dezky_api::config::{ConsoleConfig, IssuerConfig};
use dezky_shared::platform::tls::TrustRoots;
use http::{StatusCode, header};
use reqwest::{Response, Url, redirect::Policy};

use super::browser::{Browser, ORIGIN};
use crate::{
    app::{TestApp, shared_issuer},
    oidc_provider::OidcProvider,
};

/// The pages of the issuer in a browser, which keeps its cookies.
#[derive(Debug)]
struct IssuerPages {
    client: reqwest::Client,
    cookies: BTreeMap<String, String>,
}

impl IssuerPages {
    fn new() -> Self {
        let builder = TrustRoots::default().client_builder();
        Self {
            client: builder.redirect(Policy::none()).build().unwrap(),
            cookies: BTreeMap::new(),
        }
    }

    async fn get(&mut self, url: &Url) -> Response {
        let cookies = self.cookies.iter();
        let cookies = cookies.map(|(name, value)| format!("{name}={value}"));
        let cookies = cookies.collect::<Vec<_>>().join("; ");
        let request = self.client.get(url.clone());
        let response = request.header(header::COOKIE, cookies).send().await;
        let response = response.unwrap();
        for set in response.headers().get_all(header::SET_COOKIE) {
            let (pair, _) = set.to_str().unwrap().split_once(';').unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
        response
    }

    /// Follows the issuer's redirects back to the console. Returns the path there.
    async fn answer(&mut self, begun: &str) -> String {
        let mut url = Url::parse(begun).unwrap();
        loop {
            if let Some(path) = url.as_str().strip_prefix(ORIGIN) {
                return path.to_owned();
            }
            let response = self.get(&url).await;
            let location = response.headers().get(header::LOCATION);
            let location = location.unwrap_or_else(|| panic!("{response:?}"));
            url = url.join(location.to_str().unwrap()).unwrap();
        }
    }
}

/// An app whose operators sign in at the issuer.
async fn app_of(provider: &OidcProvider) -> TestApp {
    let issuer = IssuerConfig {
        name: provider.issuer().to_owned(),
        jwks_url: None,
        audiences: vec!["dezky-operator".to_owned()],
    };
    TestApp::start_with(shared_issuer(), |config| {
        config.auth.issuers.insert(0, issuer);
        let console =
            ConsoleConfig::new(ORIGIN, None, &config.auth, &config.encryption_keys).unwrap();
        config.console = Some(console);
    })
    .await
}

#[tokio::test]
async fn an_operator_signs_in_and_out_at_a_certified_issuer() {
    let provider = OidcProvider::start(&["dezky-platform-admins"], ORIGIN).await;
    let app = app_of(&provider).await;
    let (mut browser, mut pages) = (Browser::new(&app), IssuerPages::new());

    let begun = browser
        .get("/console/sign-in?return_to=/console/jobs")
        .await;
    let answer = pages.answer(begun.location()).await;
    let signed_in = browser.get(&answer).await;
    let page = browser.get("/console").await;
    let out = browser.submit(&page, "/console/sign-out", &[]).await;
    let ended = pages.get(&Url::parse(out.location()).unwrap()).await;

    assert_eq!(signed_in.status, StatusCode::SEE_OTHER, "{signed_in:?}");
    assert_eq!(signed_in.location(), "/console/jobs");
    assert!(page.text.contains("Ada King (admin)"), "{}", page.text);
    assert!(out.location().starts_with(provider.issuer()), "{out:?}");
    assert!(out.location().contains("id_token_hint="), "{out:?}");
    // The issuer refuses an unknown address to return to, and an id token that is not its own.
    assert_eq!(ended.status(), StatusCode::OK, "{ended:?}");
    assert_eq!(app.count("console_sessions").await, 0);
}

#[tokio::test]
async fn a_person_whom_a_certified_issuer_knows_is_no_operator_without_its_group() {
    let provider = OidcProvider::start(&["demo"], ORIGIN).await;
    let app = app_of(&provider).await;
    let (mut browser, mut pages) = (Browser::new(&app), IssuerPages::new());

    let begun = browser.get("/console/sign-in").await;
    let answer = pages.answer(begun.location()).await;
    let refused = browser.get(&answer).await;

    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{refused:?}");
    assert_eq!(app.count("console_sessions").await, 0);
}
