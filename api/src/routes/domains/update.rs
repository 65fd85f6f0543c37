//! Update of a domain.

use axum::response::Response;
use bson::DateTime;
use dezky_shared::{
    audit::Action,
    domain::{DmarcPolicy, Domain},
    queue::args::SetDmarc,
    store::jobs::NewJob,
};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    DomainView,
    actions::{Decision, Effect, change},
};
use crate::{
    config::Config,
    error::{ApiError, FieldError, ProblemCode},
    extract::{PathDomain, ReadWrite, TenantAccess, Validate},
    validate::{self, FieldPatch, Validator, double_option},
    write::Write,
};

/// Fields to change. Missing fields stay.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = DomainPatch)]
pub(super) struct PatchRequest {
    /// Desired DMARC policy.
    #[serde(default, deserialize_with = "validate::object")]
    #[schema(value_type = Option<DmarcPatch>)]
    dmarc: Option<DmarcPatch>,
    /// `true` makes it the primary domain, replacing the current one.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = bool)]
    primary: Option<bool>,
}

/// Parts of the DMARC policy to change. Missing fields stay; null removes.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct DmarcPatch {
    /// `none`, `quarantine` or `reject`.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = DmarcPolicy)]
    policy: Option<String>,
    /// E-mail address for aggregate reports.
    #[serde(default)]
    #[schema(value_type = Option<String>, max_length = 254)]
    rua: FieldPatch<String>,
}

/// A validated patch.
#[derive(Debug)]
pub(super) struct Patch {
    policy: Option<DmarcPolicy>,
    rua: FieldPatch<String>,
    primary: Option<bool>,
}

impl Validate for Patch {
    type Raw = PatchRequest;

    fn validate(raw: PatchRequest, _: &Config) -> Result<Self, Vec<FieldError>> {
        let mut validator = Validator::default();
        let (policy, rua) = raw
            .dmarc
            .map_or((None, FieldPatch::Keep), |dmarc| (dmarc.policy, dmarc.rua));
        let patch = Self {
            policy: policy
                .and_then(|text| validator.check("/dmarc/policy", validate::dmarc_policy(&text))),
            rua: rua.check(&mut validator, "/dmarc/rua", |text| {
                validate::report_address(&text)
            }),
            primary: raw.primary,
        };
        validator.finish(Some(patch))
    }
}

impl Patch {
    fn decide(
        &self,
        domain: &mut Domain,
        by: &str,
        now: DateTime,
    ) -> Result<Option<Decision>, ApiError> {
        let before = domain.clone();
        if let Some(policy) = self.policy {
            domain.dmarc.policy = policy;
        }
        self.rua.apply(&mut domain.dmarc.rua);
        let makes_primary = self.primary == Some(true) && domain.is_owned() && !domain.primary;
        match self.primary {
            Some(false) if domain.primary => return Err(ProblemCode::DomainIsPrimary.into()),
            Some(primary) if !domain.is_owned() => domain.wants_primary = primary,
            _ => {}
        }
        if *domain == before && !makes_primary {
            return Ok(None);
        }
        if domain.removing {
            return Err(ProblemCode::DomainRemoving.into());
        }
        domain.generation += 1;
        let args = SetDmarc {
            tenant_id: domain.tenant_id,
            domain_id: domain.id,
        };
        let affects_dns = domain.is_owned() && domain.dmarc != before.dmarc;
        Ok(Some(Decision {
            action: Action::DomainUpdate,
            effect: if makes_primary {
                Effect::MakePrimary
            } else {
                Effect::Write
            },
            job: affects_dns
                .then(|| NewJob::new(&args, by, now))
                .transpose()?,
        }))
    }
}

/// Updates a domain
///
/// 202 if a required DNS record changes, otherwise 200.
#[utoipa::path(
    patch, path = "/tenants/{slug}/domains/{domain}", operation_id = "updateDomain", tag = "domains", request_body = PatchRequest,
    responses((status = 202, body = DomainView), (status = 200, body = DomainView)),
)]
pub(super) async fn update(
    w: Write<TenantAccess<ReadWrite>, Patch, PathDomain>,
) -> Result<Response, ApiError> {
    let patch = &w.body;
    change(&w, &|domain, _, by, now| patch.decide(domain, by, now)).await
}
