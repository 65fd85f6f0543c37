//! Billing details of a tenant.

use dezky_shared::{audit::Action, billing::BillingInfo, tenant::Tenant};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{change, respond};
use crate::{
    config::Config,
    error::{ApiError, FieldError},
    extract::{ReadBilling, ReadWrite, TenantAccess, Validate},
    response::ApiResponse,
    validate::{self, FieldPatch, Validator, billing},
    views::JobLink,
    write::Write,
};

/// Billing details of a tenant.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = TenantBillingInfo)]
pub(in crate::routes::tenants) struct BillingInfoView {
    /// Company.
    #[serde(skip_serializing_if = "Option::is_none")]
    company: Option<String>,
    /// VAT id, with country prefix, without spaces, dots and hyphens.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "DK13585628")]
    vat_id: Option<String>,
    /// Country (ISO 3166-1 alpha-2).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[A-Z]{2}$", example = "DK")]
    country: Option<String>,
    /// E-mail address for invoices.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = Email)]
    email: Option<String>,
    /// Job that brings a change to the payment provider. Only in the answer to the change.
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<JobLink>,
}

impl BillingInfoView {
    /// The billing details of `tenant`.
    pub(in crate::routes::tenants) fn of(tenant: &Tenant) -> Self {
        let info = tenant.billing_info.clone();
        Self {
            company: info.company,
            vat_id: info.vat_id,
            country: info.country,
            email: info.email,
            job: None,
        }
    }
}

/// Fields to change. Missing fields stay; null removes.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = TenantBillingInfoPatch)]
pub(super) struct PatchRequest {
    /// Company.
    #[serde(default)]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 120)]
    company: FieldPatch<String>,
    /// VAT id, with country prefix (Greece: EL or GR, Northern Ireland: XI). The format is validated for EU members, GB,
    /// NO (with or without the suffix MVA) and CH; elsewhere it is 4 to 20 letters and digits.
    #[serde(default)]
    #[schema(value_type = Option<String>, max_length = 40, example = "DK 13 58 56 28")]
    vat_id: FieldPatch<String>,
    /// Country (ISO 3166-1 alpha-2).
    #[serde(default)]
    #[schema(value_type = Option<String>, pattern = "^[A-Za-z]{2}$", example = "DK")]
    country: FieldPatch<String>,
    /// E-mail address for invoices.
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "invoices@example.com")]
    email: FieldPatch<String>,
}

/// A validated patch.
#[derive(Debug)]
pub(super) struct Patch {
    company: FieldPatch<String>,
    vat_id: FieldPatch<String>,
    country: FieldPatch<String>,
    email: FieldPatch<String>,
    /// Errors of the body alone, reported together with errors that depend on stored data.
    errors: Vec<FieldError>,
}

impl Validate for Patch {
    type Raw = PatchRequest;

    fn validate(raw: PatchRequest, _: &Config) -> Result<Self, Vec<FieldError>> {
        let mut validator = Validator::default();
        let company = raw
            .company
            .check(&mut validator, "/company", |text| validate::name(&text));
        let country = raw
            .country
            .check(&mut validator, "/country", |text| billing::country(&text));
        let of_country = country.value().map(String::as_str);
        let vat_id = raw.vat_id.check(&mut validator, "/vatId", |text| {
            billing::vat_id(of_country, &text)
        });
        let email = raw
            .email
            .check(&mut validator, "/email", |text| validate::email(&text));
        Ok(Self {
            company,
            vat_id,
            country,
            email,
            errors: validator.into_errors(),
        })
    }
}

impl Patch {
    fn apply(&self, info: &mut BillingInfo) -> Result<(), ApiError> {
        self.company.apply(&mut info.company);
        self.vat_id.apply(&mut info.vat_id);
        self.country.apply(&mut info.country);
        self.email.apply(&mut info.email);
        let mut errors = self.errors.clone();
        errors.extend(self.vat_id_error(info));
        if errors.is_empty() {
            Ok(())
        } else {
            Err(ApiError::invalid(errors))
        }
    }

    /// The error of a VAT id that does not match the country. Either may have been stored before.
    fn vat_id_error(&self, info: &BillingInfo) -> Option<FieldError> {
        let vat_id = info.vat_id.as_ref()?;
        let pointer = match (&self.vat_id, &self.country) {
            (FieldPatch::Keep, FieldPatch::Keep) => return None,
            (FieldPatch::Keep, _) => "/country",
            _ => "/vatId",
        };
        let is_reported = |error: &FieldError| error.pointer.as_deref() == Some(pointer);
        if self.errors.iter().any(is_reported) {
            return None;
        }
        let (code, message) = billing::vat_id(info.country.as_deref(), vat_id).err()?;
        Some(FieldError::at(pointer, code, message))
    }
}

/// Returns the billing details of a tenant
#[utoipa::path(
    get, path = "/tenants/{slug}/billing-info", operation_id = "getTenantBillingInfo", tag = "tenants",
    responses((status = 200, body = BillingInfoView)),
)]
pub(super) async fn show(access: TenantAccess<ReadBilling>) -> Result<ApiResponse, ApiError> {
    Ok(respond(&access.tenant, BillingInfoView::of))
}

/// Updates the billing details of a tenant
///
/// The VAT id must match the country, sent or stored. With a payment provider, a `job` brings the change there.
#[utoipa::path(
    patch, path = "/tenants/{slug}/billing-info", operation_id = "updateTenantBillingInfo", tag = "tenants",
    request_body = PatchRequest,
    responses((status = 200, body = BillingInfoView)),
)]
pub(super) async fn patch(
    w: Write<TenantAccess<ReadWrite>, Patch>,
) -> Result<ApiResponse, ApiError> {
    let patch = &w.body;
    let edit = |tenant: &mut Tenant| patch.apply(&mut tenant.billing_info);
    let view = |tenant: &Tenant, job| BillingInfoView {
        job,
        ..BillingInfoView::of(tenant)
    };
    change(&w, Action::TenantBillingInfo, view, &edit).await
}
