//! Payment and cancellation of a pending payout.

use bson::DateTime;
use dezky_shared::{
    audit::{Action, Target},
    id::PayoutId,
    ledger::{Payout, PayoutStatus},
    queue::args::ReleasePayout,
    store::{VersionedRepository as _, jobs::NewJob},
};
use http::StatusCode;
use mongodb::ClientSession;

use super::PayoutView;
use crate::{
    error::{ApiError, ProblemCode},
    etag::ETag,
    extract::{EmptyBody, Operator, PathParam},
    response::ApiResponse,
    routes::invoices::{Payment, PaymentRequest},
    write::{Command, CommandOutput, CommandRunner, Rollback, Write, audited_fields},
};

/// Marks a pending payout as paid
///
/// Moves no money.
#[utoipa::path(
    post, path = "/payouts/{id}/mark-paid", operation_id = "markPayoutPaid", tag = "partners",
    request_body = PaymentRequest,
    responses((status = 200, body = PayoutView)),
)]
pub(super) async fn mark_paid(
    w: Write<Operator, Payment, PathParam<PayoutId>>,
) -> Result<ApiResponse, ApiError> {
    let payment = Settlement {
        id: w.params.0,
        outcome: SettlementOutcome::Payment(&w.body),
    };
    w.run(&payment).await
}

/// Cancels a pending payout
///
/// Its amount is owed again. The payout of a later month settles it: a job releases the ledger entries.
#[utoipa::path(
    post, path = "/payouts/{id}/cancel", operation_id = "cancelPayout", tag = "partners",
    responses((status = 200, body = PayoutView)),
)]
pub(super) async fn cancel(
    w: Write<Operator, EmptyBody, PathParam<PayoutId>>,
) -> Result<ApiResponse, ApiError> {
    let cancellation = Settlement {
        id: w.params.0,
        outcome: SettlementOutcome::Cancellation,
    };
    w.run(&cancellation).await
}

/// Final state that a settlement gives a pending payout.
enum SettlementOutcome<'a> {
    Payment(&'a Payment),
    Cancellation,
}

struct Settlement<'a> {
    id: PayoutId,
    outcome: SettlementOutcome<'a>,
}

impl Settlement<'_> {
    fn apply(&self, payout: &mut Payout, now: DateTime) -> Result<Action, ApiError> {
        match self.outcome {
            SettlementOutcome::Payment(payment) => {
                payout.status = PayoutStatus::Paid;
                payout.paid_at = Some(payment.paid_at(now)?);
                payout.reference = Some(payment.reference.clone());
                Ok(Action::PayoutMarkPaid)
            }
            SettlementOutcome::Cancellation => {
                payout.status = PayoutStatus::Cancelled;
                Ok(Action::PayoutCancel)
            }
        }
    }
}

impl Command for Settlement<'_> {
    async fn run(
        &self,
        session: &mut ClientSession,
        runner: &CommandRunner<'_>,
    ) -> Result<CommandOutput, Rollback> {
        let db = &runner.app.db;
        let now: DateTime = runner.app.store.now();
        let found = db.payouts.find_in_transaction(session, self.id).await?;
        let before = found.ok_or(ProblemCode::NotFound)?;
        runner.if_match.check(ETag::of_revision(before.revision))?;
        if before.status != PayoutStatus::Pending {
            return Err(ProblemCode::PayoutNotPending.into());
        }
        let mut after = before.clone();
        let action = self.apply(&mut after, now)?;
        db.payouts
            .save_changed(session, &before, &mut after, now)
            .await?;
        let mut jobs = Vec::new();
        if after.status == PayoutStatus::Cancelled {
            db.ledger.cancel_payout(session, &after).await?;
            let payout_id = self.id;
            let release = NewJob::new(&ReleasePayout { payout_id }, &runner.actor_id(), now)?;
            jobs.push(runner.enqueue(session, release).await?);
        } else {
            db.ledger.pay_out(session, &after).await?;
        }
        let target = Target::new("payout", self.id, after.month.to_string());
        let event = runner
            .event(now, action, target, None)
            .with_changes(&audited_fields(&before)?, &audited_fields(&after)?);
        let etag = ETag::of_revision(after.revision);
        let response = ApiResponse::new(StatusCode::OK, etag, &PayoutView::from(after));
        Ok(CommandOutput::complete(response, event).with_jobs(jobs))
    }
}
