//! The stored arguments of every kind of job.

use serde::{Deserialize, Serialize};

use crate::{
    id::{DomainId, InvitationId, JobOperationId, PartnerId, TenantId},
    queue::job::{JobArgs, Queue},
    subscription_snapshot::Month,
};

/// Brings a new or changed tenant into the upstreams.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProvisionTenant {
    /// Which tenant.
    pub tenant_id: TenantId,
}

/// Looks whether the upstreams still hold what they should, and repairs what they do not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReconcileTenant {
    /// Which tenant.
    pub tenant_id: TenantId,
    /// Only say what would be repaired.
    #[serde(default)]
    pub dry_run: bool,
}

/// Freezes a tenant: nobody signs in, nothing is deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SuspendTenant {
    /// Which tenant.
    pub tenant_id: TenantId,
}

/// Lifts what suspending froze.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResumeTenant {
    /// Which tenant.
    pub tenant_id: TenantId,
}

/// Removes a tenant from the upstreams for good, once its time to be restored is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeprovisionTenant {
    /// Which tenant.
    pub tenant_id: TenantId,
}

/// Has every tenant that was not removed reconciled, each by a job of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReconcileTenants {
    /// Only say what would be repaired.
    #[serde(default)]
    pub dry_run: bool,
    /// Over how many seconds the tenants are spread.
    #[serde(default)]
    pub spread_seconds: u64,
}

/// Makes an owned domain in the mail server, and learns which records its DNS should have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProvisionDomain {
    /// Whose it is.
    pub tenant_id: TenantId,
    /// Which claim.
    pub domain_id: DomainId,
}

/// Brings the DMARC policy that a domain should have into what it expects of its DNS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SetDmarc {
    /// Whose it is.
    pub tenant_id: TenantId,
    /// Which claim.
    pub domain_id: DomainId,
}

/// Removes a domain from the mail server, and then the claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RemoveDomain {
    /// Whose it is.
    pub tenant_id: TenantId,
    /// Which claim.
    pub domain_id: DomainId,
}

/// Looks at a domain's public DNS. It reads only, so it waits for nobody's lock but the domain's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecheckDomain {
    /// Whose it is.
    pub tenant_id: TenantId,
    /// Which claim.
    pub domain_id: DomainId,
}

/// Deletes the audit events that need not be kept any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrimAudit {}

/// Does to many jobs what an operator asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunJobOperation {
    /// Which operation.
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
/// Asks for a look at the DNS of every domain whose time has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecheckDueDomains {}

/// Writes down what every tenant has bought in a month.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotSubscriptions {
    /// Which month.
    pub month: Month,
}

impl JobArgs for SnapshotSubscriptions {
    const KIND: &'static str = "snapshot_subscriptions";
    const QUEUE: Queue = Queue::Maintenance;

    fn tenant_id(&self) -> Option<TenantId> {
        None
    }

    // None joins another: that one may be half way, and what it has written would stay as it was.
    fn lock_key(&self) -> Option<String> {
        Some(Self::KIND.to_owned())
    }
}

/// Makes somebody a member of a partner's team, with a link for those who have no account yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InvitePartnerMember {
    /// Which partner.
    pub partner_id: PartnerId,
    /// Which invitation.
    pub invitation_id: InvitationId,
}

/// Brings a partner's group to who works for it now, and counts their MFA devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SyncPartnerTeam {
    /// Which partner.
    pub partner_id: PartnerId,
}

macro_rules! partner_job {
    ($args:ident, $kind:literal, joins: |$this:ident| $joins:expr) => {
        impl JobArgs for $args {
            const KIND: &'static str = $kind;

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

partner_job!(InvitePartnerMember, "invite_partner_member", joins: |this| this.invitation_id);
partner_job!(SyncPartnerTeam, "sync_partner_team", joins: |this| this.partner_id);

macro_rules! tenant_job {
    ($args:ident, $kind:literal, joins: |$this:ident| $joins:expr) => {
        impl JobArgs for $args {
            const KIND: &'static str = $kind;

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

tenant_job!(ProvisionTenant, "provision_tenant", joins: |_this| true);
tenant_job!(ReconcileTenant, "reconcile_tenant", joins: |this| !this.dry_run);
tenant_job!(SuspendTenant, "suspend_tenant", joins: |_this| true);
tenant_job!(ResumeTenant, "resume_tenant", joins: |_this| true);
// A purge has an instant of its own, and must not be pulled forward by another.
tenant_job!(DeprovisionTenant, "deprovision_tenant", joins: |_this| false);

impl JobArgs for ReconcileTenants {
    const KIND: &'static str = "reconcile_tenants";
    const QUEUE: Queue = Queue::Maintenance;

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

impl JobArgs for TrimAudit {
    const KIND: &'static str = "trim_audit";
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The stored form outlives a deploy: a change here is a change to documents that already wait.
    #[test]
    fn the_stored_form_of_every_kind_is_this() {
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
