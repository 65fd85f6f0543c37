//! Representation of a subscription.

use dezky_shared::{
    billing::{Cycle, Plan},
    queue::job::Job,
    subscription::{Biller, CollectionMethod, EndedBy, Subscription, SubscriptionStatus},
    tenant::Tenant,
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{timestamp::Timestamp, views::JobLink};

/// A subscription.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Subscription)]
pub(in crate::routes) struct SubscriptionView {
    /// Id.
    id: String,
    /// Tenant id.
    tenant_id: String,
    /// Tenant slug.
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    /// Billed plan: `starter`, `business` or `enterprise`. The tenant has the provisioned plan.
    plan: Plan,
    /// Billing cycle: `monthly`, `quarterly` or `yearly`.
    cycle: Cycle,
    /// Number of seats.
    #[schema(minimum = 1, maximum = 100_000)]
    seats: i32,
    /// Currency (ISO 4217).
    #[schema(pattern = "^[A-Z]{3}$", example = "DKK")]
    currency: String,
    /// Price per billing cycle for all seats, in minor units.
    #[schema(minimum = 0, maximum = 1_000_000_000_000_i64)]
    price_minor: i64,
    /// Whether its invoices are billed to the tenant's partner. Missing if not.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    partner_billed: bool,
    /// Collection of its invoices: `manual` (an operator marks them as paid), `send_invoice` (Stripe sends them) or
    /// `charge_automatically` (Stripe charges the card). Missing if `manual`.
    #[serde(skip_serializing_if = "CollectionMethod::is_manual")]
    collection_method: CollectionMethod,
    /// Biller of its periods: `run` (the invoice run) or `stripe` (a subscription at Stripe). Missing if `run`.
    #[serde(skip_serializing_if = "Biller::is_run")]
    biller: Biller,
    /// Status: `active`, `past_due` (live, an invoice is overdue) or `cancelled`.
    status: SubscriptionStatus,
    /// Start time.
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<Timestamp>,
    /// Start of the next billing cycle.
    #[serde(skip_serializing_if = "Option::is_none")]
    renews_at: Option<Timestamp>,
    /// End of the last invoiced period. Missing unless the subscription is invoiced here.
    #[serde(skip_serializing_if = "Option::is_none")]
    invoiced_through: Option<Timestamp>,
    /// Whether it ends with the last invoiced period. Missing if not.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    cancel_at_period_end: bool,
    /// Cancellation time.
    #[serde(skip_serializing_if = "Option::is_none")]
    cancelled_at: Option<Timestamp>,
    /// Cause of its end: `operator`, `period_end`, `tenant_terminated`, `payment_failed`, `stripe` (a person in its dashboard)
    /// or `customer_deleted`.
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_by: Option<EndedBy>,
    /// Subscription id at Stripe.
    #[serde(skip_serializing_if = "Option::is_none")]
    stripe_subscription_id: Option<String>,
    /// Price id at Stripe.
    #[serde(skip_serializing_if = "Option::is_none")]
    stripe_price_id: Option<String>,
    /// Status at Stripe, such as `active` or `incomplete`, as it was last read.
    #[serde(skip_serializing_if = "Option::is_none")]
    stripe_status: Option<String>,
    /// Incremented by every change.
    revision: i64,
    /// Creation time.
    created_at: Timestamp,
    /// Time of the last change.
    updated_at: Timestamp,
    /// The job that issues the first invoice, or brings the change to Stripe.
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<JobLink>,
}

impl SubscriptionView {
    /// The subscription, with the slug of `tenant`.
    pub(in crate::routes) fn new(subscription: Subscription, tenant: Option<&Tenant>) -> Self {
        Self {
            tenant: tenant.map(|tenant| tenant.slug.clone()),
            id: subscription.id.to_string(),
            tenant_id: subscription.tenant_id.to_string(),
            plan: subscription.plan,
            cycle: subscription.cycle,
            seats: subscription.seats,
            currency: subscription.currency,
            price_minor: subscription.price_minor,
            partner_billed: subscription.partner_billed,
            collection_method: subscription.collection_method,
            biller: subscription.biller,
            status: subscription.status,
            started_at: subscription.started_at.map(Timestamp::from),
            renews_at: subscription.renews_at.map(Timestamp::from),
            invoiced_through: subscription.invoiced_through.map(Timestamp::from),
            cancel_at_period_end: subscription.cancel_at_period_end,
            cancelled_at: subscription.cancelled_at.map(Timestamp::from),
            ended_by: subscription.ended_by,
            stripe_subscription_id: subscription.stripe_subscription_id,
            stripe_price_id: subscription.stripe_price_id,
            stripe_status: subscription.stripe_status,
            revision: subscription.revision,
            created_at: subscription.created_at.into(),
            updated_at: subscription.updated_at.into(),
            job: None,
        }
    }

    /// With the job that issues the first invoice, or brings the change to Stripe.
    pub(super) fn with_job(self, job: &Job) -> Self {
        Self {
            job: Some(JobLink::from(job)),
            ..self
        }
    }

    /// The subscription, with the slug of its tenant among `tenants`.
    pub(in crate::routes) fn among(subscription: Subscription, tenants: &[Tenant]) -> Self {
        let id = subscription.tenant_id;
        let tenant = tenants.iter().find(|tenant| tenant.id == id);
        Self::new(subscription, tenant)
    }
}
