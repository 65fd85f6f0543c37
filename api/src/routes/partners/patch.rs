//! Fields of a partner that operators, and in part its team, change.

use dezky_shared::{
    billing::Plan,
    partner::{Partner, PartnerStatus},
};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::{
    config::Config,
    error::{ApiError, FieldError},
    extract::{Object, Validate},
    validate::{
        self, EnumName, FieldPatch, Validator, double_option,
        partner::{BillingEdit, BillingRequest, ContactEdit, ContactRequest, margin},
        url::https_url,
    },
};

/// Fields to change. Missing fields stay; null removes.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = PartnerPatch)]
pub(in crate::routes) struct PatchRequest {
    /// Display name.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = String, min_length = 1, max_length = 120)]
    pub(super) name: Option<String>,
    /// Domain.
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "nordic-it.dk")]
    pub(super) domain: FieldPatch<String>,
    /// `active` restores a terminated partner and its team. For operators.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = RestoredStatus)]
    pub(super) status: Option<String>,
    /// Margin on customer payments, in percent with at most two decimals. For operators.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = f64, minimum = 0, maximum = 100, example = 12.5)]
    pub(super) margin_pct: Option<f64>,
    /// Contact person.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = ContactRequest)]
    pub(super) contact_info: Option<Object<ContactRequest>>,
    /// Billing details.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = BillingRequest)]
    pub(super) billing_info: Option<Object<BillingRequest>>,
    /// Support e-mail address.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = "email", max_length = 254)]
    pub(super) support_email: FieldPatch<String>,
    /// Support page (https).
    #[serde(default)]
    #[schema(value_type = Option<String>, format = "uri", max_length = 2048)]
    pub(super) support_url: FieldPatch<String>,
    /// Default plan of new tenants: `starter`, `business` or `enterprise`.
    #[serde(default)]
    #[schema(value_type = Option<Plan>)]
    pub(super) default_plan: FieldPatch<String>,
}

/// Validated fields to change.
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

    fn validate(raw: PatchRequest, config: &Config) -> Result<Self, Vec<FieldError>> {
        let mut validator = Validator::default();
        let patch = Self::check(&mut validator, raw, config);
        validator.finish(Some(patch))
    }
}

impl Patch {
    /// Validates the fields.
    pub(super) fn check(validator: &mut Validator, raw: PatchRequest, config: &Config) -> Self {
        let Object(contact) = raw.contact_info.unwrap_or_default();
        let Object(billing) = raw.billing_info.unwrap_or_default();
        Self {
            name: raw
                .name
                .and_then(|name| validator.check("/name", validate::name(&name))),
            domain: raw.domain.check(validator, "/domain", |text| {
                validate::domain(&config.domain_names, &text)
            }),
            status: raw
                .status
                .and_then(|text| validator.check("/status", restored_status(&text))),
            margin_basis_points: raw
                .margin_pct
                .and_then(|percent| validator.check("/marginPct", margin(percent))),
            contact_info: ContactEdit::check(validator, contact),
            billing_info: BillingEdit::check(validator, billing),
            support_email: raw
                .support_email
                .check(validator, "/supportEmail", |text| validate::email(&text)),
            support_url: raw
                .support_url
                .check(validator, "/supportUrl", |text| https_url(&text)),
            default_plan: raw
                .default_plan
                .check(validator, "/defaultPlan", |text| validate::plan(&text)),
        }
    }

    /// Whether it changes a field that only operators may change.
    pub(in crate::routes) fn is_for_operators(&self) -> bool {
        self.status.is_some() || self.margin_basis_points.is_some()
    }

    /// Patches `partner`.
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

/// The only status that can be set; deletion terminates a partner.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = PartnerStatusUpdate)]
enum RestoredStatus {
    /// Restores a terminated partner.
    Active,
}

fn restored_status(text: &str) -> Result<PartnerStatus, (&'static str, String)> {
    match text.parse() {
        Ok(EnumName(RestoredStatus::Active)) => Ok(PartnerStatus::Active),
        Err(_) => Err((
            "invalid_status",
            "This must be active. To terminate a partner, delete it.".to_owned(),
        )),
    }
}
