//! Acceptance and dry run of an import.

use std::collections::HashMap;

use bson::{DateTime, doc, oid::ObjectId};
use dezky_shared::{
    audit::{Action, Target},
    id::{MemberImportId, TenantId},
    member::{MailDomains, NewMember},
    member_import::{ImportRow, MemberImport, RowError, RowOutcome},
    platform::{change_feed::DocumentChange, clock},
    queue::{args::ImportMembers, job::JobState},
    store::jobs::NewJob,
    tenant::Tenant,
    user::Role,
};
use http::StatusCode;
use mongodb::ClientSession;
use utoipa::IntoParams;

use super::{
    file::{FileRow, ImportFile},
    view::{DryRunView, ImportView},
};
use crate::{
    error::ApiError,
    extract::{FromQuery, Parameters, QueryParams, ReadWrite, TenantAccess},
    response::ApiResponse,
    routes::{
        domains::ownership::backfill_domains,
        members::{password::ensure_can_encrypt, rights::is_owner},
    },
    views::job_href,
    write::{Command, CommandOutput, CommandRunner, Rollback, Write, find_open_tenant},
};

/// Query of an import.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
pub(super) struct ImportQuery {
    /// Check every row, without changes.
    #[param(value_type = Option<bool>)]
    dry_run: bool,
}

impl FromQuery for ImportQuery {
    fn from_query(parameters: &mut Parameters) -> Result<Self, ApiError> {
        let dry_run = parameters.take("dryRun", "true or false")?;
        Ok(Self {
            dry_run: dry_run.unwrap_or(false),
        })
    }
}

/// Creates many members from a file
///
/// A CSV file (UTF-8) whose first line names the columns `email`, `localPart`, `name`, `role`, `mailbox`, `aliases`
/// (separated by blanks) and `mailboxQuotaBytes`, or JSON lines with the body of `POST /tenants/{slug}/users` each; at
/// most 5,000 rows and 2 MiB. With `dryRun=true`, 200 with the rows that would not be created and why. Otherwise the job
/// creates the members in the order of the file, and `GET …/imports/{id}/rows` has the outcome of each row: `created`,
/// `exists` (the tenant has a member with this login, who is not changed) or `refused`. Valid rows are imported though
/// others are refused, and a corrected file can be sent again as a whole. Once the job is finished, the one-time passwords
/// can be fetched once, within 24 hours.
#[utoipa::path(
    post, path = "/tenants/{slug}/users/import", operation_id = "importTenantUsers", tag = "tenant users",
    params(ImportQuery),
    request_body(content((String = "text/csv"), (String = "application/x-ndjson"))),
    responses(
        (status = 200, body = DryRunView, description = "Result of a dry run"),
        (status = 202, body = ImportView),
    ),
)]
pub(super) async fn create(
    w: Write<TenantAccess<ReadWrite>, ImportFile, QueryParams<ImportQuery>>,
) -> Result<ApiResponse, ApiError> {
    let tenant = &w.access.tenant;
    ensure_can_encrypt(&w.app.config)?;
    backfill_domains(&w.app, tenant).await?;
    let import = Import {
        tenant_id: tenant.id,
        rows: &w.body.rows,
        dry_run: w.params.0.dry_run,
    };
    let runner = w.runner();
    let result = runner.run_serialized(&tenant.slug, Some(tenant), &import);
    Ok(result.await?.response)
}

/// An import, or its dry run.
struct Import<'a> {
    tenant_id: TenantId,
    rows: &'a [FileRow],
    dry_run: bool,
}

impl Command for Import<'_> {
    async fn run(
        &self,
        session: &mut ClientSession,
        runner: &CommandRunner<'_>,
    ) -> Result<CommandOutput, Rollback> {
        let db = &runner.app.db;
        let tenant = find_open_tenant(session, runner, self.tenant_id).await?;
        let claims = db.domains.list_in(session, tenant.id).await?;
        let checks = FormChecks {
            domains: MailDomains::new(claims, &tenant),
            by_owner: is_owner(runner.caller, tenant.id),
            lines: HashMap::new(),
        };
        let now = runner.app.store.now();
        let rows = checks.rows(self.rows, now);
        if self.dry_run {
            dry_run(session, runner, &tenant, rows).await
        } else {
            accept(session, runner, &tenant, rows).await
        }
    }
}

/// Checks of the rows that depend on the file, the caller and the tenant's domains alone.
struct FormChecks {
    domains: MailDomains,
    by_owner: bool,
    /// The lines of the addresses so far.
    lines: HashMap<String, i64>,
}

impl FormChecks {
    /// The rows as they are stored: refused or pending.
    fn rows(mut self, rows: &[FileRow], now: DateTime) -> Vec<ImportRow> {
        let retention = JobState::Completed.retention().unwrap_or_default();
        let (import_id, expire_at) = (MemberImportId::new(), clock::later(now, retention));
        let rows = (1..).zip(rows).map(|(n, row)| {
            let mut stored = ImportRow {
                id: ObjectId::new(),
                import_id,
                n,
                line: row.line,
                label: row.label.clone(),
                member: None,
                outcome: RowOutcome::Pending,
                errors: Vec::new(),
                member_id: None,
                password: None,
                password_expires_at: None,
                at: None,
                expire_at,
            };
            let checked = row.member.clone().and_then(|new| {
                self.check(&new, row.line)?;
                Ok(new)
            });
            match checked {
                Ok(new) => stored.member = Some(new),
                Err(errors) => {
                    stored.at = Some(now);
                    stored.refuse(errors);
                }
            }
            stored
        });
        rows.collect()
    }

    fn check(&mut self, new: &NewMember, line: i64) -> Result<(), Vec<RowError>> {
        if new.role == Role::Owner && !self.by_owner {
            let message = "Only owners can create owners.";
            return Err(vec![RowError::at("/role", "forbidden", message)]);
        }
        let resolved = self.domains.resolve(new, self.by_owner);
        let (login, mailbox) = resolved.map_err(RowError::of_address)?;
        let addresses = mailbox.map(|mailbox| mailbox.addresses).unwrap_or_default();
        let mut addresses: Vec<String> = addresses.into_iter().chain([login]).collect();
        addresses.sort();
        addresses.dedup();
        let mut lines = addresses
            .iter()
            .filter_map(|it| self.lines.get_key_value(it));
        if let Some((address, earlier)) = lines.next() {
            let message = format!("Line {earlier} has {address} already.");
            return Err(vec![RowError {
                message: Some(message),
                ..RowError::of_code("duplicate_row")
            }]);
        }
        let addresses = addresses.into_iter();
        self.lines.extend(addresses.map(|address| (address, line)));
        Ok(())
    }
}

/// Decides the rows as the job would, without changes.
async fn dry_run(
    session: &mut ClientSession,
    runner: &CommandRunner<'_>,
    tenant: &Tenant,
    mut rows: Vec<ImportRow>,
) -> Result<CommandOutput, Rollback> {
    let db = &runner.app.db;
    let allowance = db.allowances.of_plan(tenant.plan).await?;
    let by_owner = is_owner(runner.caller, tenant.id);
    let new = rows.iter().filter_map(|row| row.member.as_ref());
    let mut admission = db
        .admission_sources()
        .admission(session, tenant, allowance, by_owner, new)
        .await?;
    let now = runner.app.store.now();
    for row in &mut rows {
        let Some(new) = row.member.take() else {
            continue;
        };
        match admission.admit(&new, now) {
            Ok(_) => row.outcome = RowOutcome::Created,
            Err(rejection) => row.reject(rejection),
        }
    }
    let response = ApiResponse::unversioned(StatusCode::OK, &DryRunView::new(&rows, now));
    Ok(CommandOutput::unchanged(response))
}

/// Stores the import with its job.
async fn accept(
    session: &mut ClientSession,
    runner: &CommandRunner<'_>,
    tenant: &Tenant,
    rows: Vec<ImportRow>,
) -> Result<CommandOutput, Rollback> {
    let (db, now) = (&runner.app.db, runner.app.store.now());
    let Some(first) = rows.first() else {
        return Err(ApiError::internal(anyhow::anyhow!("a file without rows was accepted")).into());
    };
    let args = ImportMembers {
        tenant_id: tenant.id,
        import_id: first.import_id,
    };
    let job = NewJob::new(&args, &runner.actor_id(), now)?;
    let job = runner.enqueue_new(session, job).await?;
    let refused = rows.iter().filter(|row| row.outcome == RowOutcome::Refused);
    let count = |rows: usize| i64::try_from(rows).unwrap_or(i64::MAX);
    let import = MemberImport {
        id: first.import_id,
        tenant_id: tenant.id,
        by_owner: is_owner(runner.caller, tenant.id),
        total: count(rows.len()),
        created: 0,
        exists: 0,
        refused: count(refused.count()),
        job_id: job.id,
        actor: runner.caller.actor(Some(tenant)),
        origin: runner.request.origin(),
        created_at: now,
        finished_at: None,
        expire_at: first.expire_at,
    };
    db.member_imports.insert(session, &import, &rows).await?;

    let target = Target::new("memberImport", import.id, "import_members");
    let mut event = runner.event(now, Action::MemberImportCreate, target, Some(tenant));
    event.after = doc! { "total": import.total, "refused": import.refused };
    let view = ImportView::new(import, Some(&job));
    let response = ApiResponse::unversioned(StatusCode::ACCEPTED, &view);
    Ok(
        CommandOutput::complete(response.at(job_href(job.id)), event)
            .with_jobs(vec![job])
            .with_changed(DocumentChange::Tenant(tenant.id)),
    )
}
