//! A browser without scripts: keeps cookies, and sends the forms of pages.

use std::collections::BTreeMap;

use axum::{Router, body::Body};
use dezky_api::config::ConsoleConfig;
use dezky_shared::platform::tls::TrustRoots;
use dezky_sim::callers::Caller;
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use reqwest::{Url, redirect::Policy};
use tower::ServiceExt as _;

use crate::app::{TestApp, shared_issuer};

/// Address of the console in tests.
pub(super) const ORIGIN: &str = "https://console.test";

/// A page, or another response.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) text: String,
}

impl Page {
    pub(super) fn location(&self) -> &str {
        self.headers[header::LOCATION].to_str().unwrap()
    }

    /// The value of the first hidden field with this name.
    pub(super) fn hidden(&self, name: &str) -> &str {
        let field = format!("name=\"{name}\" value=\"");
        let (_, rest) = self.text.split_once(&field).unwrap();
        rest.split('"').next().unwrap()
    }

    /// The cookies that the response sets, with their attributes.
    pub(super) fn cookies(&self) -> Vec<&str> {
        let cookies = self.headers.get_all(header::SET_COOKIE).into_iter();
        cookies.map(|value| value.to_str().unwrap()).collect()
    }
}

/// An app with the console, with the tenant `demo`.
pub(super) async fn app() -> TestApp {
    let app = TestApp::start_with(shared_issuer(), |config| {
        let console =
            ConsoleConfig::new(ORIGIN, None, &config.auth, &config.encryption_keys).unwrap();
        config.console = Some(console);
    })
    .await;
    app.demo().await;
    app
}

/// A browser with its cookies.
#[derive(Debug, Clone)]
pub(super) struct Browser<'a> {
    app: &'a TestApp,
    /// Process that answers instead of that of the app.
    process: Option<Router>,
    pub(super) cookies: BTreeMap<String, String>,
}

impl<'a> Browser<'a> {
    pub(super) fn new(app: &'a TestApp) -> Self {
        Self {
            app,
            process: None,
            cookies: BTreeMap::new(),
        }
    }

    /// This browser, with its cookies, in front of another process.
    pub(super) fn through(&self, process: &Router) -> Self {
        Self {
            process: Some(process.clone()),
            ..self.clone()
        }
    }

    /// A browser in which this caller has signed in.
    pub(super) async fn signed_in(app: &'a TestApp, caller: Caller) -> Self {
        let mut browser = Self::new(app);
        let page = browser.sign_in(caller, "/console").await;
        assert_eq!(page.status, StatusCode::SEE_OTHER, "{page:?}");
        browser
    }

    /// Signs in, as if this page had been opened. Returns the response to the issuer's answer.
    pub(super) async fn sign_in(&mut self, caller: Caller, page: &str) -> Page {
        let answer = self.answer_of_issuer(caller, page).await;
        self.get(&answer).await
    }

    /// Begins a sign-in, and chooses this caller at the issuer. Returns where the issuer redirects to.
    pub(super) async fn answer_of_issuer(&mut self, caller: Caller, page: &str) -> String {
        let begun = self
            .get(&format!("/console/sign-in?return_to={page}"))
            .await;
        assert_eq!(begun.status, StatusCode::SEE_OTHER, "{begun:?}");
        let mut url = Url::parse(begun.location()).unwrap();
        url.query_pairs_mut()
            .append_pair("sign_in_as", caller.name());
        let builder = TrustRoots::default().client_builder();
        let issuer = builder.redirect(Policy::none()).build().unwrap();
        let redirect = issuer.get(url).send().await.unwrap();
        let target = redirect.headers()[header::LOCATION].to_str().unwrap();
        target.strip_prefix(ORIGIN).unwrap().to_owned()
    }

    pub(super) async fn get(&mut self, path: &str) -> Page {
        self.get_with(path, &[]).await
    }

    /// Opens a page with more headers.
    pub(super) async fn get_with(&mut self, path: &str, headers: &[(&str, &str)]) -> Page {
        let mut request = Request::get(path).header("sec-fetch-site", "same-origin");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request, String::new()).await
    }

    /// Follows redirects within the console.
    pub(super) async fn open(&mut self, path: &str) -> Page {
        let mut page = self.get(path).await;
        while page.status == StatusCode::SEE_OTHER {
            let location = page.location().to_owned();
            page = self.get(&location).await;
        }
        page
    }

    /// Sends a form of `page`, as browsers do.
    pub(super) async fn submit(
        &mut self,
        page: &Page,
        path: &str,
        fields: &[(&str, &str)],
    ) -> Page {
        let headers = [("sec-fetch-site", "same-origin")];
        self.submit_with(page, path, fields, &headers).await
    }

    /// Sends a form of `page` with these headers.
    pub(super) async fn submit_with(
        &mut self,
        page: &Page,
        path: &str,
        fields: &[(&str, &str)],
        headers: &[(&str, &str)],
    ) -> Page {
        let own = [
            ("form_token", page.hidden("form_token")),
            ("form_key", page.hidden("form_key")),
        ];
        let fields: Vec<(&str, &str)> = own.iter().chain(fields).copied().collect();
        self.post(path, &fields, headers).await
    }

    /// Sends these fields and headers, and no token besides.
    pub(super) async fn post(
        &mut self,
        path: &str,
        fields: &[(&str, &str)],
        headers: &[(&str, &str)],
    ) -> Page {
        let body = Url::parse_with_params("http://form/", fields).unwrap();
        let mut request =
            Request::post(path).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = body.query().unwrap().to_owned();
        self.send(request, body).await
    }

    async fn send(&mut self, request: http::request::Builder, body: String) -> Page {
        let cookies = self.cookies.iter();
        let cookies = cookies.map(|(name, value)| format!("{name}={value}"));
        let cookies = cookies.collect::<Vec<_>>().join("; ");
        let request = request
            .header(header::HOST, "console.test")
            .header(header::COOKIE, cookies)
            .body(Body::from(body))
            .unwrap();
        let router = self.process.as_ref().unwrap_or(&self.app.router).clone();
        let (parts, body) = router.oneshot(request).await.unwrap().into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let page = Page {
            status: parts.status,
            headers: parts.headers,
            text: String::from_utf8(bytes.to_vec()).unwrap(),
        };
        for cookie in page.cookies() {
            let (name, rest) = cookie.split_once('=').unwrap();
            let value = rest.split(';').next().unwrap();
            if value.is_empty() {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        page
    }
}
