//! MFA report repository. Reports are looked up again at any time, so they carry no revision.

use std::sync::Arc;

use bson::{Document, doc};
use mongodb::{ClientSession, Collection};

use super::{Store, StoreError, to_document};
use crate::{id::TenantId, mfa::MfaReport};

/// MFA reports of all tenants.
#[derive(Debug, Clone)]
pub struct MfaReportRepository {
    reports: Collection<MfaReport>,
}

impl MfaReportRepository {
    /// The repository in `store`.
    pub fn new(store: &Arc<Store>) -> Self {
        Self {
            reports: store.collection("mfa_reports"),
        }
    }

    /// The report of a tenant, once a look-up was complete.
    pub async fn find(&self, tenant: TenantId) -> Result<Option<MfaReport>, StoreError> {
        self.reports.find_one(doc! { "_id": tenant }).await
    }

    /// Replaces the report of a tenant.
    pub async fn replace(
        &self,
        session: &mut ClientSession,
        report: &MfaReport,
    ) -> Result<(), StoreError> {
        let mut fields: Document = to_document(report)?;
        fields.remove("_id");
        self.reports
            .update_one(doc! { "_id": report.tenant_id }, doc! { "$set": fields })
            .upsert(true)
            .session(session)
            .await?;
        Ok(())
    }
}
