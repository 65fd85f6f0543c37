//! Arguments of the import of members.

use serde::{Deserialize, Serialize};

use crate::{
    id::{MemberImportId, TenantId},
    queue::{job::JobArgs, priority::Priority},
};

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

impl JobArgs for ImportMembers {
    const KIND: &'static str = "import_members";
    const PRIORITY: Priority = Priority::Bulk;

    fn tenant_id(&self) -> Option<TenantId> {
        Some(self.tenant_id)
    }

    fn lock_key(&self) -> Option<String> {
        Some(format!("import:{}", self.tenant_id))
    }

    fn unique_key(&self) -> Option<String> {
        Some(self.import_id.to_string())
    }
}
