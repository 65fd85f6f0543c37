//! Creation of members.

use axum::response::Response;
use bson::Document;
use dezky_shared::{
    audit::Action,
    id::TenantId,
    member::{Member, NewMember, Rejection, generate_password, local_part},
    platform::change_feed::DocumentChange,
    queue::args::ProvisionMember,
    store::VersionedRepository as _,
    tenant::Tenant,
    user::Role,
};
use mongodb::ClientSession;
use serde::Deserialize;
use utoipa::{
    ToSchema,
    openapi::schema::{Object, ObjectBuilder, Type},
};

use super::{
    Person,
    change::{member_target, run_and_wait, with_password},
    password::{ensure_can_encrypt, job_with_password},
    respond,
    rights::{ensure_may_manage, is_owner},
    update::aliases,
    view::TenantUserView,
};
use crate::{
    config::Config,
    error::{ApiError, FieldError, ProblemCode},
    extract::{ReadWrite, TenantAccess, Validate},
    routes::domains::ownership::backfill_domains,
    validate::{
        self, Validator,
        member::{password, quota},
        user,
    },
    write::{Command, CommandOutput, CommandRunner, Rollback, Write, ensure_not_terminating},
};

/// A new member.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = TenantUserCreate)]
pub(super) struct CreateRequest {
    /// Login. By default the address of the mailbox. An account with this login is adopted, with its password.
    #[schema(format = Email, max_length = 254, example = "ada@example.com")]
    pub(super) email: Option<String>,
    /// Local part of the mailbox in the primary domain. By default that of `email`, if it is an address in that domain.
    #[schema(max_length = 64, example = "ada")]
    pub(super) local_part: Option<String>,
    /// Name.
    #[schema(min_length = 1, max_length = 120)]
    pub(super) name: String,
    /// Role: `member`, `admin` or `owner`. A person who has a role in the tenant keeps it.
    #[schema(value_type = Role)]
    pub(super) role: String,
    /// Whether the member has a mailbox.
    #[serde(default = "has_mailbox")]
    #[schema(default = true)]
    pub(super) mailbox: bool,
    /// Further addresses of the mailbox, as local parts or addresses in the tenant's domains.
    #[serde(default)]
    #[schema(max_items = 50)]
    pub(super) aliases: Vec<String>,
    /// Quota of the mailbox in bytes. By default that of the plan.
    #[schema(minimum = 1_048_576, maximum = 1_125_899_906_842_624_i64)]
    pub(super) mailbox_quota_bytes: Option<i64>,
    /// `generate`: passwords are generated, not accepted.
    #[schema(schema_with = generate_only)]
    pub(super) password: Option<String>,
}

impl CreateRequest {
    /// The login, or the local part, as written.
    pub(super) fn label(&self) -> Option<&str> {
        self.email.as_deref().or(self.local_part.as_deref())
    }
}

fn generate_only() -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some(["generate"]))
        .description(Some("`generate`: passwords are generated, not accepted."))
        .build()
}

const fn has_mailbox() -> bool {
    true
}

/// A validated new member.
#[derive(Debug)]
pub(super) struct ValidMember(pub(super) NewMember);

impl Validate for ValidMember {
    type Raw = CreateRequest;

    fn validate(raw: CreateRequest, _: &Config) -> Result<Self, Vec<FieldError>> {
        let mut validator = Validator::default();
        let email = raw
            .email
            .as_deref()
            .and_then(|text| validator.check("/email", validate::email(text)));
        let local_part = raw
            .local_part
            .as_deref()
            .and_then(|text| validator.check("/localPart", local_part(text)));
        if raw.email.is_none() && raw.local_part.is_none() {
            let message = "Set localPart, or email.";
            validator.push(FieldError::at("/localPart", "missing", message));
        }
        let name = validator.check("/name", validate::name(&raw.name));
        let role = validator.check("/role", user::role(&raw.role));
        let aliases = aliases(&mut validator, &raw.aliases);
        let bytes = raw.mailbox_quota_bytes;
        let quota_bytes =
            bytes.and_then(|bytes| validator.check("/mailboxQuotaBytes", quota(bytes)));
        if let Some(text) = &raw.password {
            validator.check("/password", password(text));
        }
        if !raw.mailbox {
            let mut needs_mailbox = |pointer: &str| {
                let message = "Only a member with a mailbox has this.";
                validator.push(FieldError::at(pointer, "needs_mailbox", message));
            };
            if !raw.aliases.is_empty() {
                needs_mailbox("/aliases");
            }
            if bytes.is_some() {
                needs_mailbox("/mailboxQuotaBytes");
            }
        }
        let whole = name.zip(role).zip(aliases);
        validator.finish(whole.map(|((name, role), aliases)| {
            Self(NewMember {
                email,
                local_part,
                name,
                role,
                mailbox: raw.mailbox,
                aliases,
                quota_bytes,
            })
        }))
    }
}

/// Creates a member
///
/// The job creates the account for sign-in, the mailbox on the primary domain, and the user on the file server. The
/// response has the one-time password, once: a replayed response has null in its place, and a reset issues another. An
/// account that exists with this login is adopted: its password stays, and the one-time password opens the mailbox alone
/// (`signIn: existing`). 409 `no_mail_domain`: the tenant owns no domain; `mailbox: false` needs none. 409
/// `login_in_foreign_domain`: the login is an address in a domain of another tenant, which alone may create its account; a
/// person who has signed in before can be added. An account that another tenant created with a login in no domain of its
/// own is not adopted: the job ends as `discarded` with `account_taken`. Only owners and operators can create an owner, and
/// use reserved local parts as aliases.
#[utoipa::path(
    post, path = "/tenants/{slug}/users", operation_id = "createTenantUser", tag = "tenant users", request_body = CreateRequest,
    responses((status = 202, body = TenantUserView), (status = 200, body = TenantUserView)),
)]
pub(super) async fn create(
    w: Write<TenantAccess<ReadWrite>, ValidMember>,
) -> Result<Response, ApiError> {
    let (tenant, ValidMember(new)) = (&w.access.tenant, &w.body);
    ensure_may_manage(&w.access.caller, tenant.id, None, Some(new.role))?;
    ensure_can_encrypt(&w.app.config)?;
    backfill_domains(&w.app, tenant).await?;
    let create = Create {
        tenant_id: tenant.id,
        new,
        password: generate_password(),
    };
    run_and_wait(&w.runner(), tenant, &create).await
}

struct Create<'a> {
    tenant_id: TenantId,
    new: &'a NewMember,
    password: String,
}

impl Create<'_> {
    /// The new member, whose addresses are free, and whether another tenant has a member with its login.
    async fn member(
        &self,
        session: &mut ClientSession,
        runner: &CommandRunner<'_>,
        tenant: &Tenant,
    ) -> Result<(Member, bool), Rollback> {
        let (db, new) = (&runner.app.db, self.new);
        let allowance = db.allowances.of_plan(tenant.plan).await?;
        let may_reserve = is_owner(runner.caller, tenant.id);
        let new_members = [new].into_iter();
        let mut admission = db
            .admission_sources()
            .admission(session, tenant, allowance, may_reserve, new_members)
            .await?;
        let member = admission
            .admit(new, runner.app.store.now())
            .map_err(rejection)?;
        if let Some(mailbox) = &member.mailbox {
            db.domains
                .materialize_conflicts(session, mailbox.domain_ids())
                .await?;
        }
        let is_elsewhere = admission.is_elsewhere(&member);
        Ok((member, is_elsewhere))
    }
}

/// The error of a new member that is not admitted.
fn rejection(rejection: Rejection) -> ApiError {
    match rejection {
        Rejection::Address(error) => error.into(),
        Rejection::Exists { login: address, .. } | Rejection::AddressTaken(address) => {
            let detail = format!("{address} belongs to a member already.");
            ApiError::new(ProblemCode::AddressTaken).with_detail(detail)
        }
        Rejection::ForeignLogin => ProblemCode::LoginInForeignDomain.into(),
        Rejection::TooManyMembers => ProblemCode::TooManyMembers.into(),
        Rejection::NoSeats => ProblemCode::NoSeats.into(),
    }
}

impl Command for Create<'_> {
    async fn run(
        &self,
        session: &mut ClientSession,
        runner: &CommandRunner<'_>,
    ) -> Result<CommandOutput, Rollback> {
        let app = runner.app;
        // Members are counted below: two of them created at once by two processes must conflict.
        let found = app.db.tenants.materialize_conflict(session, self.tenant_id);
        let tenant = found.await?.ok_or(ProblemCode::NotFound)?;
        ensure_not_terminating(&tenant)?;
        let (mut member, is_elsewhere) = self.member(session, runner, &tenant).await?;
        let args = ProvisionMember {
            tenant_id: tenant.id,
            member_id: member.id,
        };
        let (now, by) = (app.store.now(), runner.actor_id());
        let job = job_with_password(&app.config, &args, &by, &mut member, &self.password, now)?;
        app.db.members.insert(session, &member).await?;
        let job = runner.enqueue_new(session, job).await?;

        let event = runner
            .event(
                now,
                Action::MemberCreate,
                member_target(&member),
                Some(&tenant),
            )
            .with_changes(&Document::new(), &member.audited_fields());
        let scope = member.first_password_scope(is_elsewhere);
        let person = Person::Managed(Box::new(member), None);
        let mut response = respond(&person, Some(&job));
        if let Some(scope) = scope {
            response = with_password(response, self.password.clone(), scope);
        }
        Ok(CommandOutput::complete(response, event)
            .with_jobs(vec![job])
            .with_changed(DocumentChange::Tenant(tenant.id)))
    }
}
