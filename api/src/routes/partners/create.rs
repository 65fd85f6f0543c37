//! A new partner.

use axum::extract::State;
use bson::{DateTime, Document};
use dezky_shared::{
    audit::Action,
    billing::BillingInfo,
    id::PartnerId,
    partner::{Branding, ContactInfo, Partner, PartnerStatus},
    store::TransactionError,
};
use futures::{FutureExt as _, future::BoxFuture};
use http::StatusCode;
use mongodb::ClientSession;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    PartnerView, Patch, PatchRequest,
    change::{audited, target},
};
use crate::{
    error::{ApiError, FieldError, Problem},
    extract::{ETag, Object, Operator, QueryParams, RequestInfo, Validate, ValidatedJson},
    intent::{ApiResponse, Command, CommandError, CommandOutput, CommandRunner, reject},
    state::{AppState, SharedState},
    validate::{
        self, FieldPatch, Validator, double_option,
        partner::{BillingRequest, ContactRequest},
    },
};

/// The partner that is to be added.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = NewPartner)]
pub(super) struct CreateRequest {
    /// Its name in URLs: for ever, and never used again. Partners and tenants may have the same.
    #[schema(pattern = "^[a-z][a-z0-9-]{1,38}[a-z0-9]$", example = "nordic-it")]
    slug: String,
    /// Its name for people.
    #[schema(min_length = 1, max_length = 120, example = "Nordic IT A/S")]
    name: String,
    /// Its own domain.
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "nordic-it.dk")]
    domain: FieldPatch<String>,
    /// Its share of what its customers pay, in percent with at most two decimals: 0 unless said otherwise.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = f64, minimum = 0, maximum = 100, example = 12.5)]
    margin_pct: Option<f64>,
    /// Whom to talk to there.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = ContactRequest)]
    contact_info: Option<Object<ContactRequest>>,
    /// Where it is billed.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = BillingRequest)]
    billing_info: Option<Object<BillingRequest>>,
    /// Where its customers find help: an address.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = "email", max_length = 254)]
    support_email: FieldPatch<String>,
    /// Where its customers find help: a page, https only.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = "uri", max_length = 2048)]
    support_url: FieldPatch<String>,
    /// What a new customer gets where no plan is given: `starter`, `business` or `enterprise`.
    #[serde(default)]
    #[schema(value_type = Option<String>, pattern = "^(starter|business|enterprise)$")]
    default_plan: FieldPatch<String>,
}

/// A partner to be added.
#[derive(Debug)]
pub(super) struct NewPartner {
    slug: String,
    /// What is known about it.
    fields: Patch,
}

impl Validate for NewPartner {
    type Raw = CreateRequest;

    fn validate(wire: CreateRequest, app: &AppState) -> Result<Self, Vec<FieldError>> {
        let mut checks = Validator::default();
        let slug = checks.check("/slug", validate::slug(&wire.slug, &app.admin_groups));
        let fields = PatchRequest {
            name: Some(wire.name),
            domain: wire.domain,
            status: None,
            margin_pct: wire.margin_pct,
            contact_info: wire.contact_info,
            billing_info: wire
                .billing_info
                .map(|Object(billing)| Object(billing.of_new())),
            support_email: wire.support_email,
            support_url: wire.support_url,
            default_plan: wire.default_plan,
        };
        let fields = Patch::check(&mut checks, fields, app);
        checks.finish(slug.map(|slug| Self { slug, fields }))
    }
}

impl NewPartner {
    fn partner(&self, id: PartnerId, now: DateTime) -> Result<Partner, ApiError> {
        let mut partner = Partner {
            id,
            slug: self.slug.clone(),
            name: String::new(),
            domain: None,
            status: PartnerStatus::Active,
            margin_basis_points: 0,
            contact_info: ContactInfo::default(),
            billing_info: BillingInfo::default(),
            support_email: None,
            support_url: None,
            default_plan: None,
            branding: Branding::default(),
            authentik_group_id: None,
            revision: 1,
            created_at: now,
            updated_at: now,
        };
        self.fields.apply(&mut partner)?;
        Ok(partner)
    }
}

/// Adds a partner
#[utoipa::path(
    post, path = "/partners", operation_id = "createPartner", tag = "partners", request_body = CreateRequest,
    params(("Idempotency-Key" = Option<String>, Header)),
    responses((status = 201, body = PartnerView), (status = "default", response = Problem)),
)]
pub(super) async fn create(
    Operator(caller): Operator,
    _: QueryParams<()>,
    State(app): State<SharedState>,
    request: RequestInfo,
    submitted: ValidatedJson<NewPartner>,
) -> Result<ApiResponse, ApiError> {
    let recorder = CommandRunner::new(&app, &caller, &request, submitted.key.as_ref());
    let create = Create {
        id: PartnerId::new(),
        new: &submitted.body,
    };
    Ok(recorder.record(&create).await?.answer)
}

struct Create<'a> {
    id: PartnerId,
    new: &'a NewPartner,
}

impl Command for Create<'_> {
    fn record<'s>(
        &'s self,
        session: &'s mut ClientSession,
        recorder: &'s CommandRunner<'_>,
    ) -> BoxFuture<'s, Result<CommandOutput, TransactionError<CommandError>>> {
        async move {
            let app = recorder.app;
            let now = app.store.now();
            let partner = self.new.partner(self.id, now).map_err(reject)?;
            app.partners.insert(session, &partner).await?;
            let event = recorder
                .event(now, Action::PartnerCreate, target(&partner), None)
                .with_changes(&Document::new(), &audited(&partner)?);
            let (etag, href) = (ETag::from(&partner), format!("/partners/{}", partner.slug));
            let answer = ApiResponse::new(StatusCode::CREATED, etag, &PartnerView::from(partner));
            Ok(CommandOutput {
                answer: answer.map_err(reject)?.at(href),
                jobs: Vec::new(),
                changed: Vec::new(),
                events: vec![event],
            })
        }
        .boxed()
    }
}
