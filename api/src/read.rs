//! Read path: one extractor for everything a read request carries, and the reads of resources.

use std::str::FromStr;

use axum::{
    Json,
    extract::FromRequestParts,
    response::{IntoResponse, Response},
};
use dezky_shared::store::VersionedRepository;
use http::request::Parts;

use crate::{
    error::{ApiError, ProblemCode},
    extract::{IfNoneMatch, Page, PageOf, PathParam, QueryParams},
    response::ApiResponse,
    state::{Connected, SharedState},
    write::Resource,
};

/// Result of a handler that responds with a page of a list.
pub type ListResult<T> = Result<Json<PageOf<T>>, ApiError>;

/// A read request by a caller with access `A`, with parameters `P` in the path, the query or the headers.
#[derive(Debug)]
pub struct Get<A, P = ()> {
    /// The application.
    pub app: SharedState,
    /// The caller and the object of their access.
    pub access: A,
    /// Parameters: one extractor, or a tuple of several.
    pub params: P,
    /// `If-None-Match`.
    pub if_none_match: IfNoneMatch,
}

impl<A, P> FromRequestParts<SharedState> for Get<A, P>
where
    A: FromRequestParts<SharedState> + Send,
    P: FromRequestParts<SharedState> + Send,
{
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, app: &SharedState) -> Result<Self, Response> {
        // In this order: an unauthorized caller learns nothing from the parameters.
        let access = A::from_request_parts(parts, app).await;
        let access = access.map_err(IntoResponse::into_response)?;
        let params = P::from_request_parts(parts, app).await;
        let params = params.map_err(IntoResponse::into_response)?;
        let if_none_match = IfNoneMatch::from_request_parts(parts, app).await;
        Ok(Self {
            app: app.clone(),
            access,
            params,
            if_none_match: if_none_match.map_err(IntoResponse::into_response)?,
        })
    }
}

impl<A> Get<A, QueryParams<Page>> {
    /// A page of all documents, by id.
    pub async fn list<R: Resource<Id: FromStr>>(&self) -> ListResult<R::View> {
        let (list, page) = (R::PATH.trim_start_matches('/'), &self.params.0);
        let repository: &R::Repository = Connected::of(&self.app.db);
        let (after, limit) = (page.after(list)?, page.fetch_limit());
        let found = VersionedRepository::list_page(repository, after, limit);
        let id = |document: &R| document.id().to_string();
        Ok(Json(page.build(list, found.await?, id, R::View::from)))
    }
}

impl<A, I> Get<A, PathParam<I>> {
    /// The document with the id in the path, with its version.
    pub async fn show<R: Resource<Id = I>>(self) -> Result<ApiResponse, ApiError> {
        let repository: &R::Repository = Connected::of(&self.app.db);
        let found = VersionedRepository::find(repository, self.params.0).await?;
        Ok(found.ok_or(ProblemCode::NotFound)?.response())
    }
}
