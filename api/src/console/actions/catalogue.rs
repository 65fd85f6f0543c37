//! The actions of the console.

use dezky_shared::user::PlatformRole;

/// An action on a resource, named as its route is.
#[derive(Debug)]
pub(in crate::console) struct Action {
    pub(in crate::console) resource: &'static str,
    pub(in crate::console) name: &'static str,
    /// The least role that has it.
    pub(in crate::console) least_role: PlatformRole,
    /// Sentence that the operator confirms. `None` if the action is harmless.
    pub(in crate::console) warning: Option<&'static str>,
    /// Label of the button that confirms it.
    pub(in crate::console) label: &'static str,
    /// Sentence that the page shows afterwards.
    done: &'static str,
    /// Name of that sentence in the address of the page.
    notice: &'static str,
}

static ACTIONS: [Action; 32] = [
    Action {
        resource: "jobs",
        name: "requeue",
        least_role: PlatformRole::Support,
        warning: None,
        label: "Requeue",
        done: "The job was requeued.",
        notice: "job-requeued",
    },
    Action {
        resource: "jobs",
        name: "cancel",
        least_role: PlatformRole::Admin,
        warning: Some(
            "A waiting job ends at once, a running one after its current step. Steps that are done stay done.",
        ),
        label: "Cancel the job",
        done: "The job was cancelled, or will be after its current step.",
        notice: "job-cancelled",
    },
    Action {
        resource: "jobs",
        name: "dismiss",
        least_role: PlatformRole::Admin,
        warning: Some(
            "Bulk operations no longer select a dismissed job. Its error stays to be repaired by other means.",
        ),
        label: "Dismiss the job",
        done: "The job was dismissed.",
        notice: "job-dismissed",
    },
    Action {
        resource: "queues",
        name: "pause",
        least_role: PlatformRole::Admin,
        warning: Some(
            "Workers claim no more jobs of this queue until it is resumed or the pause ends.",
        ),
        label: "Pause the queue",
        done: "The queue is paused.",
        notice: "queue-paused",
    },
    Action {
        resource: "queues",
        name: "resume",
        least_role: PlatformRole::Admin,
        warning: None,
        label: "Resume the queue",
        done: "The queue is resumed.",
        notice: "queue-resumed",
    },
    Action {
        resource: "upstreams",
        name: "pause",
        least_role: PlatformRole::Admin,
        warning: Some(
            "No step calls this upstream until it is resumed or the pause ends. Changes of tenants wait.",
        ),
        label: "Pause the upstream",
        done: "The upstream is paused.",
        notice: "upstream-paused",
    },
    Action {
        resource: "upstreams",
        name: "resume",
        least_role: PlatformRole::Admin,
        warning: None,
        label: "Resume the upstream",
        done: "The upstream is resumed. Jobs that waited for it are released gradually.",
        notice: "upstream-resumed",
    },
    Action {
        resource: "schedules",
        name: "run",
        least_role: PlatformRole::Admin,
        warning: None,
        label: "Run",
        done: "The run has started.",
        notice: "schedule-run",
    },
    Action {
        resource: "tenants",
        name: "reconcile",
        least_role: PlatformRole::Admin,
        warning: None,
        label: "Reconcile",
        done: "The tenant is being compared with the upstreams.",
        notice: "tenant-reconciled",
    },
    Action {
        resource: "tenants",
        name: "suspend",
        least_role: PlatformRole::Admin,
        warning: Some(
            "The people of the tenant cannot sign in until it is resumed. No data is removed.",
        ),
        label: "Suspend the tenant",
        done: "The tenant is being suspended.",
        notice: "tenant-suspended",
    },
    Action {
        resource: "tenants",
        name: "resume",
        least_role: PlatformRole::Admin,
        warning: None,
        label: "Resume the tenant",
        done: "The tenant is being resumed.",
        notice: "tenant-resumed",
    },
    Action {
        resource: "tenants",
        name: "restore",
        least_role: PlatformRole::Admin,
        warning: None,
        label: "Restore the tenant",
        done: "The tenant is being restored.",
        notice: "tenant-restored",
    },
    Action {
        resource: "tenants",
        name: "invoice",
        least_role: PlatformRole::Admin,
        warning: Some(
            "The due periods of the tenant's subscription are invoiced. A dry run reports the invoices only.",
        ),
        label: "Invoice the due periods",
        done: "The invoice run of the tenant has started.",
        notice: "tenant-invoiced",
    },
    Action {
        resource: "invoices",
        name: "mark-paid",
        least_role: PlatformRole::Admin,
        warning: Some("The invoice counts as paid, and its partner's share is credited."),
        label: "Mark the invoice as paid",
        done: "The invoice is paid, or will be once the payment provider knows.",
        notice: "invoice-paid",
    },
    Action {
        resource: "invoices",
        name: "void",
        least_role: PlatformRole::Admin,
        warning: Some("The invoice keeps its number. Its period is not invoiced again by itself."),
        label: "Void the invoice",
        done: "The invoice is void, or will be once the payment provider knows.",
        notice: "invoice-voided",
    },
    Action {
        resource: "payouts",
        name: "mark-paid",
        least_role: PlatformRole::Admin,
        warning: Some("The payout counts as paid. No money is moved."),
        label: "Mark the payout as paid",
        done: "The payout is paid.",
        notice: "payout-paid",
    },
    Action {
        resource: "payouts",
        name: "cancel",
        least_role: PlatformRole::Admin,
        warning: Some("The amount is owed again. The payout of a later month settles it."),
        label: "Cancel the payout",
        done: "The payout is cancelled.",
        notice: "payout-cancelled",
    },
    Action {
        resource: "partners",
        name: "create",
        least_role: PlatformRole::Admin,
        warning: None,
        label: "Create the partner",
        done: "The partner is created.",
        notice: "partner-created",
    },
    Action {
        resource: "partners",
        name: "update",
        least_role: PlatformRole::Admin,
        warning: None,
        label: "Save the terms",
        done: "The terms of the partner are saved.",
        notice: "partner-updated",
    },
    Action {
        resource: "partners",
        name: "contact",
        least_role: PlatformRole::Admin,
        warning: None,
        label: "Save the contact",
        done: "The contact person of the partner is saved.",
        notice: "partner-contact-saved",
    },
    Action {
        resource: "partners",
        name: "terminate",
        least_role: PlatformRole::Admin,
        warning: Some("Its team loses access at once. Its tenants stay as they are."),
        label: "Terminate the partner",
        done: "The partner is terminated.",
        notice: "partner-terminated",
    },
    Action {
        resource: "partners",
        name: "restore",
        least_role: PlatformRole::Admin,
        warning: None,
        label: "Restore the partner",
        done: "The partner and its team are restored.",
        notice: "partner-restored",
    },
    Action {
        resource: "partners",
        name: "payout",
        least_role: PlatformRole::Admin,
        warning: Some("The amount owed for the month is settled in a payout. No money is moved."),
        label: "Create the payout",
        done: "The payout is being created.",
        notice: "payout-requested",
    },
    Action {
        resource: "partners",
        name: "adjust",
        least_role: PlatformRole::Admin,
        warning: Some(
            "The amount is added to the balance of the partner. A later amount can take it back.",
        ),
        label: "Write the amount to the ledger",
        done: "The amount is in the ledger of the partner.",
        notice: "partner-adjusted",
    },
    Action {
        resource: "flags",
        name: "create",
        least_role: PlatformRole::Admin,
        warning: None,
        label: "Create the flag",
        done: "The flag is created. It takes effect within five seconds.",
        notice: "flag-created",
    },
    Action {
        resource: "flags",
        name: "default",
        least_role: PlatformRole::Admin,
        warning: None,
        label: "Change the default",
        done: "The default is changed. It takes effect within five seconds.",
        notice: "flag-default-changed",
    },
    Action {
        resource: "flags",
        name: "add-rule",
        least_role: PlatformRole::Admin,
        warning: None,
        label: "Add the rule",
        done: "The rule is added. It takes effect within five seconds.",
        notice: "flag-rule-added",
    },
    Action {
        resource: "flags",
        name: "move-rule",
        least_role: PlatformRole::Admin,
        warning: None,
        label: "Move the rule up",
        done: "The rule comes one place earlier. It takes effect within five seconds.",
        notice: "flag-rule-moved",
    },
    Action {
        resource: "flags",
        name: "remove-rule",
        least_role: PlatformRole::Admin,
        warning: Some(
            "The rule no longer decides. The value of its tenants may change within five seconds.",
        ),
        label: "Remove the rule",
        done: "The rule is removed.",
        notice: "flag-rule-removed",
    },
    Action {
        resource: "flags",
        name: "kill",
        least_role: PlatformRole::Admin,
        warning: Some(
            "The flag is off for every tenant within five seconds, regardless of its rules.",
        ),
        label: "Turn the flag off for everyone",
        done: "The kill switch is on: the flag is off for every tenant.",
        notice: "flag-killed",
    },
    Action {
        resource: "flags",
        name: "revive",
        least_role: PlatformRole::Admin,
        warning: None,
        label: "Lift the kill switch",
        done: "The kill switch is off: rules and default decide again.",
        notice: "flag-revived",
    },
    Action {
        resource: "flags",
        name: "delete",
        least_role: PlatformRole::Admin,
        warning: Some("A deleted flag is off for every tenant. Its rules are lost."),
        label: "Delete the flag",
        done: "The flag is deleted.",
        notice: "flag-deleted",
    },
];

impl Action {
    /// Whether the operator has to confirm it first.
    pub(in crate::console) fn needs_confirmation(&self, is_confirmed: bool) -> bool {
        self.warning.is_some() && !is_confirmed
    }

    /// Name of the sentence that the next page shows.
    pub(in crate::console) fn notice_name(&self) -> &'static str {
        self.notice
    }
}

/// The action of a resource with this name.
pub(in crate::console) fn find(resource: &str, name: &str) -> Option<&'static Action> {
    let mut actions = ACTIONS.iter();
    actions.find(|action| action.resource == resource && action.name == name)
}

/// The sentence with this name, from the address of a page.
pub(in crate::console) fn notice(name: &str) -> Option<&'static str> {
    let mut actions = ACTIONS.iter();
    let found = actions.find(|action| action.notice == name);
    found.map(|action| action.done)
}
