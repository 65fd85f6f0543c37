//! Repository of imports of members, with their rows and one-time passwords.

use std::{sync::Arc, time::Duration};

use bson::{DateTime, Document, doc};
use futures::TryStreamExt as _;
use mongodb::{ClientSession, Collection};

use super::{
    Store, StoreError, bulk_update_in,
    index::{index, ttl, unique},
    lenient::take_decodable,
    linearizable::find_one_linearizable,
    to_bson, to_document,
};
use crate::{
    id::{JobId, MemberImportId, TenantId},
    member_import::{ImportRow, ImportedPassword, MemberImport, RowOutcome, RowPassword},
};

/// Imports of members, with their rows and one-time passwords.
#[derive(Debug, Clone)]
pub struct MemberImportRepository {
    imports: Collection<MemberImport>,
    rows: Collection<ImportRow>,
    passwords: Collection<ImportedPassword>,
}

impl MemberImportRepository {
    /// The repository in `store`.
    pub fn new(store: &Arc<Store>) -> Self {
        Self {
            imports: store.collection("member_imports"),
            rows: store.collection("member_import_rows"),
            passwords: store.collection("member_import_passwords"),
        }
    }

    /// Creates the indexes.
    pub async fn ensure_indexes(&self) -> Result<(), StoreError> {
        let retention = || ttl("expireAt", Duration::ZERO);
        let of_tenant = index(doc! { "tenantId": 1, "_id": 1 });
        let in_order = unique("in_order", doc! { "importId": 1, "n": 1 });
        let of_import = index(doc! { "importId": 1 });
        self.imports
            .create_indexes([of_tenant, retention()])
            .await?;
        self.rows.create_indexes([in_order, retention()]).await?;
        self.passwords
            .create_indexes([of_import, retention()])
            .await?;
        Ok(())
    }

    /// Inserts an import with its rows.
    pub async fn insert(
        &self,
        session: &mut ClientSession,
        import: &MemberImport,
        rows: &[ImportRow],
    ) -> Result<(), StoreError> {
        self.imports
            .insert_one(import)
            .session(&mut *session)
            .await?;
        self.rows.insert_many(rows).session(session).await?;
        Ok(())
    }

    /// The import with this id, if it is of this tenant.
    pub async fn find(
        &self,
        tenant_id: TenantId,
        id: MemberImportId,
    ) -> Result<Option<MemberImport>, StoreError> {
        let query = doc! { "_id": id, "tenantId": tenant_id };
        find_one_linearizable(&self.imports, query).await
    }

    /// At most `limit` imports of a tenant before this id, newest first.
    pub async fn list(
        &self,
        tenant_id: TenantId,
        before: Option<MemberImportId>,
        limit: i64,
    ) -> Result<Vec<MemberImport>, StoreError> {
        let mut query = doc! { "tenantId": tenant_id };
        if let Some(before) = before {
            query.insert("_id", doc! { "$lt": before });
        }
        let imports = self.imports.clone_with_type::<Document>();
        let newest = doc! { "tenantId": -1, "_id": -1 };
        take_decodable(imports.find(query).sort(newest), limit).await
    }

    /// At most `limit` rows of an import after `after`, in order. Skips those of a newer build.
    pub async fn list_rows(
        &self,
        id: MemberImportId,
        outcome: Option<RowOutcome>,
        after: i64,
        limit: i64,
    ) -> Result<Vec<ImportRow>, StoreError> {
        let mut query = doc! { "importId": id, "n": { "$gt": after } };
        if let Some(outcome) = outcome {
            query.insert("outcome", outcome.name());
        }
        let rows = self.rows.clone_with_type::<Document>();
        let in_order = doc! { "importId": 1, "n": 1 };
        take_decodable(rows.find(query).sort(in_order), limit).await
    }

    /// At most `limit` pending rows of an import after `after`, in order, as seen by this transaction.
    pub async fn list_pending(
        &self,
        session: &mut ClientSession,
        id: MemberImportId,
        after: i64,
        limit: i64,
    ) -> Result<Vec<ImportRow>, StoreError> {
        let pending = RowOutcome::Pending.name();
        let query = doc! { "importId": id, "n": { "$gt": after }, "outcome": pending };
        let rows = self.rows.find(query).sort(doc! { "importId": 1, "n": 1 });
        let mut rows = rows.limit(limit).session(&mut *session).await?;
        rows.stream(session).try_collect().await
    }

    /// Stores rows that were pending, with their outcomes, and counts them. `by` is the running job.
    pub async fn settle(
        &self,
        session: &mut ClientSession,
        id: MemberImportId,
        rows: &[ImportRow],
        by: JobId,
    ) -> Result<(), StoreError> {
        let mut counts = Document::new();
        let mut updates = Vec::new();
        for row in rows {
            let counter = row.outcome.name();
            let count = counts.get_i64(counter).unwrap_or(0);
            counts.insert(counter, count + 1);
            let query = doc! { "_id": row.id, "outcome": RowOutcome::Pending.name() };
            updates.push(doc! { "q": query, "u": { "$set": to_document(row)? } });
        }
        if bulk_update_in(&self.rows, session, updates).await? != rows.len() {
            return Err(StoreError::custom("a row was settled before".to_owned()));
        }
        let counted = doc! { "$inc": counts, "$set": { "jobId": by } };
        self.imports
            .update_one(doc! { "_id": id }, counted)
            .session(session)
            .await?;
        Ok(())
    }

    /// Marks the import as finished.
    pub async fn finish(&self, id: MemberImportId, now: DateTime) -> Result<(), StoreError> {
        let unfinished = doc! { "_id": id, "finishedAt": { "$exists": false } };
        self.imports
            .update_one(unfinished, doc! { "$set": { "finishedAt": now } })
            .await?;
        Ok(())
    }

    /// Adds the one-time passwords of created members.
    pub async fn add_passwords(
        &self,
        session: &mut ClientSession,
        passwords: &[ImportedPassword],
    ) -> Result<(), StoreError> {
        if passwords.is_empty() {
            return Ok(());
        }
        self.passwords
            .insert_many(passwords)
            .session(session)
            .await?;
        Ok(())
    }

    /// Takes the one-time passwords of an import out of the database. Returns the rows whose passwords were not taken
    /// before, in order, and the passwords that have not expired.
    pub async fn take_passwords(
        &self,
        session: &mut ClientSession,
        id: MemberImportId,
    ) -> Result<(Vec<ImportRow>, Vec<ImportedPassword>), StoreError> {
        let in_file = doc! { "importId": id, "password": to_bson(&RowPassword::InFile)? };
        let rows = self.rows.find(in_file.clone()).sort(doc! { "n": 1 });
        let mut rows = rows.session(&mut *session).await?;
        let rows: Vec<ImportRow> = rows.stream(&mut *session).try_collect().await?;
        let fetched = doc! { "$set": { "password": to_bson(&RowPassword::Fetched)? } };
        self.rows
            .update_many(in_file, fetched)
            .session(&mut *session)
            .await?;
        let of_import = doc! { "importId": id };
        let mut passwords = self
            .passwords
            .find(of_import.clone())
            .session(&mut *session)
            .await?;
        let passwords = passwords.stream(&mut *session).try_collect().await?;
        self.passwords
            .delete_many(of_import)
            .session(session)
            .await?;
        Ok((rows, passwords))
    }
}
