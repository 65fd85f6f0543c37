//! Where a tenant is billed.

use axum::extract::State;
use dezky_shared::{audit::Action, billing::BillingInfo, tenant::Tenant};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{SettingChange, shown};
use crate::{
    error::{ApiError, FieldError, Problem},
    extract::{IfMatch, QueryParams, RequestInfo, TenantAccess, Validate, ValidatedJson, Write},
    intent::{ApiResponse, CommandRunner},
    state::{AppState, SharedState},
    validate::{self, Validator, billing, double_option},
};

/// Where a tenant is billed.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = TenantBillingInfo)]
pub(in crate::routes::tenants) struct BillingInfoView {
    /// The company.
    #[serde(skip_serializing_if = "Option::is_none")]
    company: Option<String>,
    /// Its VAT id, with the country's prefix and without spaces, dots and hyphens.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "DK13585628")]
    vat_id: Option<String>,
    /// Its country: ISO 3166-1 alpha-2.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[A-Z]{2}$", example = "DK")]
    country: Option<String>,
    /// Where invoices go.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = Email)]
    email: Option<String>,
}

impl BillingInfoView {
    /// As `tenant` has it.
    pub(in crate::routes::tenants) fn of(tenant: &Tenant) -> Self {
        let info = tenant.billing_info.clone();
        Self {
            company: info.company,
            vat_id: info.vat_id,
            country: info.country,
            email: info.email,
        }
    }
}

/// The fields that are to change. What is missing stays; null removes.
#[expect(
    clippy::option_option,
    reason = "missing, null and a value are three things"
)]
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = TenantBillingInfoPatch)]
pub(super) struct PatchRequest {
    /// The company.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 120)]
    company: Option<Option<String>>,
    /// Its VAT id, with the prefix of its country (Greece has EL, Northern Ireland XI). It is checked for the form of
    /// the country: the members of the EU, GB, NO and CH, elsewhere anything of 4 to 20 letters and digits.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = Option<String>, max_length = 40, example = "DK 13 58 56 28")]
    vat_id: Option<Option<String>>,
    /// Its country: ISO 3166-1 alpha-2.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = Option<String>, pattern = "^[A-Za-z]{2}$", example = "DK")]
    country: Option<Option<String>>,
    /// Where invoices go.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = Option<String>, example = "invoices@example.com")]
    email: Option<Option<String>>,
}

/// What is to change.
#[expect(
    clippy::option_option,
    reason = "missing, null and a value are three things"
)]
#[derive(Debug)]
pub(super) struct Patch {
    company: Option<Option<String>>,
    vat_id: Option<Option<String>>,
    country: Option<Option<String>>,
    email: Option<Option<String>>,
    /// What is wrong with the body by itself. It is told with what is wrong beside it.
    wrong: Vec<FieldError>,
}

impl Validate for Patch {
    type Raw = PatchRequest;

    fn validate(wire: PatchRequest, _: &AppState) -> Result<Self, Vec<FieldError>> {
        let mut checks = Validator::default();
        let company = wire.company.map(|company| {
            company.and_then(|text| checks.check("/company", validate::name(&text)))
        });
        let country = wire.country.map(|country| {
            country.and_then(|text| checks.check("/country", billing::country(&text)))
        });
        let of_country = country.as_ref().and_then(Option::as_deref);
        let vat_id = wire.vat_id.map(|vat_id| {
            vat_id.and_then(|text| checks.check("/vatId", billing::vat_id(of_country, &text)))
        });
        let email = wire
            .email
            .map(|email| email.and_then(|text| checks.check("/email", validate::email(&text))));
        Ok(Self {
            company,
            vat_id,
            country,
            email,
            wrong: checks.into_errors(),
        })
    }
}

impl Patch {
    fn apply(&self, info: &mut BillingInfo) -> Result<(), ApiError> {
        let fields = [
            (&self.company, &mut info.company),
            (&self.vat_id, &mut info.vat_id),
            (&self.country, &mut info.country),
            (&self.email, &mut info.email),
        ];
        for (wanted, field) in fields {
            if let Some(wanted) = wanted {
                field.clone_from(wanted);
            }
        }
        let mut wrong = self.wrong.clone();
        wrong.extend(self.wrong_vat_id(info));
        if wrong.is_empty() {
            Ok(())
        } else {
            Err(ApiError::invalid(wrong))
        }
    }

    /// Whether the VAT id and the country do not go together. Either may have stood there before.
    fn wrong_vat_id(&self, info: &BillingInfo) -> Option<FieldError> {
        let vat_id = info.vat_id.as_ref()?;
        let pointer = match (&self.vat_id, &self.country) {
            (Some(_), _) => "/vatId",
            (None, Some(_)) => "/country",
            (None, None) => return None,
        };
        let is_told = |error: &FieldError| error.pointer.as_deref() == Some(pointer);
        if self.wrong.iter().any(is_told) {
            return None;
        }
        let (code, message) = billing::vat_id(info.country.as_deref(), vat_id).err()?;
        Some(FieldError::at(pointer, code, message))
    }
}

/// Where a tenant is billed
#[utoipa::path(
    get, path = "/tenants/{slug}/billing-info", operation_id = "getTenantBillingInfo", tag = "tenants",
    params(("slug" = String, Path)),
    responses((status = 200, body = BillingInfoView), (status = "default", response = Problem)),
)]
pub(super) async fn show(
    access: TenantAccess<Write>,
    _: QueryParams<()>,
) -> Result<ApiResponse, ApiError> {
    shown(&access.tenant, BillingInfoView::of)
}

/// Says where a tenant is billed
///
/// A VAT id must be of the country that is sent with it, or that is known already.
#[utoipa::path(
    patch, path = "/tenants/{slug}/billing-info", operation_id = "updateTenantBillingInfo", tag = "tenants",
    request_body = PatchRequest,
    params(("slug" = String, Path), ("Idempotency-Key" = Option<String>, Header), ("If-Match" = Option<String>, Header)),
    responses((status = 200, body = BillingInfoView), (status = "default", response = Problem)),
)]
pub(super) async fn patch(
    access: TenantAccess<Write>,
    _: QueryParams<()>,
    State(app): State<SharedState>,
    request: RequestInfo,
    if_match: IfMatch,
    submitted: ValidatedJson<Patch>,
) -> Result<ApiResponse, ApiError> {
    let patch = &submitted.body;
    let change = SettingChange {
        tenant: &access.tenant,
        if_match: &if_match,
        action: Action::TenantBillingInfo,
        apply: &|tenant| patch.apply(&mut tenant.billing_info),
        view: BillingInfoView::of,
    };
    let recorder = CommandRunner::new(&app, &access.caller, &request, submitted.key.as_ref());
    change.record(&recorder).await
}
