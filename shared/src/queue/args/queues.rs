//! Queue of each job kind, for lists of the jobs of a queue: the index of jobs has their kinds alone.

use super::{
    ApplyAllowance, CheckSpaces, ClosePayouts, CreateSetupIntent, DeprovisionTenant,
    FetchStripeEvents, ImportMembers, InvitePartnerMember, InvoiceSubscription, IssueInvoice,
    LookUpMfa, MeasureAllStorage, MeasureStorage, MirrorStripeObject, ProvisionApp,
    ProvisionDomain, ProvisionMember, ProvisionTenant, RecheckDomain, RecheckDueDomains,
    ReconcileTenant, ReconcileTenants, ReleasePayout, RemoveApp, RemoveDomain, RemoveMember,
    ResetMemberPassword, ResetMfa, ResumeMember, ResumeTenant, RotateAppSecret, RunInvoices,
    RunJobOperation, SetDefaultCard, SetDmarc, SettleInvoice, SignOutMember, SnapshotSubscriptions,
    SummarizeMonths, SuspendMember, SuspendTenant, SweepBilling, SyncBilling, SyncPartnerTeam,
    TrimAudit, VoidInvoice,
};
use crate::queue::job::{JobArgs, Queue};

/// The kinds with their queues. A kind does not move to another queue: a list would leave out its stored jobs.
const QUEUES: [(&str, Queue); 46] = [
    queue::<ProvisionTenant>(),
    queue::<ReconcileTenant>(),
    queue::<SuspendTenant>(),
    queue::<ResumeTenant>(),
    queue::<DeprovisionTenant>(),
    queue::<ReconcileTenants>(),
    queue::<SnapshotSubscriptions>(),
    queue::<SummarizeMonths>(),
    queue::<RunJobOperation>(),
    queue::<ProvisionDomain>(),
    queue::<SetDmarc>(),
    queue::<RemoveDomain>(),
    queue::<RecheckDomain>(),
    queue::<RecheckDueDomains>(),
    queue::<ProvisionApp>(),
    queue::<RotateAppSecret>(),
    queue::<RemoveApp>(),
    queue::<ProvisionMember>(),
    queue::<SuspendMember>(),
    queue::<ResumeMember>(),
    queue::<RemoveMember>(),
    queue::<SignOutMember>(),
    queue::<ResetMemberPassword>(),
    queue::<ImportMembers>(),
    queue::<InvitePartnerMember>(),
    queue::<SyncPartnerTeam>(),
    queue::<TrimAudit>(),
    queue::<CheckSpaces>(),
    queue::<ApplyAllowance>(),
    queue::<MeasureStorage>(),
    queue::<MeasureAllStorage>(),
    queue::<RunInvoices>(),
    queue::<InvoiceSubscription>(),
    queue::<ClosePayouts>(),
    queue::<ReleasePayout>(),
    queue::<SyncBilling>(),
    queue::<SweepBilling>(),
    queue::<IssueInvoice>(),
    queue::<VoidInvoice>(),
    queue::<SettleInvoice>(),
    queue::<CreateSetupIntent>(),
    queue::<SetDefaultCard>(),
    queue::<MirrorStripeObject>(),
    queue::<FetchStripeEvents>(),
    queue::<LookUpMfa>(),
    queue::<ResetMfa>(),
];

/// A kind with its queue.
const fn queue<A: JobArgs>() -> (&'static str, Queue) {
    (A::KIND, A::QUEUE)
}

/// The queue of the jobs of a kind; `None` if this build does not know the kind.
pub fn queue_of(kind: &str) -> Option<Queue> {
    let mut kinds = QUEUES.into_iter();
    let (_, queue) = kinds.find(|(known, _)| *known == kind)?;
    Some(queue)
}

/// The kinds of all other queues. A kind that only a newer build knows may be of any queue, and is not among them.
pub(crate) fn kinds_of_others(queue: Queue) -> Vec<&'static str> {
    let others = QUEUES.into_iter().filter(|(_, other)| *other != queue);
    others.map(|(kind, _)| kind).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_kind_has_one_queue() {
        let kinds: BTreeSet<&str> = QUEUES.into_iter().map(|(kind, _)| kind).collect();

        assert_eq!(kinds.len(), QUEUES.len());
        assert_eq!(queue_of("recheck_domain"), Some(Queue::Dns));
        assert_eq!(queue_of("trim_audit"), Some(Queue::Maintenance));
        assert_eq!(queue_of("of_the_next_release"), None);
        let others = kinds_of_others(Queue::Dns);
        assert_eq!(others.len(), QUEUES.len() - 1);
        assert!(!others.contains(&"recheck_domain"));
    }
}
