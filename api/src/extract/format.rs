//! Format of a response that is JSON or a CSV file, by `Accept`.

use std::convert::Infallible;

use axum::{
    extract::FromRequestParts,
    response::{IntoResponseParts, ResponseParts},
};
use http::{HeaderValue, header, request::Parts};

/// Format of the response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// JSON.
    Json,
    /// CSV.
    Csv,
}

impl<S: Sync> FromRequestParts<S> for Format {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let accepted = parts.headers.get_all(header::ACCEPT).into_iter();
        let ranges = accepted
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','));
        Ok(Self::preferred(ranges))
    }
}

impl Format {
    /// Proactive negotiation (RFC 9110, section 12.5.1). CSV only if it is requested by name: a wildcard means the
    /// default.
    fn preferred<'a>(ranges: impl Iterator<Item = &'a str>) -> Self {
        let (mut csv, mut json, mut any) = (None, None, None);
        for range in ranges {
            let mut parts = range.split(';').map(str::trim);
            let media_type = parts.next().unwrap_or_default().to_ascii_lowercase();
            let quality = parts
                .find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")))
                .map_or(1.0, |quality| quality.parse::<f32>().unwrap_or(0.0));
            match media_type.as_str() {
                "text/csv" => csv = Some(quality),
                "application/json" => json = Some(quality),
                "application/*" => json = json.or(Some(quality)),
                "*/*" => any = Some(quality),
                _ => {}
            }
        }
        let csv = csv.unwrap_or(0.0);
        // A wildcard accepts JSON as well, but a type that is named is preferred to one that is not.
        let prefers_csv = match (json, any) {
            (Some(json), _) => csv >= json,
            (None, any) => csv >= any.unwrap_or(0.0),
        };
        if csv > 0.0 && prefers_csv {
            Self::Csv
        } else {
            Self::Json
        }
    }
}

/// `Vary: Accept`, for caches.
impl IntoResponseParts for Format {
    type Error = Infallible;

    fn into_response_parts(self, mut parts: ResponseParts) -> Result<ResponseParts, Infallible> {
        let headers = parts.headers_mut();
        headers.insert(header::VARY, HeaderValue::from_static("accept"));
        Ok(parts)
    }
}
