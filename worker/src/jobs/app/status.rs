//! The app's document as jobs write it: status, conditions and upstream ids, with the audit events of drift.
//!
//! An app is converged by its own jobs and by its tenant's, so the writes go through [`StepContext::fenced_transaction`]
//! instead of a step sink, which belongs to one kind of job.

use bson::{DateTime, doc};
use dezky_shared::{
    app::{
        App, AppRefs, AppStatus, BINDING_MISSING, BINDING_PRESENT, RECREATED,
        condition::{READY, RESTRICTED, SECRET_ROTATED},
    },
    audit::{Action, AuditEvent},
    queue::error_code::{ErrorCode, RetryPolicy},
    store::VersionedRepository as _,
    tenant::{ConditionStatus, DesiredState, reason},
    upstream::Upstream,
};
use futures::FutureExt as _;

use super::{converge::Outcome, event};
use crate::steps::{StepContext, StepFailure};

/// Result of a run for an app.
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, each with a name"
)]
pub(super) struct Report<'a> {
    /// The app as the run loaded it.
    app: &'a App,
    desired_state: DesiredState,
    refs: AppRefs,
    is_restricted: bool,
    is_secret_lost: bool,
    /// Whether the app has the secret that was shown last.
    pub(super) is_secret_known: bool,
    /// Whether the run is that of the app's own job.
    pub(super) is_own_job: bool,
    /// Failure of the run; `None` if the desired state is reached.
    pub(super) failure: Option<&'a StepFailure>,
    /// Changes that a reconcile made.
    pub(super) drift: &'a [String],
}

impl<'a> Report<'a> {
    /// A report of a run that has learned nothing yet.
    pub(super) fn of(app: &'a App, desired_state: DesiredState) -> Self {
        Self {
            app,
            desired_state,
            refs: app.authentik.clone(),
            is_restricted: false,
            is_secret_lost: false,
            is_secret_known: false,
            is_own_job: false,
            failure: None,
            drift: &[],
        }
    }

    /// Takes over the outcome of a convergence.
    pub(super) fn add_outcome(&mut self, outcome: &Outcome) {
        self.refs = outcome.refs.clone();
        self.is_restricted = outcome.is_restricted;
        self.is_secret_lost = outcome.is_secret_lost;
    }

    /// Writes the report into the app, as it is now.
    fn apply(&self, app: &mut App, now: DateTime) {
        app.authentik = self.refs.clone();
        if self.is_restricted {
            let message = "Only members of the workspace can sign in.";
            set(
                app,
                RESTRICTED,
                ConditionStatus::True,
                BINDING_PRESENT,
                message,
                now,
            );
        }
        if self.is_secret_lost {
            let message = "The app was created again at the sign-on service, with a new client secret. \
                           Rotate the secret to get one.";
            set(
                app,
                SECRET_ROTATED,
                ConditionStatus::True,
                RECREATED,
                message,
                now,
            );
        }
        let is_latest = app.secret_version == self.app.secret_version;
        if self.is_secret_known && is_latest {
            app.clear_condition(SECRET_ROTATED);
        }
        // Otherwise the run applied an earlier desired state.
        if app.generation == self.app.generation && app.status != AppStatus::Removing {
            self.apply_status(app, now);
        }
    }

    fn apply_status(&self, app: &mut App, now: DateTime) {
        let Some(failure) = self.failure else {
            let (status, reason, message) = reached(self.desired_state);
            app.status = status;
            set(app, READY, ConditionStatus::True, reason, message, now);
            return;
        };
        if self.is_own_job && failure.code.retry_policy() == RetryPolicy::Never {
            app.status = AppStatus::Failed;
        }
        let status = match failure.code {
            ErrorCode::UpstreamAnswerLost => ConditionStatus::Unknown,
            _ => ConditionStatus::False,
        };
        let upstream = Some(Upstream::Authentik);
        let message = failure.code.customer_text(upstream);
        let mut ready = app.new_condition(READY, status, failure.code.reason(), &message, now);
        ready.class = Some(failure.code.class());
        app.set_condition(ready);
    }

    /// The audit event of a settled app that was changed at the identity provider.
    fn drift_event(&self, run: &StepContext) -> Option<AuditEvent> {
        let (settled, ..) = reached(self.desired_state);
        let is_drift = !self.drift.is_empty() && self.app.status == settled;
        is_drift.then(|| AuditEvent {
            after: doc! { "putBack": self.drift },
            ..event(run, Action::AppDrift, self.app)
        })
    }
}

/// Stores a report, unless the app has the same state already.
pub(super) async fn record(run: &StepContext, report: &Report<'_>) -> Result<(), StepFailure> {
    let mut copy = report.app.clone();
    report.apply(&mut copy, run.ctx.store.now());
    let drift = report.drift_event(run);
    if copy == *report.app && drift.is_none() {
        return Ok(());
    }
    write(run, report.app, drift, |app, now| report.apply(app, now)).await
}

/// Stores that every user of the platform can sign in to the app, before it is repaired: its tenant is critical until
/// then.
pub(super) async fn mark_open(run: &StepContext, app: &App) -> Result<(), StepFailure> {
    if app.is_open() {
        return Ok(());
    }
    let drift = AuditEvent {
        after: doc! { "found": "application without a binding" },
        ..event(run, Action::AppDrift, app)
    };
    write(run, app, Some(drift), |app, now| {
        let message = "The restriction to members of the workspace is missing at the sign-on service. We are restoring it.";
        set(app, RESTRICTED, ConditionStatus::False, BINDING_MISSING, message, now);
    })
    .await
}

/// Edits the app as it is now, and records an event with it. An app that was deleted meanwhile stays so.
async fn write(
    run: &StepContext,
    app: &App,
    event: Option<AuditEvent>,
    edit: impl Fn(&mut App, DateTime) + Send + Sync,
) -> Result<(), StepFailure> {
    let id = app.id;
    run.fenced_transaction((run, event, edit), |session, (run, event, edit)| {
        async move {
            let now = run.ctx.store.now();
            let apps = &run.ctx.apps;
            let Some(before) = apps.find_in_transaction(session, id).await? else {
                return Ok(());
            };
            let mut after = before.clone();
            edit(&mut after, now);
            apps.save_changed(session, &before, &mut after, now).await?;
            if let Some(event) = event {
                run.ctx.audit.record(session, event).await?;
            }
            Ok(())
        }
        .boxed()
    })
    .await
}

/// Status, reason and message of an app in its desired state.
fn reached(desired_state: DesiredState) -> (AppStatus, &'static str, &'static str) {
    match desired_state {
        DesiredState::Active => (AppStatus::Active, reason::PROVISIONED, "Provisioned."),
        DesiredState::Suspended | DesiredState::Gone => (
            AppStatus::Suspended,
            reason::SUSPENDED,
            "Suspended with the workspace: sign-in is blocked.",
        ),
    }
}

fn set(
    app: &mut App,
    kind: &str,
    status: ConditionStatus,
    reason: &str,
    message: &str,
    now: DateTime,
) {
    let condition = app.new_condition(kind, status, reason, message, now);
    app.set_condition(condition);
}
