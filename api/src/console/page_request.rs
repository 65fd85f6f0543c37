//! Request for a page.

use axum::{
    extract::{FromRequestParts, Query},
    response::Response,
};
use http::request::Parts;
use serde::de::DeserializeOwned;

use super::{
    Console, ConsoleState,
    failure::Failure,
    page::Frame,
    query::{Parameters, text},
    routes::parse,
    session::{Rejection, Session},
};

/// An operator's request for a page. A page reads the API in the operator's session.
#[derive(Debug)]
pub(super) struct PageRequest {
    /// State of the console.
    pub(super) console: ConsoleState,
    /// The operator's session.
    pub(super) session: Session,
    /// Parameters of the page.
    pub(super) parameters: Parameters,
}

impl FromRequestParts<ConsoleState> for PageRequest {
    type Rejection = Rejection;

    async fn from_request_parts(
        parts: &mut Parts,
        console: &ConsoleState,
    ) -> Result<Self, Rejection> {
        let session = Session::from_request_parts(parts, console).await?;
        let query = Query::<Parameters>::from_request_parts(parts, console).await;
        Ok(Self {
            console: console.clone(),
            session,
            parameters: query?.0,
        })
    }
}

impl PageRequest {
    /// Reads a resource. An open page that only keeps itself up to date shares it with others.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let Console {
            routes,
            shared_reads,
            ..
        } = &*self.console;
        if !self.session.is_live {
            return routes.get(&self.session, path).await;
        }
        let response = shared_reads.get(routes, &self.session, path).await?;
        parse(&response, &self.session)
    }

    /// Reads a resource as a CSV file.
    pub(super) async fn csv(&self, path: &str) -> Result<Response, Failure> {
        self.console.routes.csv(&self.session, path).await
    }

    /// The parameter, unless it is empty.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        text(&self.parameters, name)
    }

    /// The frame of the page in a section of the navigation.
    pub(super) fn frame(
        &self,
        section: &'static str,
        title: impl Into<String>,
    ) -> Result<Frame, Failure> {
        Frame::new(&self.session, section, title, &self.parameters)
    }
}
