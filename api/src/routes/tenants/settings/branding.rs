//! How a tenant's workspace looks.

use axum::extract::State;
use dezky_shared::{
    audit::Action,
    branding::{EmailTemplate, EmailTemplates, EmailText, TenantBranding, contrast_color},
    tenant::Tenant,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{SettingChange, shown};
use crate::{
    error::{ApiError, FieldError, Problem},
    extract::{
        IfMatch, QueryParams, Read, RequestInfo, TenantAccess, Validate, ValidatedJson, Write,
    },
    intent::{ApiResponse, CommandRunner},
    state::{AppState, SharedState},
    validate::{self, Validator, branding, url},
};

/// How a workspace looks. What is missing looks like ours.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = TenantLook)]
pub(in crate::routes::tenants) struct LookView {
    /// The name that stands for ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    product_name: Option<String>,
    /// Its colour, `#rrggbb`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^#[0-9a-f]{6}$", example = "#ffcc00")]
    accent_color: Option<String>,
    /// The colour of text that can be read on `accentColor`: black or white, by the brightness of that in YIQ.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, pattern = "^#(000000|ffffff)$")]
    accent_text_color: Option<&'static str>,
    /// Where the logo is: https.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = "uri")]
    logo_url: Option<String>,
}

impl LookView {
    /// As `tenant` has it.
    pub(in crate::routes::tenants) fn of(tenant: &Tenant) -> Self {
        let branding = tenant.branding.clone();
        Self {
            product_name: branding.product_name,
            accent_text_color: branding.accent_color.as_deref().map(contrast_color),
            accent_color: branding.accent_color,
            logo_url: branding.logo_url,
        }
    }
}

/// How a workspace looks, and how its mail reads.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = TenantBranding)]
pub(super) struct BrandingView {
    /// The name that stands for ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    product_name: Option<String>,
    /// Its colour, `#rrggbb`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^#[0-9a-f]{6}$", example = "#ffcc00")]
    accent_color: Option<String>,
    /// The colour of text that can be read on `accentColor`: black or white, by the brightness of that in YIQ.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, pattern = "^#(000000|ffffff)$")]
    accent_text_color: Option<&'static str>,
    /// Where the logo is: https.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = "uri")]
    logo_url: Option<String>,
    /// The mail that reads otherwise than ours.
    email_templates: EmailTexts,
}

/// The texts that stand for ours, for each kind of mail. What is missing reads like ours.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct EmailTexts {
    /// Asks somebody to join. Knows `name`, `email`, `productName`, `tenantName`, `inviterName`, `link` and `expiresAt`.
    #[serde(
        default,
        deserialize_with = "validate::object",
        skip_serializing_if = "Option::is_none"
    )]
    invite: Option<MailText>,
    /// Welcomes somebody. Knows `name`, `email`, `productName`, `tenantName` and `loginUrl`.
    #[serde(
        default,
        deserialize_with = "validate::object",
        skip_serializing_if = "Option::is_none"
    )]
    welcome: Option<MailText>,
    /// Helps somebody to sign in again. Knows `name`, `email`, `productName`, `tenantName`, `link` and `expiresAt`.
    #[serde(
        default,
        deserialize_with = "validate::object",
        skip_serializing_if = "Option::is_none"
    )]
    recovery: Option<MailText>,
}

/// The text of a mail. `{{name}}` stands for what is known only when it is sent.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct MailText {
    /// Its subject: one line.
    #[schema(
        min_length = 1,
        max_length = 200,
        example = "Welcome to {{productName}}"
    )]
    subject: String,
    /// Its body: plain text.
    #[schema(min_length = 1, max_length = 10_000, example = "Hello {{name}}!")]
    body: String,
}

impl From<EmailText> for MailText {
    fn from(text: EmailText) -> Self {
        Self {
            subject: text.subject,
            body: text.body,
        }
    }
}

impl BrandingView {
    fn of(tenant: &Tenant) -> Self {
        let EmailTemplates {
            invite,
            welcome,
            recovery,
        } = tenant.branding.email_templates.clone();
        let LookView {
            product_name,
            accent_color,
            accent_text_color,
            logo_url,
        } = LookView::of(tenant);
        Self {
            product_name,
            accent_color,
            accent_text_color,
            logo_url,
            email_templates: EmailTexts {
                invite: invite.map(MailText::from),
                welcome: welcome.map(MailText::from),
                recovery: recovery.map(MailText::from),
            },
        }
    }
}

/// How it is to look, all of it: what is missing or null looks like ours. `accentTextColor` follows from the rest and
/// is not sent.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = TenantBrandingRequest)]
pub(super) struct PutRequest {
    /// The name that stands for ours.
    #[schema(min_length = 1, max_length = 120)]
    product_name: Option<String>,
    /// Its colour, `#rrggbb`.
    #[schema(pattern = "^#[0-9A-Fa-f]{6}$", example = "#ffcc00")]
    accent_color: Option<String>,
    /// Where the logo is: https, at a host with a name.
    #[schema(pattern = "^https://", max_length = 2048)]
    logo_url: Option<String>,
    /// The mail that is to read otherwise than ours.
    #[serde(default, deserialize_with = "validate::object")]
    email_templates: Option<EmailTexts>,
}

/// How it is to look.
#[derive(Debug)]
pub(super) struct Put(TenantBranding);

impl Validate for Put {
    type Raw = PutRequest;

    fn validate(wire: PutRequest, _: &AppState) -> Result<Self, Vec<FieldError>> {
        let mut checks = Validator::default();
        let product_name = wire
            .product_name
            .and_then(|text| checks.check("/productName", validate::name(&text)));
        let accent_color = wire
            .accent_color
            .and_then(|text| checks.check("/accentColor", validate::color(&text)));
        let logo_url = wire
            .logo_url
            .and_then(|text| checks.check("/logoUrl", url::https_url(&text)));
        let texts = wire.email_templates.unwrap_or_default();
        let mut text = |name: &str, template: EmailTemplate, text: Option<MailText>| {
            let MailText { subject, body } = text?;
            let pointer = format!("/emailTemplates/{name}");
            branding::email_text(&mut checks, &pointer, template, &subject, &body)
        };
        let email_templates = EmailTemplates {
            invite: text("invite", EmailTemplate::Invite, texts.invite),
            welcome: text("welcome", EmailTemplate::Welcome, texts.welcome),
            recovery: text("recovery", EmailTemplate::Recovery, texts.recovery),
        };
        checks.finish(Some(Self(TenantBranding {
            product_name,
            accent_color,
            logo_url,
            email_templates,
        })))
    }
}

/// How a tenant's workspace looks
#[utoipa::path(
    get, path = "/tenants/{slug}/branding", operation_id = "getTenantBranding", tag = "tenants",
    params(("slug" = String, Path)),
    responses((status = 200, body = BrandingView), (status = "default", response = Problem)),
)]
pub(super) async fn show(
    access: TenantAccess<Read>,
    _: QueryParams<()>,
) -> Result<ApiResponse, ApiError> {
    shown(&access.tenant, BrandingView::of)
}

/// Says how a tenant's workspace looks
///
/// Takes the place of all that was said before.
#[utoipa::path(
    put, path = "/tenants/{slug}/branding", operation_id = "setTenantBranding", tag = "tenants",
    request_body = PutRequest,
    params(("slug" = String, Path), ("Idempotency-Key" = Option<String>, Header), ("If-Match" = Option<String>, Header)),
    responses((status = 200, body = BrandingView), (status = "default", response = Problem)),
)]
pub(super) async fn put(
    access: TenantAccess<Write>,
    _: QueryParams<()>,
    State(app): State<SharedState>,
    request: RequestInfo,
    if_match: IfMatch,
    submitted: ValidatedJson<Put>,
) -> Result<ApiResponse, ApiError> {
    let Put(branding) = &submitted.body;
    let change = SettingChange {
        tenant: &access.tenant,
        if_match: &if_match,
        action: Action::TenantBranding,
        apply: &|tenant| {
            tenant.branding.clone_from(branding);
            Ok(())
        },
        view: BrandingView::of,
    };
    let recorder = CommandRunner::new(&app, &access.caller, &request, submitted.key.as_ref());
    change.record(&recorder).await
}
