//! Arguments of the jobs about one resource of a tenant: a member or an app. They take the tenant's lock.

use serde::{Deserialize, Serialize};

use crate::{
    id::{AppId, MemberId, TenantId},
    queue::{job::JobArgs, priority::Priority},
};

/// Provisions a new or changed app at the identity provider. Carries the client secret of a new confidential app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProvisionApp {
    /// Owning tenant.
    pub tenant_id: TenantId,
    /// App id.
    pub app_id: AppId,
    /// Version of the secret that the job carries; 0 without one.
    #[serde(default)]
    pub secret_version: i64,
}

/// Replaces an app's client secret at the identity provider by the one that the job carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RotateAppSecret {
    /// Owning tenant.
    pub tenant_id: TenantId,
    /// App id.
    pub app_id: AppId,
    /// Version of the secret that the job carries.
    pub secret_version: i64,
}

/// Removes an app from the identity provider, and then deletes its document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RemoveApp {
    /// Owning tenant.
    pub tenant_id: TenantId,
    /// App id.
    pub app_id: AppId,
}

/// Provisions a new or changed member in the upstreams. Carries [`MemberSecrets`](crate::member::MemberSecrets) if a
/// one-time password was issued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProvisionMember {
    /// Tenant id.
    pub tenant_id: TenantId,
    /// Member id.
    pub member_id: MemberId,
}

/// Suspends a member in the upstreams: the person can no longer use the tenant, nothing is deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SuspendMember {
    /// Tenant id.
    pub tenant_id: TenantId,
    /// Member id.
    pub member_id: MemberId,
}

/// Lifts the suspension of a member in the upstreams.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResumeMember {
    /// Tenant id.
    pub tenant_id: TenantId,
    /// Member id.
    pub member_id: MemberId,
}

/// Ends a member's sessions and revokes their tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SignOutMember {
    /// Tenant id.
    pub tenant_id: TenantId,
    /// Member id.
    pub member_id: MemberId,
}

/// Sets the one-time password that the job carries as [`MemberSecrets`](crate::member::MemberSecrets), and ends the
/// member's sessions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResetMemberPassword {
    /// Tenant id.
    pub tenant_id: TenantId,
    /// Member id.
    pub member_id: MemberId,
}

/// Permanently removes a member from the upstreams, after their restore period.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RemoveMember {
    /// Tenant id.
    pub tenant_id: TenantId,
    /// Member id.
    pub member_id: MemberId,
}

/// Jobs about one resource of a tenant: a member or an app.
macro_rules! resource_job {
    ($args:ident, $kind:literal, $id:ident, $priority:ident, joins: $joins:literal) => {
        impl JobArgs for $args {
            const KIND: &'static str = $kind;
            const PRIORITY: Priority = Priority::$priority;

            fn tenant_id(&self) -> Option<TenantId> {
                Some(self.tenant_id)
            }

            fn unique_key(&self) -> Option<String> {
                $joins.then(|| self.$id.to_string())
            }
        }
    };
}

resource_job!(ProvisionApp, "provision_app", app_id, Interactive, joins: true);
// Joining a waiting job would keep that job's secret.
resource_job!(RotateAppSecret, "rotate_app_secret", app_id, Interactive, joins: false);
// Takes access away.
resource_job!(RemoveApp, "remove_app", app_id, Security, joins: true);

resource_job!(ProvisionMember, "provision_member", member_id, Interactive, joins: true);
// Take access from the person.
resource_job!(SuspendMember, "suspend_member", member_id, Security, joins: true);
resource_job!(ResumeMember, "resume_member", member_id, Interactive, joins: true);
resource_job!(SignOutMember, "sign_out_member", member_id, Security, joins: true);
// Every reset carries a password of its own, which a job that it joined would not have.
resource_job!(ResetMemberPassword, "reset_member_password", member_id, Security, joins: false);
// A purge is scheduled for its own instant, which joining another job must not bring forward.
resource_job!(RemoveMember, "remove_member", member_id, Bulk, joins: false);
