//! Parameters of requests, and redirects that answer them.

use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, StatusCode, header};
use reqwest::Url;

/// Parameters of a query or of a form.
#[derive(Debug, Default)]
pub(super) struct Fields(Vec<(String, String)>);

impl Fields {
    pub(super) fn parse(text: &str) -> Self {
        let parsed = Url::parse(&format!("http://form/?{text}"));
        Self(parsed.map_or_else(
            |_| Vec::new(),
            |url| url.query_pairs().into_owned().collect(),
        ))
    }

    /// The value, unless it is empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(key, _)| key == name);
        found
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.get(name).map(str::to_owned)
    }

    pub(super) fn push(&mut self, name: &str, value: &str) {
        self.0.push((name.to_owned(), value.to_owned()));
    }

    pub(super) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// A redirect URI as a URL: `https`, or a portal on this machine.
pub(super) fn redirect_target(uri: &str) -> Option<Url> {
    let url = Url::parse(uri).ok()?;
    let is_local = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    let is_allowed = url.scheme() == "https" || url.scheme() == "http" && is_local;
    (is_allowed && url.fragment().is_none()).then_some(url)
}

/// Redirects with these parameters.
pub(super) fn redirect(mut to: Url, with: &[(&str, &str)]) -> Response {
    if !with.is_empty() {
        to.query_pairs_mut().extend_pairs(with);
    }
    (StatusCode::FOUND, [(header::LOCATION, to.as_str())]).into_response()
}

/// The value of a cookie.
pub(super) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let cookies = headers.get(header::COOKIE)?.to_str().ok()?;
    let mut cookies = cookies.split("; ");
    cookies.find_map(|cookie| cookie.strip_prefix(name)?.strip_prefix('='))
}
