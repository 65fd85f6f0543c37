//! Stored arguments of every job kind.

mod billing;
mod cards;
mod declare;
mod import;
mod maintenance;
mod mfa;
mod queues;
mod reports;
mod storage;
mod tenant_resources;
mod webhooks;

use serde::{Deserialize, Serialize};

pub(crate) use self::queues::kinds_of_others;

use self::declare::{partner_job, tenant_job};
use crate::id::{DomainId, InvitationId, PartnerId, TenantId};

pub use self::{
    billing::{
        BalanceKey, ClosePayouts, InvoiceSubscription, IssueInvoice, ReleasePayout, RunInvoices,
        SettleInvoice, SweepBilling, SyncBilling, VoidInvoice,
    },
    cards::{CreateSetupIntent, SetDefaultCard},
    import::ImportMembers,
    maintenance::{
        CheckSpaces, MeasureAllStorage, RecheckDueDomains, ReconcileTenants, RunJobOperation,
        SnapshotSubscriptions, TrimAudit,
    },
    mfa::{LookUpMfa, ResetMfa},
    queues::queue_of,
    reports::SummarizeMonths,
    storage::{ApplyAllowance, MeasureStorage},
    tenant_resources::{
        ProvisionApp, ProvisionMember, RemoveApp, RemoveMember, ResetMemberPassword, ResumeMember,
        RotateAppSecret, SignOutMember, SuspendMember,
    },
    webhooks::{FetchStripeEvents, MirrorStripeObject},
};

/// Provisions a new or changed tenant in the upstreams.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProvisionTenant {
    /// Tenant id.
    pub tenant_id: TenantId,
}

/// Reconciles a tenant: compares the upstreams with the desired state and repairs drift.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReconcileTenant {
    /// Tenant id.
    pub tenant_id: TenantId,
    /// Dry run: reports drift without repairing it.
    #[serde(default)]
    pub dry_run: bool,
}

/// Suspends a tenant in the upstreams: members cannot sign in, nothing is deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SuspendTenant {
    /// Tenant id.
    pub tenant_id: TenantId,
}

/// Lifts the suspension of a tenant in the upstreams.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResumeTenant {
    /// Tenant id.
    pub tenant_id: TenantId,
}

/// Permanently removes a tenant from the upstreams, after its restore period.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeprovisionTenant {
    /// Tenant id.
    pub tenant_id: TenantId,
}

/// Creates an owned domain on the mail server, and stores the DNS records it should have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProvisionDomain {
    /// Owning tenant.
    pub tenant_id: TenantId,
    /// Claim id.
    pub domain_id: DomainId,
}

/// Applies a domain's DMARC policy to its expected DNS records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SetDmarc {
    /// Owning tenant.
    pub tenant_id: TenantId,
    /// Claim id.
    pub domain_id: DomainId,
}

/// Removes a domain from the mail server, and then deletes the claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RemoveDomain {
    /// Owning tenant.
    pub tenant_id: TenantId,
    /// Claim id.
    pub domain_id: DomainId,
}

/// Checks a domain's public DNS. Read-only, so it takes only the domain's own lock, not the tenant's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecheckDomain {
    /// Owning tenant.
    pub tenant_id: TenantId,
    /// Claim id.
    pub domain_id: DomainId,
}

/// Adds a member to a partner's team, and creates a recovery link for a person without an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InvitePartnerMember {
    /// Partner id.
    pub partner_id: PartnerId,
    /// Invitation id.
    pub invitation_id: InvitationId,
}

/// Syncs a partner's group with its team, and counts the members' MFA devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SyncPartnerTeam {
    /// Partner id.
    pub partner_id: PartnerId,
}

partner_job!(
    InvitePartnerMember, "invite_partner_member", Interactive,
    unique: |this| Some(this.invitation_id.to_string())
);
// Takes access from those who left the team.
partner_job!(
    SyncPartnerTeam, "sync_partner_team", Security,
    unique: |this| Some(this.partner_id.to_string())
);

tenant_job!(
    ProvisionTenant, "provision_tenant", Interactive,
    unique: |this| Some(this.tenant_id.to_string())
);
tenant_job!(
    ReconcileTenant, "reconcile_tenant", Interactive,
    unique: |this| (!this.dry_run).then(|| this.tenant_id.to_string())
);
tenant_job!(
    SuspendTenant, "suspend_tenant", Security,
    unique: |this| Some(this.tenant_id.to_string())
);
tenant_job!(
    ResumeTenant, "resume_tenant", Interactive,
    unique: |this| Some(this.tenant_id.to_string())
);
// A purge is scheduled for its own instant, which joining another job must not bring forward.
tenant_job!(DeprovisionTenant, "deprovision_tenant", Bulk, unique: |_this| None);

tenant_job!(
    ProvisionDomain, "provision_domain", Interactive,
    unique: |this| Some(this.domain_id.to_string())
);
tenant_job!(
    SetDmarc, "set_dmarc", Interactive,
    unique: |this| Some(this.domain_id.to_string())
);
tenant_job!(
    RemoveDomain, "remove_domain", Interactive,
    unique: |this| Some(this.domain_id.to_string())
);
tenant_job!(
    RecheckDomain, "recheck_domain", Interactive, queue: Dns,
    lock: |this| format!("domain:{}", this.domain_id),
    unique: |this| Some(this.domain_id.to_string())
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        id::{AppId, JobOperationId, MemberId, MemberImportId},
        queue::{job::JobArgs as _, priority::Priority},
    };

    /// Pins the stored form, which outlives a deploy: a change here changes documents that already wait.
    #[test]
    fn the_stored_form_of_every_kind_is_stable() {
        let tenant_id = TenantId::from_bytes([7; 16]);
        let domain_id = DomainId::from_bytes([8; 16]);
        let app_id = AppId::from_bytes([12; 16]);
        let member_id = MemberId::from_bytes([13; 16]);
        let stored = [
            serde_json::to_value(ProvisionTenant { tenant_id }).unwrap(),
            serde_json::to_value(ReconcileTenant {
                tenant_id,
                dry_run: true,
            })
            .unwrap(),
            serde_json::to_value(SuspendTenant { tenant_id }).unwrap(),
            serde_json::to_value(ResumeTenant { tenant_id }).unwrap(),
            serde_json::to_value(DeprovisionTenant { tenant_id }).unwrap(),
            serde_json::to_value(ReconcileTenants {
                dry_run: true,
                spread_seconds: 60,
            })
            .unwrap(),
            serde_json::to_value(ProvisionDomain {
                tenant_id,
                domain_id,
            })
            .unwrap(),
            serde_json::to_value(SetDmarc {
                tenant_id,
                domain_id,
            })
            .unwrap(),
            serde_json::to_value(RemoveDomain {
                tenant_id,
                domain_id,
            })
            .unwrap(),
            serde_json::to_value(RecheckDomain {
                tenant_id,
                domain_id,
            })
            .unwrap(),
            serde_json::to_value(RunJobOperation {
                operation_id: JobOperationId::from_bytes([9; 16]),
            })
            .unwrap(),
            serde_json::to_value(RecheckDueDomains {}).unwrap(),
            serde_json::to_value(SnapshotSubscriptions {
                month: "2026-11".parse().unwrap(),
            })
            .unwrap(),
            serde_json::to_value(InvitePartnerMember {
                partner_id: PartnerId::from_bytes([10; 16]),
                invitation_id: InvitationId::from_bytes([11; 16]),
            })
            .unwrap(),
            serde_json::to_value(SyncPartnerTeam {
                partner_id: PartnerId::from_bytes([10; 16]),
            })
            .unwrap(),
            serde_json::to_value(TrimAudit {}).unwrap(),
            serde_json::to_value(CheckSpaces {}).unwrap(),
            serde_json::to_value(ProvisionApp {
                tenant_id,
                app_id,
                secret_version: 1,
            })
            .unwrap(),
            serde_json::to_value(RotateAppSecret {
                tenant_id,
                app_id,
                secret_version: 2,
            })
            .unwrap(),
            serde_json::to_value(RemoveApp { tenant_id, app_id }).unwrap(),
            serde_json::to_value(ProvisionMember {
                tenant_id,
                member_id,
            })
            .unwrap(),
            serde_json::to_value(SuspendMember {
                tenant_id,
                member_id,
            })
            .unwrap(),
            serde_json::to_value(ResumeMember {
                tenant_id,
                member_id,
            })
            .unwrap(),
            serde_json::to_value(SignOutMember {
                tenant_id,
                member_id,
            })
            .unwrap(),
            serde_json::to_value(ResetMemberPassword {
                tenant_id,
                member_id,
            })
            .unwrap(),
            serde_json::to_value(RemoveMember {
                tenant_id,
                member_id,
            })
            .unwrap(),
            serde_json::to_value(ImportMembers {
                tenant_id,
                import_id: MemberImportId::from_bytes([14; 16]),
            })
            .unwrap(),
        ];

        insta::assert_json_snapshot!(stored, @r#"
[
  {
    "tenantId": "07070707-0707-0707-0707-070707070707"
  },
  {
    "dryRun": true,
    "tenantId": "07070707-0707-0707-0707-070707070707"
  },
  {
    "tenantId": "07070707-0707-0707-0707-070707070707"
  },
  {
    "tenantId": "07070707-0707-0707-0707-070707070707"
  },
  {
    "tenantId": "07070707-0707-0707-0707-070707070707"
  },
  {
    "dryRun": true,
    "spreadSeconds": 60
  },
  {
    "domainId": "08080808-0808-0808-0808-080808080808",
    "tenantId": "07070707-0707-0707-0707-070707070707"
  },
  {
    "domainId": "08080808-0808-0808-0808-080808080808",
    "tenantId": "07070707-0707-0707-0707-070707070707"
  },
  {
    "domainId": "08080808-0808-0808-0808-080808080808",
    "tenantId": "07070707-0707-0707-0707-070707070707"
  },
  {
    "domainId": "08080808-0808-0808-0808-080808080808",
    "tenantId": "07070707-0707-0707-0707-070707070707"
  },
  {
    "operationId": "09090909-0909-0909-0909-090909090909"
  },
  {},
  {
    "month": "2026-11"
  },
  {
    "invitationId": "0b0b0b0b-0b0b-0b0b-0b0b-0b0b0b0b0b0b",
    "partnerId": "0a0a0a0a-0a0a-0a0a-0a0a-0a0a0a0a0a0a"
  },
  {
    "partnerId": "0a0a0a0a-0a0a-0a0a-0a0a-0a0a0a0a0a0a"
  },
  {},
  {},
  {
    "appId": "0c0c0c0c-0c0c-0c0c-0c0c-0c0c0c0c0c0c",
    "secretVersion": 1,
    "tenantId": "07070707-0707-0707-0707-070707070707"
  },
  {
    "appId": "0c0c0c0c-0c0c-0c0c-0c0c-0c0c0c0c0c0c",
    "secretVersion": 2,
    "tenantId": "07070707-0707-0707-0707-070707070707"
  },
  {
    "appId": "0c0c0c0c-0c0c-0c0c-0c0c-0c0c0c0c0c0c",
    "tenantId": "07070707-0707-0707-0707-070707070707"
  },
  {
    "memberId": "0d0d0d0d-0d0d-0d0d-0d0d-0d0d0d0d0d0d",
    "tenantId": "07070707-0707-0707-0707-070707070707"
  },
  {
    "memberId": "0d0d0d0d-0d0d-0d0d-0d0d-0d0d0d0d0d0d",
    "tenantId": "07070707-0707-0707-0707-070707070707"
  },
  {
    "memberId": "0d0d0d0d-0d0d-0d0d-0d0d-0d0d0d0d0d0d",
    "tenantId": "07070707-0707-0707-0707-070707070707"
  },
  {
    "memberId": "0d0d0d0d-0d0d-0d0d-0d0d-0d0d0d0d0d0d",
    "tenantId": "07070707-0707-0707-0707-070707070707"
  },
  {
    "memberId": "0d0d0d0d-0d0d-0d0d-0d0d-0d0d0d0d0d0d",
    "tenantId": "07070707-0707-0707-0707-070707070707"
  },
  {
    "memberId": "0d0d0d0d-0d0d-0d0d-0d0d-0d0d0d0d0d0d",
    "tenantId": "07070707-0707-0707-0707-070707070707"
  },
  {
    "importId": "0e0e0e0e-0e0e-0e0e-0e0e-0e0e0e0e0e0e",
    "tenantId": "07070707-0707-0707-0707-070707070707"
  }
]
"#);
    }

    #[test]
    fn background_jobs_have_bulk_priority() {
        let priorities = [
            ReconcileTenants::PRIORITY,
            RunJobOperation::PRIORITY,
            RecheckDueDomains::PRIORITY,
            SnapshotSubscriptions::PRIORITY,
            CheckSpaces::PRIORITY,
            TrimAudit::PRIORITY,
            DeprovisionTenant::PRIORITY,
            ImportMembers::PRIORITY,
        ];

        assert_eq!(priorities, [Priority::Bulk; 8]);
    }

    #[test]
    fn a_reconcile_stored_without_the_dry_run_field_is_not_a_dry_run() {
        let stored = bson::doc! { "tenantId": TenantId::from_bytes([7; 16]) };

        let args: ReconcileTenant = bson::deserialize_from_document(stored).unwrap();

        assert!(!args.dry_run);
    }
}
