//! Reporting: which jobs set the conditions of their tenant or member by the results of their steps.
//!
//! The engine asks for a job that it holds, and the end of a job from outside its handler asks for those that are still to
//! run: both answers are here.

use bson::{Document, doc};

use super::{
    args::{
        CreateSetupIntent, DeprovisionTenant, InvoiceSubscription, IssueInvoice, LookUpMfa,
        MeasureStorage, MirrorStripeObject, ProvisionDomain, RecheckDomain, RemoveDomain,
        RemoveMember, ResetMemberPassword, ResetMfa, SetDefaultCard, SetDmarc, SettleInvoice,
        SignOutMember, SyncBilling, VoidInvoice,
    },
    job::{Job, JobArgs as _, Queue},
};
use crate::id::{JobId, MemberId, TenantId};

impl Job {
    /// Whether the steps' results are reported to the tenant. Those of a dry run, of a job about a member, of billing and
    /// of webhooks are not.
    pub fn reports_to_tenant(&self) -> bool {
        self.tenant_id.is_some()
            && !self.is_dry_run()
            && self.member_id().is_none()
            && !matches!(self.queue, Queue::Billing | Queue::Webhooks)
    }
}

/// Filter of the jobs, except one, that set the conditions of all upstreams of a tenant when they run. Kinds that this build
/// does not know are included.
///
/// Of the jobs that [report to the tenant](Job::reports_to_tenant), one about a domain, app or user does not set them, nor
/// does one that measures storage, nor a scheduled purge before its time.
pub fn others_reporting_to_tenant(tenant: TenantId, except: JobId) -> Document {
    doc! {
        "tenantId": tenant,
        "_id": { "$ne": except },
        "args.dryRun": { "$ne": true },
        "args.memberId": { "$exists": false },
        "args.appId": { "$exists": false },
        "kind": { "$nin": [
            DeprovisionTenant::KIND,
            ProvisionDomain::KIND,
            SetDmarc::KIND,
            RemoveDomain::KIND,
            RecheckDomain::KIND,
            LookUpMfa::KIND,
            ResetMfa::KIND,
            MeasureStorage::KIND,
            InvoiceSubscription::KIND,
            SyncBilling::KIND,
            IssueInvoice::KIND,
            VoidInvoice::KIND,
            SettleInvoice::KIND,
            MirrorStripeObject::KIND,
            CreateSetupIntent::KIND,
            SetDefaultCard::KIND,
        ] },
    }
}

/// Filter of the jobs, except one, that set the conditions of a member when they run. A sign-out or a new password does
/// not, nor does a scheduled purge before its time.
pub fn others_reporting_to_member(tenant: TenantId, member: MemberId, except: JobId) -> Document {
    doc! {
        "tenantId": tenant,
        "_id": { "$ne": except },
        "args.memberId": member,
        "kind": { "$nin": [
            SignOutMember::KIND,
            ResetMemberPassword::KIND,
            RemoveMember::KIND,
        ] },
    }
}
