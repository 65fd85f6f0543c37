//! The file of one-time passwords of an import: handed over once.

use std::collections::HashMap;

use axum::response::{IntoResponse as _, Response};
use bson::doc;
use dezky_shared::{
    audit::{Action, Target},
    id::{MemberId, MemberImportId, UserId},
    member::{AddressHolders, Member, MemberSecrets, MemberStatus},
    member_import::{ImportRow, ImportedPassword, MemberImport},
    tenant::Tenant,
    user::{Role, User},
};
use http::{StatusCode, header};
use mongodb::ClientSession;
use serde_json::json;

use super::find;
use crate::{
    error::{ApiError, ProblemCode},
    extract::{Caller, EmptyBody, PathId, ReadWrite, TenantAccess},
    response::ApiResponse,
    routes::members::rights::is_owner,
    spreadsheet::{BOM, CSV, line},
    state::AppState,
    write::{Command, CommandOutput, CommandRunner, Rollback, Write},
};

/// Detail of the error if another person fetches the passwords.
const REQUESTER_ONLY: &str =
    "Only the person who requested the import, owners and operators can fetch its passwords.";
/// Column names.
const COLUMNS: [&str; 7] = [
    "line",
    "email",
    "mailbox",
    "name",
    "oneTimePassword",
    "opens",
    "note",
];
/// Member of the response that holds the file. A replay has null in its place.
const FILE: &str = "file";

/// Fetches the one-time passwords of an import, once
///
/// A CSV file with a line for each created member. It is handed over once: a second request, a repeated one with the same
/// idempotency key included, is rejected with 410 `passwords_gone`, and so is one more than 24 hours after the members
/// were created. `note` says why a line has no password: it expired, a newer one was issued, or the member is gone or was
/// made an owner. Reset the password of such a member, and those of all members of the file if the response was lost.
/// For the person who requested the import, owners and operators. 409 `import_running` until its job is finished.
#[utoipa::path(
    post, path = "/tenants/{slug}/users/imports/{id}/passwords", operation_id = "fetchTenantUserImportPasswords",
    tag = "tenant users",
    responses((status = 200, content_type = "text/csv", body = String)),
)]
pub(super) async fn fetch(
    w: Write<TenantAccess<ReadWrite>, EmptyBody, PathId<MemberImportId>>,
) -> Result<Response, ApiError> {
    let tenant = &w.access.tenant;
    let import = find(&w.app, tenant.id, w.params.0).await?;
    ensure_may_fetch(&w.access.caller, &import)?;
    let fetch = Fetch { tenant, import };
    let runner = w.runner();
    let result = runner.run_serialized(&tenant.slug, Some(tenant), &fetch);
    let response = result.await?.response;
    let file = response.body[FILE]
        .as_str()
        .ok_or(ProblemCode::PasswordsGone)?;
    let name = format!("attachment; filename=\"passwords-{}.csv\"", tenant.slug);
    let headers = [
        (header::CONTENT_TYPE, CSV),
        (header::CONTENT_DISPOSITION, name.as_str()),
        (header::CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, file.to_owned()).into_response())
}

fn ensure_may_fetch(caller: &Caller, import: &MemberImport) -> Result<(), ApiError> {
    let is_requester = import.actor.id == caller.user.id.to_string();
    if is_requester || is_owner(caller, import.tenant_id) {
        return Ok(());
    }
    Err(ApiError::new(ProblemCode::Forbidden).with_detail(REQUESTER_ONLY))
}

struct Fetch<'a> {
    tenant: &'a Tenant,
    import: MemberImport,
}

impl Command for Fetch<'_> {
    async fn run(
        &self,
        session: &mut ClientSession,
        runner: &CommandRunner<'_>,
    ) -> Result<CommandOutput, Rollback> {
        let (app, import) = (runner.app, &self.import);
        let job = app
            .db
            .jobs
            .find_in_transaction(session, import.job_id)
            .await?;
        if job.is_some_and(|job| !job.state.is_final()) {
            return Err(ProblemCode::ImportRunning.into());
        }
        let imports = &app.db.member_imports;
        let now = app.store.now();
        let (rows, mut passwords) = imports.take_passwords(session, import.id).await?;
        passwords.retain(|password| password.expire_at > now);
        if passwords.is_empty() {
            return Err(ProblemCode::PasswordsGone.into());
        }
        let accounts = Accounts::load(session, app, &rows).await?;
        let sheet = Sheet {
            app,
            tenant: self.tenant,
            by_owner: is_owner(runner.caller, self.tenant.id),
            accounts,
            passwords: passwords
                .into_iter()
                .map(|password| (password.member_id, password))
                .collect(),
        };
        let mut file = BOM.to_owned() + &line(COLUMNS.map(str::to_owned));
        for row in &rows {
            file.push_str(&sheet.line(row));
        }

        let target = Target::new("memberImport", import.id, "import_members");
        let action = Action::MemberImportPasswords;
        let mut event = runner.event(now, action, target, Some(self.tenant));
        event.after = doc! { "rows": i64::try_from(rows.len()).unwrap_or(i64::MAX) };
        let response = ApiResponse::unversioned(StatusCode::OK, &json!({ FILE: file }));
        Ok(CommandOutput::complete(
            response.with_one_time_secret(FILE),
            event,
        ))
    }
}

/// The members of the rows, as they are now.
struct Accounts {
    members: HashMap<MemberId, Member>,
    users: HashMap<UserId, User>,
    holders: AddressHolders,
}

impl Accounts {
    async fn load(
        session: &mut ClientSession,
        app: &AppState,
        rows: &[ImportRow],
    ) -> Result<Self, Rollback> {
        let ids: Vec<MemberId> = rows.iter().filter_map(|row| row.member_id).collect();
        let members = app.db.members.list_by_ids(&ids).await?;
        let ids: Vec<UserId> = members.iter().filter_map(|member| member.user_id).collect();
        let users = app.db.users.list_by_ids(&ids).await?;
        let logins: Vec<String> = members.iter().map(|member| member.email.clone()).collect();
        let holders = app.db.members.holders(session, &logins).await?;
        let members = members.into_iter().map(|member| (member.id, member));
        Ok(Self {
            members: members.collect(),
            users: users.into_iter().map(|user| (user.id, user)).collect(),
            holders,
        })
    }
}

/// The file as it is written.
struct Sheet<'a> {
    app: &'a AppState,
    tenant: &'a Tenant,
    by_owner: bool,
    accounts: Accounts,
    passwords: HashMap<MemberId, ImportedPassword>,
}

impl Sheet<'_> {
    fn line(&self, row: &ImportRow) -> String {
        let member = row.member_id.and_then(|id| self.accounts.members.get(&id));
        let member = member.filter(|member| {
            member.tenant_id == self.tenant.id && member.status != MemberStatus::Removed
        });
        let Some(member) = member else {
            let note = "The member was removed.".to_owned();
            let empty = String::new;
            let label = row.label.clone();
            return line([
                row.line.to_string(),
                label,
                empty(),
                empty(),
                empty(),
                empty(),
                note,
            ]);
        };
        let mailbox = member.mailbox.as_ref();
        let mailbox = mailbox.map(|mailbox| mailbox.primary.address.clone());
        let (password, opens, note) = match self.password(member) {
            Ok((password, opens)) => (password, opens, ""),
            Err(note) => (String::new(), "", note),
        };
        line([
            row.line.to_string(),
            member.email.clone(),
            mailbox.unwrap_or_default(),
            member.name.clone(),
            password,
            opens.to_owned(),
            note.to_owned(),
        ])
    }

    /// The password of a member and its scope, or the reason why there is none.
    fn password(&self, member: &Member) -> Result<(String, &'static str), &'static str> {
        let stored = self.passwords.get(&member.id);
        let stored = stored.ok_or("The password has expired: reset it.")?;
        if member.role == Role::Owner && !self.by_owner {
            return Err("Only owners can have the password of an owner: ask one to reset it.");
        }
        let keys = &self.app.config.encryption_keys;
        let secrets: MemberSecrets = keys
            .decrypt(stored.job_id, &stored.secrets)
            .map_err(|_| "The encryption key of the password is gone: reset it.")?;
        if member.password_issued_at != Some(secrets.issued_at) {
            return Err("A newer password was issued.");
        }
        let user = member.user_id.and_then(|id| self.accounts.users.get(&id));
        // One that only a newer build can decode may have rights elsewhere.
        if member.user_id.is_some() && user.is_none() {
            return Err("The rights of the person cannot be read: reset the password.");
        }
        let is_elsewhere = self.accounts.holders.is_elsewhere(member);
        match member.password_scope(self.tenant, user, is_elsewhere) {
            Some(scope) => Ok((secrets.password, scope.name())),
            None => Err("The person had an account before, and signs in with its password."),
        }
    }
}
