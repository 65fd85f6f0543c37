//! Saved report repository.

use bson::{Document, doc};
use mongodb::ClientSession;

use super::{
    StoreError,
    index::{index, unique},
    page::page,
    versioned::versioned,
};
use crate::{
    billing_totals::Scope,
    id::{SavedReportId, UserId},
    report::SavedReport,
};

/// Unique index: one saved report per owner, scope and name.
pub const NAME_INDEX: &str = "owner_scope_name";

versioned! {
    /// Saved reports of all owners.
    SavedReportRepository, reports = "saved_reports": SavedReport, SavedReportId
}

fn of(owner: UserId, scope: Scope) -> Document {
    doc! { "ownerId": owner, "scope": scope.to_string() }
}

impl SavedReportRepository {
    /// Creates the indexes.
    pub async fn ensure_indexes(&self) -> Result<(), StoreError> {
        let names = unique(NAME_INDEX, doc! { "ownerId": 1, "scope": 1, "name": 1 });
        let listed = index(doc! { "ownerId": 1, "scope": 1, "_id": 1 });
        self.reports.create_indexes([names, listed]).await?;
        Ok(())
    }

    /// At most `limit` saved reports of an owner and scope after `after`, oldest first.
    pub async fn list(
        &self,
        owner: UserId,
        scope: Scope,
        after: Option<SavedReportId>,
        limit: i64,
    ) -> Result<Vec<SavedReport>, StoreError> {
        page(&self.reports, of(owner, scope), after, limit).await
    }

    /// Number of saved reports of an owner and scope, as seen by this transaction.
    pub async fn count_in(
        &self,
        session: &mut ClientSession,
        owner: UserId,
        scope: Scope,
    ) -> Result<u64, StoreError> {
        let counted = self.reports.count_documents(of(owner, scope));
        counted.session(session).await
    }

    /// Deletes the saved reports of an owner.
    pub async fn delete_of(
        &self,
        session: &mut ClientSession,
        owner: UserId,
    ) -> Result<(), StoreError> {
        let deleted = self.reports.delete_many(doc! { "ownerId": owner });
        deleted.session(session).await?;
        Ok(())
    }
}
