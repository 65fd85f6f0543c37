//! Arguments of the import of members.

use serde::{Deserialize, Serialize};

use super::declare::tenant_job;
use crate::id::{MemberImportId, TenantId};

/// Creates the members of an import, and a [`ProvisionMember`](super::ProvisionMember) job for each. Calls no upstream, so
/// it takes a lock of its own, not the tenant's: the imports of a tenant run one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImportMembers {
    /// Tenant id.
    pub tenant_id: TenantId,
    /// Import id.
    pub import_id: MemberImportId,
}

tenant_job!(
    ImportMembers, "import_members", Bulk,
    lock: |this| format!("import:{}", this.tenant_id),
    unique: |this| Some(this.import_id.to_string())
);
