//! Files that are the same for every client, with an `ETag`.

use axum::{
    Extension,
    body::Bytes,
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderName, HeaderValue, StatusCode, header};
use sha2::{Digest as _, Sha256};

use crate::{extract::IfNoneMatch, serve::HeldMemory};

/// Content security policy of the documentation page: no scripts, nothing from other origins.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A file in memory.
#[derive(Debug, Clone)]
pub(super) struct StaticFile {
    content_type: &'static str,
    /// Digest of the content.
    etag: String,
    content: Bytes,
}

impl StaticFile {
    pub(super) fn new(content_type: &'static str, content: impl Into<Bytes>) -> Self {
        let content = content.into();
        let digest: [u8; 32] = Sha256::digest(&content).into();
        let digest = URL_SAFE_NO_PAD.encode(&digest[..16]);
        Self {
            content_type,
            etag: format!("\"{digest}\""),
            content,
        }
    }

    /// The file, or 304 if the caller has it.
    pub(super) fn respond(&self, if_none_match: &IfNoneMatch) -> Response {
        let headers: [(HeaderName, HeaderValue); 4] = [
            (
                header::ETAG,
                self.etag.parse().expect("base64 is visible ASCII"),
            ),
            // Caches may keep it, and ask whether it has changed.
            (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
            (
                header::CONTENT_SECURITY_POLICY,
                HeaderValue::from_static(POLICY),
            ),
            (
                header::X_CONTENT_TYPE_OPTIONS,
                HeaderValue::from_static("nosniff"),
            ),
        ];
        if if_none_match.matches(&self.etag) {
            return (StatusCode::NOT_MODIFIED, headers).into_response();
        }
        let content_type = [(header::CONTENT_TYPE, self.content_type)];
        // All responses share the content.
        let held = Extension(HeldMemory(0));
        (headers, content_type, held, self.content.clone()).into_response()
    }
}
