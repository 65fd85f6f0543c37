//! Authentik's wire format: query parameters, pages, bodies and errors.

use axum::{
    Json,
    body::{Bytes, to_bytes},
    extract::{FromRequest, Request},
    response::{IntoResponse, Response},
};
use http::{Method, StatusCode, header};
use serde_json::{Map, Value, json};

/// Default and maximum page size.
const PAGE_SIZE: usize = 20;
const PAGE_SIZE_LIMIT: usize = 100;

/// Query parameters in order; names may repeat.
pub(super) type Params = Vec<(String, String)>;

/// First value of a query parameter.
pub(super) fn first<'a>(params: &'a Params, name: &str) -> Option<&'a str> {
    all(params, name).next()
}

/// All values of a query parameter.
pub(super) fn all<'a>(params: &'a Params, name: &str) -> impl Iterator<Item = &'a str> {
    params
        .iter()
        .filter(move |(key, _)| key == name)
        .map(|(_, value)| value.as_str())
}

/// First value of a query parameter as a boolean; other values are ignored.
pub(super) fn flag(params: &Params, name: &str) -> Option<bool> {
    match first(params, name)? {
        "true" | "True" => Some(true),
        "false" | "False" => Some(false),
        _ => None,
    }
}

/// The `attributes` filter: an object whose members must equal those of the attributes.
pub(super) fn attributes_filter(params: &Params) -> Result<Option<Map<String, Value>>, Refusal> {
    let Some(text) = first(params, "attributes") else {
        return Ok(None);
    };
    match serde_json::from_str(text) {
        Ok(Value::Object(wanted)) => Ok(Some(wanted)),
        Ok(_) => Err(Refusal::invalid(json!([
            "filter: value must be key:value mapping"
        ]))),
        Err(_) => Err(Refusal::invalid(json!(["filter: failed to parse JSON"]))),
    }
}

/// Whether the attributes match a filter. `a__b` addresses the member `b` of the member `a`.
pub(super) fn attributes_match(
    attributes: &Map<String, Value>,
    wanted: &Map<String, Value>,
) -> bool {
    wanted.iter().all(|(key, wanted)| {
        let mut steps = key.split("__");
        let found = attributes.get(steps.next().unwrap_or_default());
        steps.fold(found, |value, step| value?.get(step)) == Some(wanted)
    })
}

/// One page of a list.
pub(super) fn page<T>(
    params: &Params,
    items: &[T],
    view: impl Fn(&T) -> Value,
) -> Result<Response, Refusal> {
    let number = |name| first(params, name).and_then(|text| text.parse::<usize>().ok());
    let size = number("page_size").filter(|size| *size > 0);
    let size = size.unwrap_or(PAGE_SIZE).min(PAGE_SIZE_LIMIT);
    let total_pages = items.len().div_ceil(size).max(1);
    let current = match first(params, "page") {
        None => 1,
        Some(_) => number("page").unwrap_or(0),
    };
    if !(1..=total_pages).contains(&current) {
        return Err(Refusal::detail(StatusCode::NOT_FOUND, "Invalid page."));
    }

    let start = (current - 1) * size;
    let end = (start + size).min(items.len());
    let results: Vec<Value> = items[start..end].iter().map(view).collect();
    Ok(Json(json!({
        "pagination": {
            "next": if current < total_pages { current + 1 } else { 0 },
            "previous": current - 1,
            "count": items.len(),
            "current": current,
            "total_pages": total_pages,
            "start_index": if items.is_empty() { 0 } else { start + 1 },
            "end_index": end,
        },
        "results": results,
        "autocomplete": {},
    }))
    .into_response())
}

/// An error response.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    body: Value,
}

impl Refusal {
    pub(super) fn detail(status: StatusCode, detail: &str) -> Self {
        let body = json!({ "detail": detail });
        Self { status, body }
    }

    pub(super) fn invalid(body: Value) -> Self {
        let status = StatusCode::BAD_REQUEST;
        Self { status, body }
    }

    pub(super) fn missing(model: &str) -> Self {
        let detail = format!("No {model} matches the given query.");
        Self::detail(StatusCode::NOT_FOUND, &detail)
    }

    /// A filter that names a missing object.
    pub(super) fn no_choice(filter: &str, choice: &str) -> Self {
        let text = format!("Select a valid choice. {choice} is not one of the available choices.");
        Self::invalid(json!({ filter: [text] }))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, Json(self.body)).into_response()
    }
}

pub(super) async fn method_not_allowed(method: Method) -> Refusal {
    let detail = format!("Method \"{method}\" not allowed.");
    Refusal::detail(StatusCode::METHOD_NOT_ALLOWED, &detail)
}

/// Body of a write, with the validation errors found so far.
#[derive(Debug)]
pub(super) struct Body {
    members: Map<String, Value>,
    errors: Map<String, Value>,
}

impl Body {
    pub(super) fn members(&self) -> &Map<String, Value> {
        &self.members
    }

    /// A string, trimmed.
    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        match self.members.get(name)? {
            Value::String(text) => Some(text.trim().to_owned()),
            Value::Number(number) => Some(number.to_string()),
            Value::Null => self.error(name, "This field may not be null."),
            _ => self.error(name, "Not a valid string."),
        }
    }

    /// A non-blank string.
    pub(super) fn text_not_blank(&mut self, name: &str) -> Option<String> {
        match self.text(name)? {
            text if text.is_empty() => self.error(name, "This field may not be blank."),
            text => Some(text),
        }
    }

    pub(super) fn flag(&mut self, name: &str) -> Option<bool> {
        match self.members.get(name)?.as_bool() {
            None => self.error(name, "Must be a valid boolean."),
            flag => flag,
        }
    }

    pub(super) fn object(&mut self, name: &str) -> Option<Map<String, Value>> {
        match self.members.get(name)? {
            Value::Object(object) => Some(object.clone()),
            _ => self.error(
                name,
                "Value must be a dictionary, and not have any duplicate keys.",
            ),
        }
    }

    /// A list of object ids, each of which `known` must resolve.
    pub(super) fn ids<T>(
        &mut self,
        name: &str,
        known: impl Fn(&Value) -> Option<T>,
    ) -> Option<Vec<T>> {
        let Value::Array(items) = self.members.get(name)? else {
            return self.error(name, "Expected a list of items.");
        };
        let unknown = items.iter().find(|item| known(item).is_none()).cloned();
        match unknown {
            None => Some(items.iter().filter_map(known).collect()),
            Some(item) => {
                let id = item
                    .as_str()
                    .map_or_else(|| item.to_string(), str::to_owned);
                let text = format!("Invalid pk \"{id}\" - object does not exist.");
                self.error(name, &text)
            }
        }
    }

    pub(super) fn require(&mut self, names: &[&str]) {
        for name in names {
            if !self.members.contains_key(*name) {
                self.error::<()>(name, "This field is required.");
            }
        }
    }

    /// Records a validation error and returns no value.
    pub(super) fn error<T>(&mut self, name: &str, text: &str) -> Option<T> {
        self.errors.insert(name.to_owned(), json!([text]));
        None
    }

    /// Fails with all validation errors.
    pub(super) fn check(&mut self) -> Result<(), Refusal> {
        if self.errors.is_empty() {
            return Ok(());
        }
        let errors = std::mem::take(&mut self.errors);
        Err(Refusal::invalid(errors.into()))
    }
}

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refusal> {
        let content_type = request.headers().get(header::CONTENT_TYPE);
        let content_type = content_type.and_then(|value| value.to_str().ok());
        let content_type = content_type.unwrap_or_default().to_owned();
        let bytes: Bytes = to_bytes(request.into_body(), usize::MAX)
            .await
            .unwrap_or_default();
        if bytes.is_empty() {
            return Ok(Self::of(Map::new()));
        }
        if !content_type.starts_with("application/json") {
            let detail = format!("Unsupported media type \"{content_type}\" in request.");
            return Err(Refusal::detail(StatusCode::UNSUPPORTED_MEDIA_TYPE, &detail));
        }
        match serde_json::from_slice(&bytes) {
            Ok(Value::Object(members)) => Ok(Self::of(members)),
            Ok(_) => Err(Refusal::invalid(
                json!({ "non_field_errors": ["Invalid data. Expected a dictionary."] }),
            )),
            Err(error) => {
                let detail = format!("JSON parse error - {error}");
                Err(Refusal::detail(StatusCode::BAD_REQUEST, &detail))
            }
        }
    }
}

impl Body {
    fn of(members: Map<String, Value>) -> Self {
        let errors = Map::new();
        Self { members, errors }
    }
}
