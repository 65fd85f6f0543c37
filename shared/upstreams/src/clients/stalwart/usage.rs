//! Storage used by mailboxes.

use serde::Deserialize;
use serde_json::json;

use super::{
    Domain, Stalwart,
    jmap::{Call, result_of},
};
use crate::clients::{ClientError, Operation};
use dezky_shared::{storage_report::MailboxUsage, upstream::MailDomain};

/// Maximum number of accounts that Stalwart returns in one call.
const PAGE: usize = 500;

impl Stalwart {
    /// Those of the tenant's stored domains that still are the tenant's: an id may denote another domain once the server
    /// was restored from a backup.
    pub async fn find_known_domains(
        &self,
        tenant_id: &str,
        known: &[MailDomain],
    ) -> Result<Vec<Domain>, ClientError> {
        let ids: Vec<&str> = known.iter().map(|known| known.id.as_str()).collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let get = json!({ "ids": ids, "properties": ["name", "description", "dkimManagement"] });
        let calls = [Call::new("x:Domain/get", get)];
        let reply = self.call(Operation::read("get_domain"), calls).await?;
        let mut domains: Vec<Domain> = reply.list(0)?;
        domains.retain(|domain| domain.belongs_to(tenant_id) || domain.is_known(known));
        Ok(domains)
    }

    /// Usage of the mailboxes of a domain.
    pub async fn list_usage(&self, domain_id: &str) -> Result<Vec<MailboxUsage>, ClientError> {
        let mut usages = Vec::new();
        for number in 0.. {
            // With a limit, any other order loses and repeats entries.
            let query = json!({
                "filter": { "domainId": domain_id, "@type": "User" },
                "sort": [{ "property": "id", "isAscending": true }],
                "position": number * PAGE,
                "limit": PAGE,
            });
            let get = json!({
                "#ids": result_of(0, "x:Account/query", "/ids"),
                "properties": ["emailAddress", "usedDiskQuota", "quotas"],
            });
            let calls = [
                Call::new("x:Account/query", query),
                Call::new("x:Account/get", get),
            ];
            let reply = self.call(Operation::read("list_accounts"), calls).await?;
            let records: Vec<Record> = reply.list(1)?;
            usages.extend(records.into_iter().map(MailboxUsage::from));
            if reply.found(0)?.ids.len() < PAGE {
                break;
            }
        }
        Ok(usages)
    }
}

/// Account, as returned by Stalwart.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    id: String,
    email_address: String,
    #[serde(default)]
    used_disk_quota: i64,
    #[serde(default)]
    quotas: Quotas,
}

/// Quotas of an account; a missing one is unlimited.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Quotas {
    max_disk_quota: Option<i64>,
}

impl From<Record> for MailboxUsage {
    fn from(record: Record) -> Self {
        Self {
            account_id: record.id,
            address: record.email_address,
            used_bytes: record.used_disk_quota.max(0),
            quota_bytes: record.quotas.max_disk_quota.unwrap_or(0).max(0),
        }
    }
}
