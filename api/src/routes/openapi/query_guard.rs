//! Rejects query parameters that the OpenAPI document does not list for the operation.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use axum::{
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use http::Method;
use utoipa::openapi::{OpenApi, RefOr, path::ParameterIn};

use crate::{error::ApiError, extract::Parameters};

/// The query parameters of every operation, by method and path template.
#[derive(Debug)]
pub struct QueryParameters(HashMap<(Method, String), BTreeSet<String>>);

impl QueryParameters {
    /// Reads them from the document.
    pub fn from_document(document: &OpenApi) -> Self {
        let operations = document.paths.paths.iter().flat_map(|(path, item)| {
            let by_method = [
                (Method::GET, &item.get),
                (Method::PUT, &item.put),
                (Method::POST, &item.post),
                (Method::PATCH, &item.patch),
                (Method::DELETE, &item.delete),
            ];
            by_method.map(|(method, operation)| (method, path, operation.as_ref()))
        });
        let documented = operations.filter_map(|(method, path, operation)| {
            let parameters = operation?.parameters.iter().flatten();
            let names = parameters.filter_map(|parameter| match parameter {
                RefOr::T(parameter) if parameter.parameter_in == ParameterIn::Query => {
                    Some(parameter.name.clone())
                }
                _ => None,
            });
            Some(((method, path.clone()), names.collect()))
        });
        Self(documented.collect())
    }

    fn check(&self, request: &Request) -> Result<(), ApiError> {
        let method = match request.method() {
            &Method::HEAD => Method::GET,
            method => method.clone(),
        };
        let path = request.extensions().get::<MatchedPath>();
        let Some(path) = path.filter(|_| request.uri().query().is_some()) else {
            return Ok(());
        };
        match self.0.get(&(method, path.as_str().to_owned())) {
            Some(documented) => Parameters::parse(request.uri())?.reject_unknown(documented),
            // The router rejects the method.
            None => Ok(()),
        }
    }
}

/// Middleware: rejects a request with an unknown, repeated or malformed query parameter.
pub async fn reject_unknown_query(
    State(parameters): State<Arc<QueryParameters>>,
    request: Request,
    next: Next,
) -> Response {
    match parameters.check(&request) {
        Ok(()) => next.run(request).await,
        Err(rejection) => rejection.into_response(),
    }
}
