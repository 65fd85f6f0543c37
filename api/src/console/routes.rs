//! The API's handlers, called in the process with the claims of a session.

mod command;

use anyhow::Context as _;
use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    response::Response,
};
use http::{Method, Request, header, request};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tower::ServiceExt as _;

pub(super) use self::command::Command;
use super::{
    failure::{Failure, unexpected},
    session::Session,
};
use crate::{auth::SessionClaims, error::ApiError};

/// Maximum size of a response that is read, in bytes.
const RESPONSE_LIMIT: usize = 8 * 1024 * 1024;

/// The routes of the API.
#[derive(Debug, Clone)]
pub(super) struct Routes(Router);

impl Routes {
    pub(super) fn new(api: Router) -> Self {
        Self(api)
    }

    /// Reads a resource.
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        session: &Session,
        path: &str,
    ) -> Result<T, Failure> {
        let bytes = self.read(session, path).await?;
        parse(&bytes, session)
    }

    /// Reads the response of a resource.
    pub(super) async fn read(&self, session: &Session, path: &str) -> Result<Bytes, Failure> {
        let request = Request::builder().method(Method::GET).uri(path);
        self.call(session, request, Body::empty()).await
    }

    /// Reads a resource as a CSV file, which is passed on while it is read.
    pub(super) async fn csv(&self, session: &Session, path: &str) -> Result<Response, Failure> {
        let request = Request::builder().method(Method::GET).uri(path);
        let request = request.header(header::ACCEPT, "text/csv");
        self.respond(session, request, Body::empty()).await
    }

    /// Reads a resource whose response takes longer than a request may. The caller reads its body.
    pub(super) async fn open(&self, session: &Session, path: &str) -> Result<Body, Failure> {
        let request = Request::builder().method(Method::GET).uri(path);
        let response = self.respond(session, request, Body::empty()).await?;
        Ok(response.into_body())
    }

    /// Posts a command, once for each `key`.
    pub(super) async fn post(
        &self,
        session: &Session,
        path: &str,
        body: Option<&Value>,
        key: &str,
    ) -> Result<Value, Failure> {
        let command = Command::post(path).with_body(body.cloned());
        self.send(session, &command, key).await
    }

    /// Sends a command, once for each `key`.
    pub(super) async fn send(
        &self,
        session: &Session,
        command: &Command,
        key: &str,
    ) -> Result<Value, Failure> {
        let mut request = Request::builder()
            .method(command.method.clone())
            .uri(command.path.as_str())
            .header("idempotency-key", key);
        if let Some(etag) = command.if_match {
            request = request.header(header::IF_MATCH, etag.to_string());
        }
        let body = match &command.body {
            None => Body::empty(),
            Some(body) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                Body::from(body.to_string())
            }
        };
        let bytes = self.call(session, request, body).await?;
        parse(&bytes, session)
    }

    async fn call(
        &self,
        session: &Session,
        request: request::Builder,
        body: Body,
    ) -> Result<Bytes, Failure> {
        let response = self.respond(session, request, body).await?;
        let read = to_bytes(response.into_body(), RESPONSE_LIMIT).await;
        read.map_err(|cause| unexpected(cause.into(), &session.request))
    }

    /// The successful response of a handler.
    async fn respond(
        &self,
        session: &Session,
        request: request::Builder,
        body: Body,
    ) -> Result<Response, Failure> {
        let request = request
            .extension(session.request.clone())
            .extension(SessionClaims(session.claims.clone()))
            .body(body)
            .map_err(|error| ApiError::internal(error.into()))?;
        let Ok(response) = self.0.clone().oneshot(request).await;
        if response.status().is_success() {
            Ok(response)
        } else {
            Err(Failure::of_response(response))
        }
    }
}

/// The resource in a response.
pub(super) fn parse<T: DeserializeOwned>(response: &[u8], session: &Session) -> Result<T, Failure> {
    let parsed = serde_json::from_slice(response).context("unexpected form of a response");
    parsed.map_err(|cause| unexpected(cause, &session.request))
}
