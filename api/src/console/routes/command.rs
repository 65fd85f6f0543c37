//! A command for the API.

use http::Method;
use serde_json::Value;

use crate::etag::ETag;

/// A request that changes something.
#[derive(Debug)]
pub(in crate::console) struct Command {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) body: Option<Value>,
    /// Version that it changes. Any version without it.
    pub(super) if_match: Option<ETag>,
}

impl Command {
    /// A command at this path.
    pub(in crate::console) fn post(path: impl Into<String>) -> Self {
        Self::new(Method::POST, path)
    }

    /// A change of some fields of the resource at this path.
    pub(in crate::console) fn patch(path: impl Into<String>) -> Self {
        Self::new(Method::PATCH, path)
    }

    /// The deletion of the resource at this path.
    pub(in crate::console) fn delete(path: impl Into<String>) -> Self {
        Self::new(Method::DELETE, path)
    }

    fn new(method: Method, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            body: None,
            if_match: None,
        }
    }

    /// The command with a body.
    pub(in crate::console) fn with_body(self, body: impl Into<Option<Value>>) -> Self {
        Self {
            body: body.into(),
            ..self
        }
    }

    /// The command on this revision only, as the page showed it: a change that was made since is not overwritten.
    pub(in crate::console) fn on_revision(self, revision: i64) -> Self {
        Self {
            if_match: Some(ETag::of_revision(revision)),
            ..self
        }
    }
}
