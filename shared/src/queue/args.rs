//! Stored arguments of every job kind.

use serde::{Deserialize, Serialize};

use crate::{
    id::{DomainId, InvitationId, JobOperationId, PartnerId, TenantId},
    queue::{
        job::{JobArgs, Queue},
        priority::Priority,
    },
    subscription_snapshot::Month,
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

/// Enqueues a reconcile job for every tenant that is not terminated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReconcileTenants {
    /// Dry run: reports drift without repairing it.
    #[serde(default)]
    pub dry_run: bool,
    /// Period over which the jobs are spread, in seconds.
    #[serde(default)]
    pub spread_seconds: u64,
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

/// Deletes audit events whose retention period is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrimAudit {}

/// Looks for spaces on the files server that no tenant stores, and for those that several do. Read-only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckSpaces {}

/// Runs a bulk job operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunJobOperation {
    /// Operation id.
    pub operation_id: JobOperationId,
}

impl JobArgs for RunJobOperation {
    const KIND: &'static str = "run_job_operation";
    const QUEUE: Queue = Queue::Maintenance;

    fn tenant_id(&self) -> Option<TenantId> {
        None
    }

    fn unique_key(&self) -> Option<String> {
        Some(self.operation_id.to_string())
    }
}
/// Enqueues a DNS check for every domain that is due.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecheckDueDomains {}

/// Takes the monthly subscription snapshot of every tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotSubscriptions {
    /// Month of the snapshot.
    pub month: Month,
}

impl JobArgs for SnapshotSubscriptions {
    const KIND: &'static str = "snapshot_subscriptions";
    const QUEUE: Queue = Queue::Maintenance;
    const PRIORITY: Priority = Priority::Bulk;

    fn tenant_id(&self) -> Option<TenantId> {
        None
    }

    // No unique key: a waiting job may have processed half of the tenants, and joining it would keep their stale
    // snapshots.
    fn lock_key(&self) -> Option<String> {
        Some(Self::KIND.to_owned())
    }
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

macro_rules! partner_job {
    ($args:ident, $kind:literal, $priority:ident, joins: |$this:ident| $joins:expr) => {
        impl JobArgs for $args {
            const KIND: &'static str = $kind;
            const PRIORITY: Priority = Priority::$priority;

            fn tenant_id(&self) -> Option<TenantId> {
                None
            }

            fn lock_key(&self) -> Option<String> {
                Some(format!("partner:{}", self.partner_id))
            }

            fn unique_key(&self) -> Option<String> {
                let $this = self;
                Some($joins.to_string())
            }
        }
    };
}

partner_job!(InvitePartnerMember, "invite_partner_member", Interactive, joins: |this| this.invitation_id);
// Takes access from those who left the team.
partner_job!(SyncPartnerTeam, "sync_partner_team", Security, joins: |this| this.partner_id);

macro_rules! tenant_job {
    ($args:ident, $kind:literal, $priority:ident, joins: |$this:ident| $joins:expr) => {
        impl JobArgs for $args {
            const KIND: &'static str = $kind;
            const PRIORITY: Priority = Priority::$priority;

            fn tenant_id(&self) -> Option<TenantId> {
                Some(self.tenant_id)
            }

            fn unique_key(&self) -> Option<String> {
                let $this = self;
                ($joins).then(|| self.tenant_id.to_string())
            }
        }
    };
}

tenant_job!(ProvisionTenant, "provision_tenant", Interactive, joins: |_this| true);
tenant_job!(ReconcileTenant, "reconcile_tenant", Interactive, joins: |this| !this.dry_run);
tenant_job!(SuspendTenant, "suspend_tenant", Security, joins: |_this| true);
tenant_job!(ResumeTenant, "resume_tenant", Interactive, joins: |_this| true);
// A purge is scheduled for its own instant, which joining another job must not bring forward.
tenant_job!(DeprovisionTenant, "deprovision_tenant", Bulk, joins: |_this| false);

impl JobArgs for ReconcileTenants {
    const KIND: &'static str = "reconcile_tenants";
    const QUEUE: Queue = Queue::Maintenance;
    const PRIORITY: Priority = Priority::Bulk;

    fn tenant_id(&self) -> Option<TenantId> {
        None
    }
}

macro_rules! domain_job {
    ($args:ident, $kind:literal) => {
        impl JobArgs for $args {
            const KIND: &'static str = $kind;

            fn tenant_id(&self) -> Option<TenantId> {
                Some(self.tenant_id)
            }

            fn unique_key(&self) -> Option<String> {
                Some(self.domain_id.to_string())
            }
        }
    };
}

domain_job!(ProvisionDomain, "provision_domain");
domain_job!(SetDmarc, "set_dmarc");
domain_job!(RemoveDomain, "remove_domain");

impl JobArgs for RecheckDomain {
    const KIND: &'static str = "recheck_domain";
    const QUEUE: Queue = Queue::Dns;

    fn tenant_id(&self) -> Option<TenantId> {
        Some(self.tenant_id)
    }

    fn lock_key(&self) -> Option<String> {
        Some(format!("domain:{}", self.domain_id))
    }

    fn unique_key(&self) -> Option<String> {
        Some(self.domain_id.to_string())
    }
}

impl JobArgs for RecheckDueDomains {
    const KIND: &'static str = "recheck_due_domains";
    const QUEUE: Queue = Queue::Maintenance;

    fn tenant_id(&self) -> Option<TenantId> {
        None
    }

    fn lock_key(&self) -> Option<String> {
        Some(Self::KIND.to_owned())
    }

    fn unique_key(&self) -> Option<String> {
        Some("all".to_owned())
    }
}

impl JobArgs for CheckSpaces {
    const KIND: &'static str = "check_spaces";
    const QUEUE: Queue = Queue::Maintenance;

    fn tenant_id(&self) -> Option<TenantId> {
        None
    }

    fn lock_key(&self) -> Option<String> {
        Some(Self::KIND.to_owned())
    }

    fn unique_key(&self) -> Option<String> {
        Some("all".to_owned())
    }
}

impl JobArgs for TrimAudit {
    const KIND: &'static str = "trim_audit";
    const QUEUE: Queue = Queue::Maintenance;
    const PRIORITY: Priority = Priority::Bulk;

    fn tenant_id(&self) -> Option<TenantId> {
        None
    }

    fn lock_key(&self) -> Option<String> {
        Some(Self::KIND.to_owned())
    }

    fn unique_key(&self) -> Option<String> {
        Some("all".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pins the stored form, which outlives a deploy: a change here changes documents that already wait.
    #[test]
    fn the_stored_form_of_every_kind_is_stable() {
        let tenant_id = TenantId::from_bytes([7; 16]);
        let domain_id = DomainId::from_bytes([8; 16]);
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
  {}
]
"#);
    }

    #[test]
    fn a_reconcile_stored_without_the_dry_run_field_is_not_a_dry_run() {
        let stored = bson::doc! { "tenantId": TenantId::from_bytes([7; 16]) };

        let args: ReconcileTenant = bson::deserialize_from_document(stored).unwrap();

        assert!(!args.dry_run);
    }
}
