//! Editing a partner: by operators, and in part by its staff.

use axum::extract::State;
use dezky_shared::{
    audit::Action,
    billing::Plan,
    partner::{Partner, PartnerStatus},
};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{PartnerChange, PartnerView, find};
use crate::{
    error::{ApiError, FieldError, Problem},
    extract::{
        IfMatch, Object, Operator, PathParam, QueryParams, RequestInfo, Validate, ValidatedJson,
    },
    intent::{ApiResponse, CommandRunner},
    state::{AppState, SharedState},
    validate::{
        self, FieldPatch, Validator, double_option,
        partner::{BillingEdit, BillingRequest, ContactEdit, ContactRequest, margin},
        url::https_url,
    },
};

/// The fields that are to change. What is missing stays; null removes.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = PartnerPatch)]
pub(in crate::routes) struct PatchRequest {
    /// Its name for people.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = String, min_length = 1, max_length = 120)]
    pub(super) name: Option<String>,
    /// Its own domain.
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "nordic-it.dk")]
    pub(super) domain: FieldPatch<String>,
    /// `active` brings a terminated partner back, with its staff. For operators.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = String, pattern = "^active$")]
    pub(super) status: Option<String>,
    /// Its share of what its customers pay, in percent with at most two decimals. For operators.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = f64, minimum = 0, maximum = 100, example = 12.5)]
    pub(super) margin_pct: Option<f64>,
    /// Whom to talk to there.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = ContactRequest)]
    pub(super) contact_info: Option<Object<ContactRequest>>,
    /// Where it is billed.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = BillingRequest)]
    pub(super) billing_info: Option<Object<BillingRequest>>,
    /// Where its customers find help: an address.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = "email", max_length = 254)]
    pub(super) support_email: FieldPatch<String>,
    /// Where its customers find help: a page, https only.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = "uri", max_length = 2048)]
    pub(super) support_url: FieldPatch<String>,
    /// What a new customer gets where no plan is given: `starter`, `business` or `enterprise`.
    #[serde(default)]
    #[schema(value_type = Option<String>, pattern = "^(starter|business|enterprise)$")]
    pub(super) default_plan: FieldPatch<String>,
}

/// What is to change.
#[derive(Debug)]
pub(in crate::routes) struct Patch {
    name: Option<String>,
    domain: FieldPatch<String>,
    status: Option<PartnerStatus>,
    margin_basis_points: Option<i32>,
    contact_info: ContactEdit,
    billing_info: BillingEdit,
    support_email: FieldPatch<String>,
    support_url: FieldPatch<String>,
    default_plan: FieldPatch<Plan>,
}

impl Validate for Patch {
    type Raw = PatchRequest;

    fn validate(wire: PatchRequest, app: &AppState) -> Result<Self, Vec<FieldError>> {
        let mut checks = Validator::default();
        let patch = Self::check(&mut checks, wire, app);
        checks.finish(Some(patch))
    }
}

impl Patch {
    /// Takes the values, noting what is wrong with them.
    pub(super) fn check(checks: &mut Validator, wire: PatchRequest, app: &AppState) -> Self {
        let Object(contact) = wire.contact_info.unwrap_or_default();
        let Object(billing) = wire.billing_info.unwrap_or_default();
        Self {
            name: wire
                .name
                .and_then(|name| checks.check("/name", validate::name(&name))),
            domain: wire.domain.check(checks, "/domain", |text| {
                validate::domain(&app.domain_names, &text)
            }),
            status: wire
                .status
                .and_then(|text| checks.check("/status", back(&text))),
            margin_basis_points: wire
                .margin_pct
                .and_then(|percent| checks.check("/marginPct", margin(percent))),
            contact_info: ContactEdit::check(checks, contact),
            billing_info: BillingEdit::check(checks, billing),
            support_email: wire
                .support_email
                .check(checks, "/supportEmail", |text| validate::email(&text)),
            support_url: wire
                .support_url
                .check(checks, "/supportUrl", |text| https_url(&text)),
            default_plan: wire
                .default_plan
                .check(checks, "/defaultPlan", |text| validate::plan(&text)),
        }
    }

    /// Whether it holds what staff may not change.
    pub(in crate::routes) fn is_for_operators(&self) -> bool {
        self.status.is_some() || self.margin_basis_points.is_some()
    }

    /// Edits `partner`.
    pub(in crate::routes) fn apply(&self, partner: &mut Partner) -> Result<(), ApiError> {
        if let Some(name) = &self.name {
            partner.name.clone_from(name);
        }
        if let Some(status) = self.status {
            partner.status = status;
        }
        if let Some(margin) = self.margin_basis_points {
            partner.margin_basis_points = margin;
        }
        self.domain.apply(&mut partner.domain);
        self.support_email.apply(&mut partner.support_email);
        self.support_url.apply(&mut partner.support_url);
        self.default_plan.apply(&mut partner.default_plan);
        self.contact_info.apply(&mut partner.contact_info);
        let billing = self.billing_info.apply(&mut partner.billing_info);
        billing.map_err(|(code, message)| {
            let error = FieldError::at("/billingInfo/vatId", code, message);
            ApiError::invalid(vec![error])
        })
    }
}

/// The status that can be set: a partner is terminated by deleting it.
fn back(text: &str) -> Result<PartnerStatus, (&'static str, String)> {
    match text {
        "active" => Ok(PartnerStatus::Active),
        _ => Err((
            "invalid_status",
            "Only active can be set. To terminate a partner, delete it.".to_owned(),
        )),
    }
}

/// Edits a partner
#[utoipa::path(
    patch, path = "/partners/{slug}", operation_id = "updatePartner", tag = "partners", request_body = PatchRequest,
    params(("slug" = String, Path), ("Idempotency-Key" = Option<String>, Header), ("If-Match" = Option<String>, Header)),
    responses((status = 200, body = PartnerView), (status = "default", response = Problem)),
)]
pub(super) async fn patch(
    Operator(caller): Operator,
    PathParam(slug): PathParam<String>,
    _: QueryParams<()>,
    State(app): State<SharedState>,
    request: RequestInfo,
    if_match: IfMatch,
    submitted: ValidatedJson<Patch>,
) -> Result<ApiResponse, ApiError> {
    let partner = find(&app, &slug).await?;
    let recorder = CommandRunner::new(&app, &caller, &request, submitted.key.as_ref());
    let change = PartnerChange {
        partner: &partner,
        if_match: &if_match,
        action: Action::PartnerUpdate,
        edit: &|partner| submitted.body.apply(partner),
        view: PartnerView::from,
    };
    change.record(&recorder).await
}
