//! Documents that need no job: create, update and delete.

use std::future::Future;

use bson::Document;
use dezky_shared::{
    audit::{Action, Target},
    store::{StoreError, Updated, Versioned, VersionedRepository, to_document},
};
use http::StatusCode;
use mongodb::ClientSession;
use serde::Serialize;

use super::{Command, CommandError, CommandOutput, CommandRunner, Rollback, Write};
use crate::{
    error::{ApiError, ProblemCode},
    etag::ETag,
    extract::Access,
    response::ApiResponse,
    state::{Connected, Repositories},
};

/// Fields that callers do not write.
const NOT_AUDITED: [&str; 4] = ["_id", "revision", "createdAt", "updatedAt"];

/// The fields of a document that the audit trail compares: those that callers write.
pub fn audited_fields(document: &impl Serialize) -> Result<Document, StoreError> {
    let mut fields = to_document(document)?;
    for field in NOT_AUDITED {
        fields.remove(field);
    }
    Ok(fields)
}

/// A kind of write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The document is new.
    Create,
    /// The document differs from the stored one.
    Update,
    /// The document is deleted.
    Delete,
}

/// A document that callers write.
pub trait Resource: Versioned {
    /// Its kind, as the audit trail names it.
    const KIND: &'static str;
    /// Path of the collection: `/prices`.
    const PATH: &'static str;
    /// Its representation in responses.
    type View: From<Self> + Serialize;
    /// The repository that stores it.
    type Repository: VersionedRepository<Document = Self> + Connected;

    /// Its name, as the audit trail shows it.
    fn name(&self) -> String;

    /// The fields that the audit trail compares.
    fn audited(&self) -> Result<Document, StoreError> {
        audited_fields(self)
    }

    /// Checks invariants that concern other documents, in the transaction of every write.
    fn check(
        &self,
        _session: &mut ClientSession,
        _db: &Repositories,
        _change: Change,
    ) -> impl Future<Output = Result<(), Rollback>> + Send {
        std::future::ready(Ok(()))
    }

    /// The target of its audit events.
    fn target(&self) -> Target {
        Target::new(Self::KIND, self.id(), self.name())
    }

    /// Its version.
    fn etag(&self) -> ETag {
        ETag::of_revision(self.revision())
    }

    /// 200 with the document and its version.
    fn response(self) -> ApiResponse {
        let etag = self.etag();
        ApiResponse::new(StatusCode::OK, etag, &Self::View::from(self))
    }
}

impl<A: Access, B: Sync, P: Sync> Write<A, B, P> {
    /// Stores a new document. 201 with its `Location`.
    pub async fn create<R: Resource>(
        &self,
        action: Action,
        document: R,
    ) -> Result<ApiResponse, ApiError> {
        self.run(&Create { action, document }).await
    }

    /// Applies `edit` to a document if `If-Match` allows it. Nothing is written or audited if nothing changes.
    pub async fn update<R: Resource>(
        &self,
        action: Action,
        id: R::Id,
        edit: impl Fn(&mut R) -> Result<(), ApiError> + Send + Sync,
    ) -> Result<ApiResponse, ApiError> {
        self.run(&Update { action, id, edit }).await
    }

    /// Deletes a document if `If-Match` allows it, and returns it as it was.
    pub async fn delete<R: Resource>(
        &self,
        action: Action,
        id: R::Id,
    ) -> Result<ApiResponse, ApiError> {
        self.run(&Delete::<R> { action, id }).await
    }
}

struct Create<R> {
    action: Action,
    document: R,
}

impl<R: Resource> Command for Create<R> {
    async fn run(
        &self,
        session: &mut ClientSession,
        runner: &CommandRunner<'_>,
    ) -> Result<CommandOutput, Rollback> {
        let (app, document) = (runner.app, &self.document);
        document.check(session, &app.db, Change::Create).await?;
        R::Repository::of(&app.db).insert(session, document).await?;
        let event = runner
            .event(app.store.now(), self.action, document.target(), None)
            .with_changes(&Document::new(), &document.audited()?);
        let mut response = document.clone().response();
        response.status = StatusCode::CREATED;
        let location = format!("{}/{}", R::PATH, document.id());
        Ok(CommandOutput::complete(response.at(location), event))
    }
}

struct Update<R: Resource, F> {
    action: Action,
    id: R::Id,
    edit: F,
}

impl<R, F> Command for Update<R, F>
where
    R: Resource,
    F: Fn(&mut R) -> Result<(), ApiError> + Send + Sync,
{
    async fn run(
        &self,
        session: &mut ClientSession,
        runner: &CommandRunner<'_>,
    ) -> Result<CommandOutput, Rollback> {
        let now = runner.app.store.now();
        let edit = |document: &mut R| {
            runner.if_match.check(document.etag())?;
            (self.edit)(document).map_err(CommandError::from)
        };
        let updated = R::Repository::of(&runner.app.db)
            .update(session, self.id.clone(), now, edit)
            .await?;
        let Updated { before, after } = updated.ok_or(ProblemCode::NotFound)?;
        if before == after {
            return Ok(CommandOutput::unchanged(after.response()));
        }
        after.check(session, &runner.app.db, Change::Update).await?;
        let event = runner
            .event(now, self.action, after.target(), None)
            .with_changes(&before.audited()?, &after.audited()?);
        Ok(CommandOutput::complete(after.response(), event))
    }
}

struct Delete<R: Resource> {
    action: Action,
    id: R::Id,
}

impl<R: Resource> Command for Delete<R> {
    async fn run(
        &self,
        session: &mut ClientSession,
        runner: &CommandRunner<'_>,
    ) -> Result<CommandOutput, Rollback> {
        let app = runner.app;
        let repository = R::Repository::of(&app.db);
        let found = repository.find_in_transaction(session, self.id.clone());
        let document = found.await?.ok_or(ProblemCode::NotFound)?;
        runner.if_match.check(document.etag())?;
        document.check(session, &app.db, Change::Delete).await?;
        repository.delete(session, self.id.clone()).await?;
        let event = runner
            .event(app.store.now(), self.action, document.target(), None)
            .with_changes(&document.audited()?, &Document::new());
        let mut response = document.response();
        response.etag = None;
        Ok(CommandOutput::complete(response, event))
    }
}
