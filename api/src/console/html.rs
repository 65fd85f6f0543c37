//! Rendered pages as responses.

use askama::Template;
use axum::{
    Extension,
    response::{Html, IntoResponse as _, Response},
};
use http::StatusCode;

use crate::{error::ApiError, response::Complete};

/// A page as a response.
pub(super) fn respond(status: StatusCode, page: &impl Template) -> Response {
    match page.render() {
        Ok(html) => (status, Extension(Complete), Html(html)).into_response(),
        Err(error) => ApiError::internal(error.into()).into_response(),
    }
}
