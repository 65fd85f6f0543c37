//! Authentik client: the group, the users and the sessions of a tenant, over the REST API (2026.x).
//!
//! Three properties of Authentik shape this client. It **ignores unknown filters** and returns all objects, so every
//! returned object is compared with the filter. A `PATCH` **replaces `attributes` as a whole**, so they are read,
//! merged and written back. And it returns 403 where 401 is usual, and 400 where 409 is.
//!
//! <https://docs.goauthentik.io/developer-docs/api/>

mod apps;
mod devices;
mod error;
mod groups;
mod members;
mod recovery;
mod sessions;
mod setup;
mod suspension;
mod users;

use std::time::Duration;

use anyhow::{Context as _, ensure};
use http::{StatusCode, header};
use reqwest::{Method, RequestBuilder, Url};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, de::DeserializeOwned};

pub use self::{
    apps::{
        APP_PROFILE, AppReferences, Application, Binding, DesiredApp, EnsuredObject, Provider,
        is_open, is_restricted,
    },
    devices::MfaDevice,
    groups::{GROUP_CREATED, Group},
    members::MemberAccount,
    sessions::EndedSessions,
    suspension::Freeze,
    users::User,
};
use crate::clients::{
    CALL_TIMEOUT, CALL_TIMEOUTS, ClientError, FailedCall, LeaseDeadline, Operation, UpstreamHttp,
    UpstreamResponse, fingerprint, simulated,
};
use dezky_shared::{
    platform::{
        config::{bearer_token, boolean, optional, required, seconds},
        http_url::HttpUrl,
        tls::TrustRoots,
    },
    upstream::Upstream,
};

/// Maximum page size that Authentik returns.
const PAGE_SIZE: &str = "100";
/// Name of the key pair that a new installation has.
pub const DEFAULT_SIGNING_KEY: &str = "authentik Self-signed Certificate";

/// Authentik configuration.
#[derive(Debug, Clone)]
pub struct AuthentikConfig {
    /// `AUTHENTIK_API_URL`, such as `https://auth.example.com/api/v3`.
    pub api_url: String,
    /// `AUTHENTIK_API_TOKEN`: a token with the intent `api` that does not expire.
    pub api_token: SecretString,
    /// `AUTHENTIK_PUBLIC_URL`: public base URL; by default `api_url`.
    pub public_url: Option<Url>,
    /// `AUTHENTIK_SIGNING_KEY_NAME`: name of the RSA key pair that signs the tokens of tenants' apps.
    pub signing_key: String,
    /// `AUTHENTIK_TIMEOUT_SECONDS`: timeout of a whole call.
    pub timeout: Duration,
}

impl AuthentikConfig {
    /// Fingerprint of the credentials: detects a change without revealing them.
    pub fn fingerprint(&self) -> String {
        fingerprint(&[&self.api_url, self.api_token.expose_secret()])
    }

    /// Reads the environment; `None` when `AUTHENTIK_PROVISIONING_ENABLED` is false.
    pub fn from_env() -> anyhow::Result<Option<Self>> {
        if !boolean("AUTHENTIK_PROVISIONING_ENABLED", true)? {
            return Ok(None);
        }
        let api_url: HttpUrl = required("AUTHENTIK_API_URL")?;
        ensure!(
            api_url.path().ends_with("/api/v3"),
            "AUTHENTIK_API_URL is not valid: expected a URL that ends with /api/v3"
        );
        let api_token =
            bearer_token("AUTHENTIK_API_TOKEN")?.context("AUTHENTIK_API_TOKEN must be set")?;
        simulated::refuse("AUTHENTIK_API_TOKEN", &api_token, api_url.url())?;
        let public_url: Option<HttpUrl> = optional("AUTHENTIK_PUBLIC_URL")?;
        Ok(Some(Self {
            api_url: api_url.base(),
            api_token,
            public_url: public_url.map(|url| url.url().clone()),
            signing_key: optional("AUTHENTIK_SIGNING_KEY_NAME")?
                .unwrap_or_else(|| DEFAULT_SIGNING_KEY.to_owned()),
            timeout: seconds("AUTHENTIK_TIMEOUT_SECONDS", CALL_TIMEOUT, CALL_TIMEOUTS)?,
        }))
    }
}

/// Authentik client.
#[derive(Debug, Clone)]
pub struct Authentik {
    http: UpstreamHttp,
    token: SecretString,
    public_url: Url,
    signing_key_name: String,
}

impl Authentik {
    /// A client of the configured Authentik.
    pub fn new(config: &AuthentikConfig, trust_roots: &TrustRoots) -> anyhow::Result<Self> {
        let http = UpstreamHttp::new(
            Upstream::Authentik,
            &config.api_url,
            config.timeout,
            trust_roots,
        )?;
        let public_url = match &config.public_url {
            Some(url) => url.clone(),
            None => config.api_url.parse().context("AUTHENTIK_API_URL")?,
        };
        anyhow::ensure!(
            public_url.has_host() && ["http", "https"].contains(&public_url.scheme()),
            "AUTHENTIK_PUBLIC_URL is not a valid HTTP URL"
        );
        Ok(Self {
            http,
            token: config.api_token.clone(),
            public_url,
            signing_key_name: config.signing_key.clone(),
        })
    }

    /// A copy of the client bound to `deadline`: it begins no write that could outlast the lease.
    #[must_use]
    pub fn with_deadline(&self, deadline: &LeaseDeadline) -> Self {
        Self {
            http: self.http.with_deadline(deadline),
            ..self.clone()
        }
    }

    /// Checks that Authentik accepts our token.
    pub async fn check(&self) -> Result<(), ClientError> {
        let request = self.http.request(Method::GET, "/core/users/me/");
        let response = self
            .send(Operation::read("check_credentials"), request)
            .await?;
        self.expect(&response, StatusCode::OK)
    }

    /// Checks that Authentik and its database are healthy.
    pub async fn probe(&self) -> Result<(), ClientError> {
        self.http.probe(self.root_url(), "/-/health/ready/").await
    }

    /// Base URL of everything that is not the API.
    fn root_url(&self) -> &str {
        let api = self.http.base_url();
        api.strip_suffix("/api/v3").unwrap_or(api)
    }

    /// Sends an authenticated request. With any other `Accept`, the gateway's errors are HTML.
    async fn send(
        &self,
        operation: Operation,
        request: RequestBuilder,
    ) -> Result<UpstreamResponse, ClientError> {
        let request = request
            .bearer_auth(self.token.expose_secret())
            .header(header::ACCEPT, "application/json");
        self.http.send(operation, request).await
    }

    /// Returns an error unless the response has the status `expected`.
    fn expect(&self, response: &UpstreamResponse, expected: StatusCode) -> Result<(), ClientError> {
        if response.status == expected {
            return Ok(());
        }
        Err(error::classify(response, &self.token))
    }

    /// The object at `path`, if it exists.
    async fn get<T: DeserializeOwned>(
        &self,
        operation: &'static str,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<Option<T>, ClientError> {
        let request = self.http.request(Method::GET, path).query(query);
        let response = self.send(Operation::read(operation), request).await?;
        if response.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        self.expect(&response, StatusCode::OK)?;
        response.json().map(Some)
    }

    /// Deletes the object at `path`; `false` if it did not exist.
    async fn delete(&self, operation: Operation, path: &str) -> Result<bool, ClientError> {
        let request = self.http.request(Method::DELETE, path);
        let response = self.send(operation, request).await?;
        if response.status == StatusCode::NOT_FOUND {
            return Ok(false);
        }
        self.expect(&response, StatusCode::NO_CONTENT)?;
        Ok(true)
    }

    /// Reads all pages of a list. Authentik may ignore the filter, so the caller compares each object.
    async fn list<T: DeserializeOwned>(
        &self,
        operation: &'static str,
        path: &str,
        filter: &[(&str, &str)],
    ) -> Result<Vec<T>, ClientError> {
        let mut found = Vec::new();
        let mut page = 1;
        let mut count = None;
        loop {
            let number = page.to_string();
            let paging = [("page_size", PAGE_SIZE), ("page", &number)];
            let request = self.http.request(Method::GET, path);
            let request = request.query(filter).query(&paging);
            let response = self.send(Operation::read(operation), request).await?;
            if error::names_missing_object(&response) {
                return Ok(Vec::new());
            }
            // Pages are computed for each request: after a change, an object may have moved between two pages.
            let changed =
                || ClientError::StateChanged(response.failed("the list changed between two pages"));
            if page > 1 && response.status == StatusCode::NOT_FOUND {
                return Err(changed());
            }
            self.expect(&response, StatusCode::OK)?;
            let Page {
                pagination,
                results,
            } = response.json()?;
            if *count.get_or_insert(pagination.count) != pagination.count {
                return Err(changed());
            }
            found.extend::<Vec<T>>(results);
            match pagination.next {
                0 => return Ok(found),
                next if next > page => page = next,
                _ => return Err(response.unreadable("the pages form a cycle")),
            }
        }
    }
}

/// Description of a failure that is not tied to a single response.
fn failed(operation: &'static str, detail: &str) -> FailedCall {
    FailedCall {
        upstream: Upstream::Authentik,
        operation,
        status: None,
        request_id: None,
        detail: detail.to_owned(),
    }
}

#[derive(Deserialize)]
struct Page<T> {
    pagination: Pagination,
    results: Vec<T>,
}

#[derive(Deserialize)]
struct Pagination {
    /// Number of the next page; 0 for none.
    next: u64,
    count: u64,
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use wiremock::{
        Mock, MockServer, ResponseTemplate,
        matchers::{method, path},
    };

    use super::*;
    use crate::clients::Mode;

    fn authentik_at(server: &MockServer) -> Authentik {
        let config = AuthentikConfig {
            api_url: server.uri(),
            public_url: None,
            signing_key: DEFAULT_SIGNING_KEY.to_owned(),
            api_token: "a-secret-token".into(),
            timeout: CALL_TIMEOUT,
        };
        Authentik::new(&config, &TrustRoots::default()).unwrap()
    }

    async fn responding_with(template: ResponseTemplate) -> (MockServer, Authentik) {
        let server = MockServer::start().await;
        Mock::given(path("/core/users/me/"))
            .respond_with(template)
            .mount(&server)
            .await;
        let authentik = authentik_at(&server);
        (server, authentik)
    }

    #[tokio::test]
    async fn a_401_means_refused_credentials() {
        let (_server, authentik) = responding_with(ResponseTemplate::new(401)).await;

        let error = authentik.check().await.unwrap_err();

        assert!(matches!(error, ClientError::Credentials(_)), "{error}");
    }

    #[tokio::test]
    async fn a_403_page_of_a_proxy_is_not_a_refused_token() {
        let page = ResponseTemplate::new(403).set_body_string("<h1>Token invalid/expired</h1>");
        let (_server, authentik) = responding_with(page).await;

        let error = authentik.check().await.unwrap_err();

        assert!(matches!(error, ClientError::Permission(_)), "{error}");
    }

    #[tokio::test]
    async fn an_echoed_token_is_removed_from_the_error() {
        let echo = json!({ "detail": "bad header: Bearer a-secret-token" });
        let (_server, authentik) =
            responding_with(ResponseTemplate::new(400).set_body_json(echo)).await;

        let error = authentik.check().await.unwrap_err();

        assert_eq!(error.call().detail, "detail: bad header: Bearer ***");
    }

    #[tokio::test]
    async fn a_cycle_of_pages_ends_with_an_error() {
        let server = MockServer::start().await;
        let circle = json!({
            "pagination": { "next": 1, "count": 1 },
            "results": [],
        });
        Mock::given(method("GET"))
            .and(path("/core/users/"))
            .respond_with(ResponseTemplate::new(200).set_body_json(circle))
            .mount(&server)
            .await;

        let error = authentik_at(&server)
            .find_user("ada@acme.test")
            .await
            .unwrap_err();

        assert!(matches!(error, ClientError::InvalidResponse(_)), "{error}");
    }

    #[tokio::test]
    async fn a_list_that_changes_between_two_pages_is_an_error_to_retry() {
        let server = MockServer::start().await;
        for (page, next, count) in [("1", 2, 101), ("2", 0, 100)] {
            let body = json!({ "pagination": { "next": next, "count": count }, "results": [] });
            Mock::given(wiremock::matchers::query_param("page", page))
                .respond_with(ResponseTemplate::new(200).set_body_json(body))
                .mount(&server)
                .await;
        }

        let error = authentik_at(&server)
            .list_members("ba4af669-4637-4467-af2e-1f9961dc4bd3")
            .await
            .unwrap_err();

        assert!(matches!(error, ClientError::StateChanged(_)), "{error}");
    }

    #[tokio::test]
    async fn a_name_taken_by_an_invisible_group_is_a_missing_permission() {
        let server = MockServer::start().await;
        let none = json!({ "pagination": { "next": 0, "count": 0 }, "results": [] });
        Mock::given(method("GET"))
            .respond_with(ResponseTemplate::new(200).set_body_json(none))
            .mount(&server)
            .await;
        let taken = json!({ "name": ["Group with this name already exists."] });
        Mock::given(method("POST"))
            .respond_with(ResponseTemplate::new(400).set_body_json(taken))
            .expect(1)
            .mount(&server)
            .await;

        let error = authentik_at(&server)
            .ensure_group("acme", "0192f0c4", None, Mode::Apply)
            .await
            .unwrap_err();

        assert!(matches!(error, ClientError::Permission(_)), "{error}");
    }
}
