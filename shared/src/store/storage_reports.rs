//! Storage report repository. Reports are measured again at any time, so they carry no revision.

use std::{collections::HashMap, sync::Arc};

use bson::{DateTime, Document, doc};
use futures::TryStreamExt as _;
use mongodb::{ClientSession, Collection};
use serde::Deserialize;

use super::{Store, StoreError, bulk_update_in, to_bson};
use crate::{
    id::TenantId,
    storage_report::{FilesUsage, MailUsage, MailboxUsage, SpaceUsage},
};

/// Storage reports of all tenants.
#[derive(Debug, Clone)]
pub struct StorageReportRepository {
    reports: Collection<Document>,
}

/// A report with one page of its mailboxes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct ReportPage {
    /// Usage on the file server.
    #[serde(default)]
    pub files: Option<FilesUsage>,
    /// Usage on the mail server, without its mailboxes.
    #[serde(default)]
    pub mail: Option<MailTotals>,
    /// Mailboxes of the page, by address.
    #[serde(default)]
    pub mailboxes: Vec<MailboxUsage>,
}

impl ReportPage {
    /// Time of the older one of both measurements. `None` until both were made.
    pub fn as_of(&self) -> Option<DateTime> {
        let files = self.files.as_ref()?.as_of;
        Some(files.min(self.mail?.as_of))
    }
}

/// Totals of all mailboxes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MailTotals {
    /// Time at which the measurement began.
    pub as_of: DateTime,
    /// Number of mailboxes.
    pub count: i64,
    /// Bytes used by all mailboxes.
    pub used_bytes: i64,
}

impl StorageReportRepository {
    /// The repository in `store`.
    pub fn new(store: &Arc<Store>) -> Self {
        Self {
            reports: store.collection("storage_reports"),
        }
    }

    /// The report of a tenant with at most `limit` mailboxes after the address `after`. Empty if nothing was measured.
    /// The page is cut by the database: the report of a large tenant has a megabyte.
    pub async fn find_page(
        &self,
        tenant: TenantId,
        after: Option<&str>,
        limit: i64,
    ) -> Result<ReportPage, StoreError> {
        let mailboxes = doc! { "$ifNull": ["$mail.mailboxes", []] };
        let rest = match after {
            None => mailboxes,
            Some(after) => {
                let is_later = doc! { "$gt": ["$$mailbox.address", { "$literal": after }] };
                doc! { "$filter": { "input": mailboxes, "as": "mailbox", "cond": is_later } }
            }
        };
        let shown = doc! {
            "files": 1,
            "mail.asOf": 1,
            "mail.count": 1,
            "mail.usedBytes": 1,
            "mailboxes": { "$slice": [rest, limit] },
        };
        let mut found = self
            .reports
            .aggregate([
                doc! { "$match": { "_id": tenant } },
                doc! { "$project": shown },
            ])
            .with_type::<ReportPage>()
            .await?;
        Ok(found.try_next().await?.unwrap_or_default())
    }

    /// The spaces of these tenants, as far as they were measured.
    pub async fn list_spaces(
        &self,
        tenants: &[TenantId],
    ) -> Result<HashMap<TenantId, SpaceUsage>, StoreError> {
        #[derive(Deserialize)]
        struct Measured {
            #[serde(rename = "_id")]
            tenant: TenantId,
            files: Files,
        }
        #[derive(Deserialize)]
        struct Files {
            space: SpaceUsage,
        }
        let measured =
            doc! { "_id": { "$in": tenants.to_vec() }, "files.space": { "$exists": true } };
        let found = self
            .reports
            .clone_with_type::<Measured>()
            .find(measured)
            .projection(doc! { "files.space": 1 })
            .await?;
        found
            .map_ok(|report| (report.tenant, report.files.space))
            .try_collect()
            .await
    }

    /// Replaces the usage on the file server.
    pub async fn set_files(
        &self,
        session: &mut ClientSession,
        tenant: TenantId,
        usage: &FilesUsage,
    ) -> Result<(), StoreError> {
        self.set(session, tenant, doc! { "files": to_bson(usage)? })
            .await
    }

    /// Replaces the usage on the mail server.
    pub async fn set_mail(
        &self,
        session: &mut ClientSession,
        tenant: TenantId,
        usage: &MailUsage,
    ) -> Result<(), StoreError> {
        self.set(session, tenant, doc! { "mail": to_bson(usage)? })
            .await
    }

    async fn set(
        &self,
        session: &mut ClientSession,
        tenant: TenantId,
        part: Document,
    ) -> Result<(), StoreError> {
        self.reports
            .update_one(doc! { "_id": tenant }, doc! { "$set": part })
            .upsert(true)
            .session(session)
            .await?;
        Ok(())
    }

    /// Replaces the usage on the file server of several tenants, unless a newer one is stored.
    pub async fn set_files_many(
        &self,
        session: &mut ClientSession,
        usages: &[(TenantId, FilesUsage)],
    ) -> Result<(), StoreError> {
        let updates = usages.iter().map(|(tenant, usage)| {
            // A pipeline, since a filter by age would insert a second report beside a newer one.
            let is_newer = doc! { "$gt": ["$files.asOf", usage.as_of] };
            let usage = doc! { "$literal": to_bson(usage)? };
            let newest = doc! { "$cond": [is_newer, "$files", usage] };
            Ok(doc! {
                "q": { "_id": tenant }, "u": [{ "$set": { "files": newest } }], "upsert": true,
            })
        });
        let updates = updates.collect::<Result<Vec<_>, StoreError>>()?;
        bulk_update_in(&self.reports, session, updates).await?;
        Ok(())
    }

    /// Deletes the report of a tenant.
    pub async fn delete(
        &self,
        session: &mut ClientSession,
        tenant: TenantId,
    ) -> Result<(), StoreError> {
        self.reports
            .delete_one(doc! { "_id": tenant })
            .session(session)
            .await?;
        Ok(())
    }
}
