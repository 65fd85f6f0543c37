//! Branding of a tenant's workspace.

use dezky_shared::{
    audit::Action,
    branding::{EmailTemplate, EmailTemplates, EmailText, TenantBranding, contrast_color},
    tenant::Tenant,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{change, respond};
use crate::{
    config::Config,
    error::{ApiError, FieldError},
    extract::{Read, ReadWrite, TenantAccess, Validate},
    response::ApiResponse,
    validate::{self, Validator, branding, url},
    write::Write,
};

/// Appearance of a workspace. Missing fields stand for the defaults.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = TenantAppearance)]
pub(in crate::routes::tenants) struct AppearanceView {
    /// Product name.
    #[serde(skip_serializing_if = "Option::is_none")]
    product_name: Option<String>,
    /// Accent color, `#rrggbb`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^#[0-9a-f]{6}$", example = "#ffcc00")]
    accent_color: Option<String>,
    /// Color of readable text on `accentColor`: black or white, whichever has the higher contrast (WCAG 2.2).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, pattern = "^#(000000|ffffff)$")]
    accent_text_color: Option<&'static str>,
    /// HTTPS URL of the logo.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = "uri")]
    logo_url: Option<String>,
}

impl AppearanceView {
    /// The appearance of the workspace of `tenant`.
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

/// Branding of a workspace: appearance and e-mail templates.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = TenantBranding)]
pub(super) struct BrandingView {
    /// Product name.
    #[serde(skip_serializing_if = "Option::is_none")]
    product_name: Option<String>,
    /// Accent color, `#rrggbb`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^#[0-9a-f]{6}$", example = "#ffcc00")]
    accent_color: Option<String>,
    /// Color of readable text on `accentColor`: black or white, whichever has the higher contrast (WCAG 2.2).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, pattern = "^#(000000|ffffff)$")]
    accent_text_color: Option<&'static str>,
    /// HTTPS URL of the logo.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = "uri")]
    logo_url: Option<String>,
    /// Custom e-mail templates.
    email_templates: EmailTexts,
}

/// Custom e-mail templates by kind. Missing ones stand for the default templates.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct EmailTexts {
    /// Invitation. Placeholders: `name`, `email`, `productName`, `tenantName`, `inviterName`, `link` and `expiresAt`.
    #[serde(
        default,
        deserialize_with = "validate::object",
        skip_serializing_if = "Option::is_none"
    )]
    invite: Option<MailText>,
    /// Welcome mail. Placeholders: `name`, `email`, `productName`, `tenantName` and `loginUrl`.
    #[serde(
        default,
        deserialize_with = "validate::object",
        skip_serializing_if = "Option::is_none"
    )]
    welcome: Option<MailText>,
    /// Account recovery. Placeholders: `name`, `email`, `productName`, `tenantName`, `link` and `expiresAt`.
    #[serde(
        default,
        deserialize_with = "validate::object",
        skip_serializing_if = "Option::is_none"
    )]
    recovery: Option<MailText>,
}

/// An e-mail template. Placeholders such as `{{name}}` are filled in when the mail is sent.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct MailText {
    /// Subject, one line.
    #[schema(
        min_length = 1,
        max_length = 200,
        example = "Welcome to {{productName}}"
    )]
    subject: String,
    /// Body, plain text.
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
        let AppearanceView {
            product_name,
            accent_color,
            accent_text_color,
            logo_url,
        } = AppearanceView::of(tenant);
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

/// The complete branding. Missing fields and null stand for the defaults. `accentTextColor` is derived and not
/// accepted.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = TenantBrandingUpdate)]
pub(super) struct PutRequest {
    /// Product name.
    #[schema(min_length = 1, max_length = 120)]
    product_name: Option<String>,
    /// Accent color, `#rrggbb`.
    #[schema(pattern = "^#[0-9A-Fa-f]{6}$", example = "#ffcc00")]
    accent_color: Option<String>,
    /// HTTPS URL of the logo, with a host name.
    #[schema(pattern = "^https://", max_length = 2048)]
    logo_url: Option<String>,
    /// Custom e-mail templates.
    #[serde(default, deserialize_with = "validate::object")]
    email_templates: Option<EmailTexts>,
}

/// A validated branding.
#[derive(Debug)]
pub(super) struct Put(TenantBranding);

impl Validate for Put {
    type Raw = PutRequest;

    fn validate(raw: PutRequest, _: &Config) -> Result<Self, Vec<FieldError>> {
        let mut validator = Validator::default();
        let product_name = raw
            .product_name
            .and_then(|text| validator.check("/productName", validate::name(&text)));
        let accent_color = raw
            .accent_color
            .and_then(|text| validator.check("/accentColor", validate::color(&text)));
        let logo_url = raw
            .logo_url
            .and_then(|text| validator.check("/logoUrl", url::https_url(&text)));
        let texts = raw.email_templates.unwrap_or_default();
        let mut text = |name: &str, template: EmailTemplate, text: Option<MailText>| {
            let MailText { subject, body } = text?;
            let pointer = format!("/emailTemplates/{name}");
            branding::email_text(&mut validator, &pointer, template, &subject, &body)
        };
        let email_templates = EmailTemplates {
            invite: text("invite", EmailTemplate::Invite, texts.invite),
            welcome: text("welcome", EmailTemplate::Welcome, texts.welcome),
            recovery: text("recovery", EmailTemplate::Recovery, texts.recovery),
        };
        validator.finish(Some(Self(TenantBranding {
            product_name,
            accent_color,
            logo_url,
            email_templates,
        })))
    }
}

/// Returns the branding of a tenant
#[utoipa::path(get, path = "/tenants/{slug}/branding", operation_id = "getTenantBranding", tag = "tenants", responses((status = 200, body = BrandingView)))]
pub(super) async fn show(access: TenantAccess<Read>) -> Result<ApiResponse, ApiError> {
    Ok(respond(&access.tenant, BrandingView::of))
}

/// Replaces the branding of a tenant
#[utoipa::path(
    put, path = "/tenants/{slug}/branding", operation_id = "replaceTenantBranding", tag = "tenants",
    request_body = PutRequest,
    responses((status = 200, body = BrandingView)),
)]
pub(super) async fn put(w: Write<TenantAccess<ReadWrite>, Put>) -> Result<ApiResponse, ApiError> {
    let edit = |tenant: &mut Tenant| {
        tenant.branding.clone_from(&w.body.0);
        Ok(())
    };
    let view = |tenant: &Tenant, _| BrandingView::of(tenant);
    change(&w, Action::TenantBranding, view, &edit).await
}
