//! Arguments of the jobs about one resource of a tenant: a member or an app. They take the tenant's lock.

use serde::{Deserialize, Serialize};

use super::declare::tenant_job;
use crate::id::{AppId, MemberId, TenantId};

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

tenant_job!(
    ProvisionApp, "provision_app", Interactive,
    unique: |this| Some(this.app_id.to_string())
);
// Joining a waiting job would keep that job's secret.
tenant_job!(RotateAppSecret, "rotate_app_secret", Interactive, unique: |_this| None);
// Takes access away.
tenant_job!(
    RemoveApp, "remove_app", Security,
    unique: |this| Some(this.app_id.to_string())
);

tenant_job!(
    ProvisionMember, "provision_member", Interactive,
    unique: |this| Some(this.member_id.to_string())
);
// Take access from the person.
tenant_job!(
    SuspendMember, "suspend_member", Security,
    unique: |this| Some(this.member_id.to_string())
);
tenant_job!(
    ResumeMember, "resume_member", Interactive,
    unique: |this| Some(this.member_id.to_string())
);
tenant_job!(
    SignOutMember, "sign_out_member", Security,
    unique: |this| Some(this.member_id.to_string())
);
// Every reset carries a password of its own, which a job that it joined would not have.
tenant_job!(ResetMemberPassword, "reset_member_password", Security, unique: |_this| None);
// A purge is scheduled for its own instant, which joining another job must not bring forward.
tenant_job!(RemoveMember, "remove_member", Bulk, unique: |_this| None);
