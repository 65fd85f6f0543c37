//! Editing a domain.

use axum::{extract::State, response::Response};
use bson::DateTime;
use dezky_shared::{
    audit::Action,
    domain::{DmarcPolicy, Domain},
    queue::args::SetDmarc,
};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    DomainView,
    change::{Decision, Effect, change},
};
use crate::{
    error::{ApiError, FieldError, Problem, ProblemCode},
    extract::{
        IfMatch, PathDomain, Prefer, QueryParams, RequestInfo, TenantAccess, Validate,
        ValidatedJson, Write,
    },
    intent::CommandRunner,
    routes::tenants::new_job,
    state::{AppState, SharedState},
    validate::{self, Validator, double_option},
};

/// The fields that are to change. What is missing stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = DomainPatch)]
pub(super) struct PatchRequest {
    /// The DMARC policy that it should have.
    #[serde(default, deserialize_with = "validate::object")]
    #[schema(value_type = Option<DmarcPatch>)]
    dmarc: Option<DmarcPatch>,
    /// `true` makes it the primary domain in the place of another one.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = bool)]
    primary: Option<bool>,
}

/// The parts of the DMARC policy that are to change. What is missing stays; null removes.
#[expect(
    clippy::option_option,
    reason = "missing, null and a value are three things"
)]
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct DmarcPatch {
    /// `none`, `quarantine` or `reject`.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = String, pattern = "^(none|quarantine|reject)$")]
    policy: Option<String>,
    /// Where aggregate reports go: an e-mail address.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = Option<String>, max_length = 254)]
    rua: Option<Option<String>>,
}

/// What is to change.
#[expect(
    clippy::option_option,
    reason = "missing, null and a value are three things"
)]
#[derive(Debug)]
pub(super) struct Patch {
    policy: Option<DmarcPolicy>,
    rua: Option<Option<String>>,
    primary: Option<bool>,
}

impl Validate for Patch {
    type Raw = PatchRequest;

    fn validate(wire: PatchRequest, _: &AppState) -> Result<Self, Vec<FieldError>> {
        let mut checks = Validator::default();
        let (policy, rua) = wire
            .dmarc
            .map_or((None, None), |dmarc| (dmarc.policy, dmarc.rua));
        let patch = Self {
            policy: policy
                .and_then(|text| checks.check("/dmarc/policy", validate::dmarc_policy(&text))),
            rua: rua.map(|rua| {
                rua.and_then(|text| checks.check("/dmarc/rua", validate::report_address(&text)))
            }),
            primary: wire.primary,
        };
        checks.finish(Some(patch))
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
        if let Some(rua) = &self.rua {
            domain.dmarc.rua.clone_from(rua);
        }
        let makes_primary = self.primary == Some(true) && domain.is_owned() && !domain.primary;
        match self.primary {
            Some(false) if domain.primary => return Err(ProblemCode::DomainIsPrimary.into()),
            Some(wanted) if !domain.is_owned() => domain.wants_primary = wanted,
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
        let concerns_dns = domain.is_owned() && domain.dmarc != before.dmarc;
        Ok(Some(Decision {
            action: Action::DomainUpdate,
            effect: if makes_primary {
                Effect::MakePrimary
            } else {
                Effect::Write
            },
            job: concerns_dns.then(|| new_job(&args, by, now)).transpose()?,
        }))
    }
}

/// Edits a domain
///
/// 202 if that changes a record that it should have, else 200.
#[utoipa::path(
    patch, path = "/tenants/{slug}/domains/{domain}", operation_id = "updateDomain", tag = "domains", request_body = PatchRequest,
    params(("slug" = String, Path), ("domain" = String, Path), ("Idempotency-Key" = Option<String>, Header), ("If-Match" = Option<String>, Header), ("Prefer" = Option<String>, Header)),
    responses((status = 202, body = DomainView), (status = 200, body = DomainView), (status = "default", response = Problem)),
)]
#[expect(clippy::too_many_arguments, reason = "each is an extractor")]
pub(super) async fn patch(
    access: TenantAccess<Write>,
    PathDomain(name): PathDomain,
    _: QueryParams<()>,
    State(app): State<SharedState>,
    request: RequestInfo,
    if_match: IfMatch,
    prefer: Prefer,
    submitted: ValidatedJson<Patch>,
) -> Result<Response, ApiError> {
    let recorder = CommandRunner::new(&app, &access.caller, &request, submitted.key.as_ref());
    let by = recorder.actor_id();
    let patch = &submitted.body;
    change(
        &recorder,
        &access.tenant,
        &name,
        &if_match,
        prefer,
        &|domain, _, now| patch.decide(domain, &by, now),
    )
    .await
}
