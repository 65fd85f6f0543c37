//! Request of a payout, before or after the monthly closing creates it.

use bson::{DateTime, doc};
use dezky_shared::{
    audit::{Action, Target},
    billing::month::Month,
    billing_totals::{MonthTotals, Scope},
    id::PayoutId,
    partner::Partner,
    queue::args::{BalanceKey, ClosePayouts},
    store::{VersionedRepository as _, jobs::NewJob},
};
use http::StatusCode;
use mongodb::ClientSession;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    config::Config,
    error::{ApiError, FieldError, ProblemCode},
    extract::{Operator, Validate},
    response::ApiResponse,
    state::AppState,
    validate::{self, Validator, Violation, money},
    views::{JobLink, job_href},
    write::{Command, CommandOutput, CommandRunner, Rollback, Write},
};

/// A new payout.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = PayoutCreate)]
pub(super) struct CreateRequest {
    /// Slug of the partner.
    #[schema(min_length = 3, max_length = 40, example = "nordic")]
    partner: String,
    /// Currency (ISO 4217).
    #[schema(pattern = "^[A-Z]{3}$", example = "DKK")]
    currency: String,
    /// Month (UTC), which must be over.
    #[schema(pattern = "^[0-9]{4}-(0[1-9]|1[0-2])$", example = "2026-10")]
    month: String,
}

/// A validated new payout.
#[derive(Debug)]
pub(super) struct NewPayout {
    partner: String,
    currency: String,
    month: Month,
}

impl Validate for NewPayout {
    type Raw = CreateRequest;

    fn validate(raw: CreateRequest, _: &Config) -> Result<Self, Vec<FieldError>> {
        let mut validator = Validator::default();
        let partner = validator.check("/partner", validate::slug(&raw.partner, &[]));
        let currency = validator.check("/currency", money::currency(&raw.currency));
        let month = validator.check("/month", month(&raw.month));
        validator.build(|| {
            Some(Self {
                partner: partner?,
                currency: currency?,
                month: month?,
            })
        })
    }
}

fn month(text: &str) -> Result<Month, Violation> {
    text.parse()
        .map_err(|_| ("invalid", "Must be a month such as 2026-10.".to_owned()))
}

/// A requested payout.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PayoutRequest)]
struct RequestView {
    /// The job that creates the payout.
    job: JobLink,
}

/// Creates the payout of a partner for a month, in one currency
///
/// As the schedule `payout_run` does for all partners on the 5th of the next month: it settles the ledger entries that
/// were recorded by the end of the month. Moves no money.
#[utoipa::path(
    post, path = "/payouts", operation_id = "createPayout", tag = "partners",
    request_body = CreateRequest,
    responses((status = 202, body = RequestView)),
)]
pub(super) async fn create(w: Write<Operator, NewPayout>) -> Result<ApiResponse, ApiError> {
    let request = Request {
        partner: find_partner(&w.app, &w.body.partner).await?,
        new: &w.body,
    };
    w.run(&request).await
}

async fn find_partner(app: &AppState, slug: &str) -> Result<Partner, ApiError> {
    let found = app.db.partners.find_by_slug(slug).await?;
    found.ok_or_else(|| {
        let message = "The partner does not exist.";
        ApiError::invalid(vec![FieldError::at("/partner", "unknown_partner", message)])
    })
}

struct Request<'a> {
    partner: Partner,
    new: &'a NewPayout,
}

impl Request<'_> {
    /// Rejects a payout of a month that is not over, one that exists, and one over nothing.
    async fn ensure_owed(
        &self,
        session: &mut ClientSession,
        app: &AppState,
    ) -> Result<(), Rollback> {
        let (partner_id, currency) = (self.partner.id, self.new.currency.as_str());
        let before: DateTime = self.new.month.end();
        if before > app.store.now() {
            let message = "Must be a month that is over.";
            let error = FieldError::at("/month", "in_future", message);
            return Err(ApiError::invalid(vec![error]).into());
        }
        let payout_id = PayoutId::deterministic(partner_id, currency, before);
        let known = app.db.payouts.find_in_transaction(session, payout_id);
        if known.await?.is_some() {
            return Err(ProblemCode::PayoutExists.into());
        }
        if self.owed_minor(session, app).await? <= 0 {
            return Err(ProblemCode::NothingToPay.into());
        }
        Ok(())
    }

    /// The amount owed at the end of the month: that owed now, less what was recorded since. It is derived from sums, since
    /// the entries may be a million.
    async fn owed_minor(
        &self,
        session: &mut ClientSession,
        app: &AppState,
    ) -> Result<i64, Rollback> {
        let (partner_id, currency) = (self.partner.id, self.new.currency.as_str());
        let ledger = &app.db.ledger;
        let balance = ledger.find_balance(session, partner_id, currency).await?;
        let unsettled = balance.map_or(0, |balance| balance.unsettled_minor);
        let (next, current) = (self.new.month.next(), Month::of(app.store.now()));
        let since = app
            .db
            .billing_totals
            .list(Scope::Partner(partner_id), next, current);
        let since = since.await?;
        let since = since.iter().filter(|totals| totals.currency == currency);
        Ok(unsettled - since.map(MonthTotals::partner_share_minor).sum::<i64>())
    }
}

impl Command for Request<'_> {
    async fn run(
        &self,
        session: &mut ClientSession,
        runner: &CommandRunner<'_>,
    ) -> Result<CommandOutput, Rollback> {
        self.ensure_owed(session, runner.app).await?;
        let (partner, new, now) = (&self.partner, self.new, runner.app.store.now());
        let args = ClosePayouts {
            month: new.month,
            dry_run: false,
            only: Some(BalanceKey {
                partner_id: partner.id,
                currency: new.currency.clone(),
            }),
        };
        let job = NewJob::new(&args, &runner.actor_id(), now)?;
        let job = runner.enqueue(session, job).await?;
        let target = Target::new("partner", partner.id, &partner.slug);
        let mut event = runner.event(now, Action::PayoutRequest, target, None);
        event.after = doc! { "currency": &new.currency, "month": new.month.to_string() };
        let view = RequestView {
            job: JobLink::from(&job),
        };
        let response = ApiResponse::unversioned(StatusCode::ACCEPTED, &view).at(job_href(job.id));
        Ok(CommandOutput::complete(response, event).with_jobs(vec![job]))
    }
}
