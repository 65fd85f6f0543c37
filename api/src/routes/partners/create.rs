//! Creation of a partner.

use bson::{DateTime, Document};
use dezky_shared::{
    audit::Action,
    billing::{BillingInfo, Plan},
    id::PartnerId,
    partner::{Branding, ContactInfo, Partner, PartnerStatus},
    store::VersionedRepository as _,
};
use http::StatusCode;
use mongodb::ClientSession;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{PartnerView, Patch, PatchRequest};
use crate::{
    config::Config,
    error::{ApiError, FieldError},
    extract::{Object, Operator, Validate},
    response::ApiResponse,
    validate::{
        self, FieldPatch, Validator, double_option,
        partner::{BillingRequest, ContactRequest},
    },
    write::{Command, CommandOutput, CommandRunner, Resource as _, Rollback, Write},
};

/// A new partner.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = PartnerCreate)]
pub(super) struct CreateRequest {
    /// Slug. It never changes and is never reused. A partner and a tenant may have the same slug.
    #[schema(pattern = "^[a-z][a-z0-9-]{1,38}[a-z0-9]$", example = "nordic-it")]
    slug: String,
    /// Display name.
    #[schema(min_length = 1, max_length = 120, example = "Nordic IT A/S")]
    name: String,
    /// Domain.
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "nordic-it.dk")]
    domain: FieldPatch<String>,
    /// Margin on customer payments, in percent with at most two decimals. Default: 0.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = f64, minimum = 0, maximum = 100, example = 12.5)]
    margin_pct: Option<f64>,
    /// Contact person.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = ContactRequest)]
    contact_info: Option<Object<ContactRequest>>,
    /// Billing details.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = BillingRequest)]
    billing_info: Option<Object<BillingRequest>>,
    /// Support e-mail address.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = "email", max_length = 254)]
    support_email: FieldPatch<String>,
    /// Support page (https).
    #[serde(default)]
    #[schema(value_type = Option<String>, format = "uri", max_length = 2048)]
    support_url: FieldPatch<String>,
    /// Default plan of new tenants: `starter`, `business` or `enterprise`.
    #[serde(default)]
    #[schema(value_type = Option<Plan>)]
    default_plan: FieldPatch<String>,
}

/// A validated new partner.
#[derive(Debug)]
pub(super) struct NewPartner {
    slug: String,
    fields: Patch,
}

impl Validate for NewPartner {
    type Raw = CreateRequest;

    fn validate(raw: CreateRequest, config: &Config) -> Result<Self, Vec<FieldError>> {
        let mut validator = Validator::default();
        let slug = validator.check(
            "/slug",
            validate::slug(&raw.slug, &config.auth.admin_groups),
        );
        let fields = PatchRequest {
            name: Some(raw.name),
            domain: raw.domain,
            status: None,
            margin_pct: raw.margin_pct,
            contact_info: raw.contact_info,
            billing_info: raw
                .billing_info
                .map(|Object(billing)| Object(billing.of_new())),
            support_email: raw.support_email,
            support_url: raw.support_url,
            default_plan: raw.default_plan,
        };
        let fields = Patch::check(&mut validator, fields, config);
        validator.finish(slug.map(|slug| Self { slug, fields }))
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

/// Creates a partner
#[utoipa::path(
    post, path = "/partners", operation_id = "createPartner", tag = "partners", request_body = CreateRequest,
    responses((status = 201, body = PartnerView)),
)]
pub(super) async fn create(w: Write<Operator, NewPartner>) -> Result<ApiResponse, ApiError> {
    let create = Create {
        id: PartnerId::new(),
        new: &w.body,
    };
    w.run(&create).await
}

struct Create<'a> {
    id: PartnerId,
    new: &'a NewPartner,
}

impl Command for Create<'_> {
    async fn run(
        &self,
        session: &mut ClientSession,
        runner: &CommandRunner<'_>,
    ) -> Result<CommandOutput, Rollback> {
        let app = runner.app;
        let now = app.store.now();
        let partner = self.new.partner(self.id, now)?;
        app.db.partners.insert(session, &partner).await?;
        let event = runner
            .event(now, Action::PartnerCreate, partner.target(), None)
            .with_changes(&Document::new(), &partner.audited()?);
        let location = format!("/partners/{}", partner.slug);
        let mut response = partner.response().at(location);
        response.status = StatusCode::CREATED;
        Ok(CommandOutput::complete(response, event))
    }
}
