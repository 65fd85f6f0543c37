//! Update of a member.

use axum::response::Response;
use dezky_shared::{
    audit::Action,
    id::MemberId,
    member::{ALIASES_PER_MAILBOX, Alias, MailDomains, Member, MemberStatus},
    queue::args::ProvisionMember,
    store::jobs::NewJob,
    upstream::Upstream,
    user::Role,
};
use mongodb::ClientSession;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    Person,
    change::{Decision, Edit, EditContext, execute},
    find_person,
    rights::is_owner,
    role::RoleChange,
    view::TenantUserView,
};
use crate::{
    config::Config,
    error::{ApiError, FieldError, ProblemCode},
    extract::{PathId, ReadWrite, TenantAccess, Validate},
    validate::{
        self, FieldPatch, Validator, distinct_list, double_option,
        member::{alias, quota},
        user,
    },
    write::{CommandRunner, Rollback, Write},
};

/// Fields to change. Missing fields stay. A person who is not managed has only a role.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = TenantUserPatch)]
pub(super) struct PatchRequest {
    /// Name.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = String, min_length = 1, max_length = 120)]
    name: Option<String>,
    /// Role: `member`, `admin` or `owner`.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = Role)]
    role: Option<String>,
    /// All further addresses of the mailbox, as local parts or addresses in the tenant's domains.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = Vec<String>, max_items = 50)]
    aliases: Option<Vec<String>>,
    /// Quota of the mailbox in bytes; null for that of the plan.
    #[serde(default)]
    #[schema(value_type = Option<i64>, minimum = 1_048_576, maximum = 1_125_899_906_842_624_i64)]
    mailbox_quota_bytes: FieldPatch<i64>,
}

/// A validated patch.
#[derive(Debug)]
pub(super) struct Patch {
    name: Option<String>,
    role: Option<Role>,
    aliases: Option<Vec<Alias>>,
    quota: FieldPatch<i64>,
}

impl Validate for Patch {
    type Raw = PatchRequest;

    fn validate(raw: PatchRequest, _: &Config) -> Result<Self, Vec<FieldError>> {
        let mut validator = Validator::default();
        let patch = Self {
            name: raw
                .name
                .and_then(|text| validator.check("/name", validate::name(&text))),
            role: raw
                .role
                .and_then(|text| validator.check("/role", user::role(&text))),
            aliases: raw
                .aliases
                .and_then(|texts| aliases(&mut validator, &texts)),
            quota: raw
                .mailbox_quota_bytes
                .check(&mut validator, "/mailboxQuotaBytes", quota),
        };
        validator.finish(Some(patch))
    }
}

/// The aliases of a mailbox.
pub(super) fn aliases(validator: &mut Validator, texts: &[String]) -> Option<Vec<Alias>> {
    distinct_list(validator, "/aliases", texts, ALIASES_PER_MAILBOX, alias)
}

impl Patch {
    fn is_role_only(&self) -> bool {
        self.name.is_none() && self.aliases.is_none() && self.quota.is_keep()
    }

    /// Changes the aliases.
    async fn set_aliases(
        &self,
        session: &mut ClientSession,
        runner: &CommandRunner<'_>,
        context: &EditContext<'_>,
        member: &mut Member,
    ) -> Result<(), Rollback> {
        let Some(aliases) = &self.aliases else {
            return Ok(());
        };
        let db = &runner.app.db;
        let mailbox = member.mailbox.as_mut().ok_or(ProblemCode::NoMailbox)?;
        let claims = db.domains.list_in(session, context.tenant.id).await?;
        let domains = MailDomains::new(claims, context.tenant);
        let may_reserve = is_owner(runner.caller, context.tenant.id);
        let aliases = domains
            .aliases(&mailbox.primary, aliases, &mailbox.aliases, may_reserve)
            .map_err(ApiError::from)?;
        if aliases == mailbox.aliases {
            return Ok(());
        }
        mailbox.set_aliases(aliases);
        db.domains
            .materialize_conflicts(session, mailbox.domain_ids())
            .await?;
        let addresses = mailbox.addresses.clone();
        let holders = db.members.holders(session, &addresses).await?;
        if let Some(address) = holders.conflict(member) {
            let detail = format!("{address} belongs to another member.");
            return Err(ApiError::new(ProblemCode::AddressTaken)
                .with_detail(detail)
                .into());
        }
        Ok(())
    }
}

impl Edit for Patch {
    const ALLOWS_SELF: bool = true;

    fn concerns(&self, held: Role) -> Option<Role> {
        self.role.filter(|role| *role != held)
    }

    async fn edit(
        &self,
        session: &mut ClientSession,
        runner: &CommandRunner<'_>,
        context: EditContext<'_>,
        member: &mut Member,
    ) -> Result<Option<Decision>, Rollback> {
        if member.status == MemberStatus::Removing {
            return Err(ProblemCode::MemberRemoving.into());
        }
        let before = member.clone();
        if let Some(name) = &self.name {
            member.name.clone_from(name);
        }
        if let Some(role) = self.role {
            member.role = role;
        }
        if !self.quota.is_keep() {
            let mailbox = member.mailbox.as_mut().ok_or(ProblemCode::NoMailbox)?;
            self.quota.apply(&mut mailbox.quota_bytes);
        }
        self.set_aliases(session, runner, &context, member).await?;
        if *member == before {
            return Ok(None);
        }
        let now = runner.app.store.now();
        member.index_words();
        let mut upstreams = Vec::new();
        if member.name != before.name {
            upstreams.extend(Upstream::ALL);
        } else if member.mailbox != before.mailbox {
            upstreams.push(Upstream::Stalwart);
        }
        let mut jobs = Vec::new();
        // A change of the role alone, too, is a version that a stale edit must not overwrite.
        if upstreams.is_empty() {
            member.begin_generation_in_sync();
        } else {
            member.generation += 1;
            member.set_pending(&upstreams, now);
            let args = ProvisionMember {
                tenant_id: member.tenant_id,
                member_id: member.id,
            };
            jobs.push(NewJob::new(&args, &runner.actor_id(), now)?);
        }
        Ok(Some(Decision::new(Action::MemberUpdate, jobs)))
    }
}

/// Updates a person of a tenant
///
/// 202 if an account changes, otherwise 200. Only owners and operators can grant or revoke the role of an owner. The last
/// owner of a tenant cannot be changed. A person who is not managed has only a role: 409 `not_managed` for other fields.
#[utoipa::path(
    patch, path = "/tenants/{slug}/users/{id}", operation_id = "updateTenantUser", tag = "tenant users",
    request_body = PatchRequest,
    responses((status = 202, body = TenantUserView), (status = 200, body = TenantUserView)),
)]
pub(super) async fn update(
    w: Write<TenantAccess<ReadWrite>, Patch, PathId<MemberId>>,
) -> Result<Response, ApiError> {
    let (tenant, patch) = (&w.access.tenant, &w.body);
    match find_person(&w.app, tenant.id, w.params.0).await? {
        Person::Managed(member, _) => execute(&w.runner(), tenant, &member, patch).await,
        Person::Known(..) if !patch.is_role_only() => Err(ProblemCode::NotManaged.into()),
        Person::Known(user, held) => {
            let (id, role) = (user.id, Some(patch.role.unwrap_or(held)));
            let change = RoleChange { tenant, id, role };
            change.execute(&w.runner(), held).await
        }
    }
}
