//! Imports of members: creates the members of the rows, in order, as the api creates one.
//!
//! A batch is one transaction: fence the lease, read the rows that are pending, create their members, a
//! `provision_member` job and an audit event for each, keep a copy of their encrypted one-time passwords, and settle the
//! rows. A killed worker therefore creates no member twice and loses no password; the cursor in the job's progress only
//! saves the next attempt from reading settled rows.

use std::time::Duration;

use bson::{DateTime, Document};
use dezky_shared::{
    audit::{Action, AuditEvent, Outcome, Target},
    member::{Admission, Mailbox, Member, generate_password},
    member_import::{
        ImportRow, ImportedPassword, MemberImport, PASSWORDS_KEPT, RowError, RowOutcome,
        RowPassword,
    },
    platform::{change_feed::DocumentChange, clock},
    queue::{
        args::{ImportMembers, ProvisionMember},
        error_code::ErrorCode,
        job::{Job, Progress},
    },
    store::{StoreError, VersionedRepository as _, jobs::NewJob, members::AdmissionSources},
    tenant::{Tenant, TenantStatus, reason},
};
use futures::FutureExt as _;
use mongodb::ClientSession;

use crate::steps::{StepContext, StepFailure, StepSuccess, Steps};

/// Rows of a batch.
const BATCH: i64 = 25;
/// Time limit of an attempt. Between attempts the import can be cancelled and other jobs can run.
const SLICE: Duration = Duration::from_secs(5);

/// The single step of an import.
pub(super) fn steps() -> Steps {
    Steps::parallel().step("rows", run_rows)
}

async fn run_rows(run: StepContext) -> Result<StepSuccess, StepFailure> {
    let args: ImportMembers = run.args()?;
    let (ctx, imports) = (&run.ctx, &run.ctx.member_imports);
    let Some(import) = imports.find(args.tenant_id, args.import_id).await? else {
        tracing::info!("The import was deleted: nothing to do");
        return Ok(StepSuccess::skipped(reason::REMOVED));
    };
    if !ctx.encryption_keys.can_encrypt() {
        let detail = "SEALING_KEYS is not set";
        return Err(StepFailure::new(ErrorCode::SecretsUnreadable, detail));
    }
    let began = ctx.store.now();
    let mut after = cursor(&run.job);
    loop {
        if clock::until(began, ctx.store.now()) >= SLICE {
            return Ok(StepSuccess::continue_at(ctx.store.now()));
        }
        let batch = Batch {
            run: &run,
            import: &import,
            after,
        };
        let done = run
            .fenced_transaction(batch, |session, batch| batch.run(session).boxed())
            .await?;
        let Some(last) = done.last else { break };
        after = last;
        ctx.ready.notify(&done.jobs).await;
        ctx.changes
            .publish(&[DocumentChange::Tenant(import.tenant_id)])
            .await;
        run.save_progress(&progress(&import, after)).await?;
    }
    run.save_progress(&progress(&import, import.total)).await?;
    imports.finish(import.id, ctx.store.now()).await?;
    Ok(StepSuccess::ok(reason::PROVISIONED, Vec::new()))
}

/// Position of the last processed row.
fn cursor(job: &Job) -> i64 {
    let saved = job.progress.as_ref().and_then(|done| done.cursor.as_ref());
    saved.and_then(|n| n.parse().ok()).unwrap_or(0)
}

fn progress(import: &MemberImport, done: i64) -> Progress {
    Progress {
        done,
        total: import.total,
        note: "rows".to_owned(),
        cursor: Some(done.to_string()),
    }
}

/// The next rows of an import.
struct Batch<'a> {
    run: &'a StepContext,
    import: &'a MemberImport,
    after: i64,
}

/// A processed batch.
#[derive(Default)]
struct Done {
    /// Position of its last row; `None` if no row was left.
    last: Option<i64>,
    /// The jobs of the created members.
    jobs: Vec<Job>,
}

/// Documents that the rows of a batch create.
#[derive(Default)]
struct Created {
    members: Vec<Member>,
    jobs: Vec<NewJob>,
    events: Vec<AuditEvent>,
    passwords: Vec<ImportedPassword>,
}

impl Batch<'_> {
    async fn run(&self, session: &mut ClientSession) -> Result<Done, StoreError> {
        let (ctx, import) = (&self.run.ctx, self.import);
        let imports = &ctx.member_imports;
        let rows = imports.list_pending(session, import.id, self.after, BATCH);
        let mut rows = rows.await?;
        let Some(last) = rows.last().map(|row| row.n) else {
            return Ok(Done::default());
        };
        // Members are counted: those created at once by another transaction must conflict.
        let tenants = &ctx.tenants;
        let tenant = tenants
            .materialize_conflict(session, import.tenant_id)
            .await?;
        let created = if let Some(tenant) = tenant.filter(accepts_members) {
            self.create(session, &tenant, &mut rows).await?
        } else {
            let now = ctx.store.now();
            for row in &mut rows {
                row.at = Some(now);
                row.refuse(vec![RowError::of_code("tenant_terminating")]);
            }
            Created::default()
        };
        let mut jobs = Vec::new();
        for (member, job) in created.members.iter().zip(&created.jobs) {
            ctx.members.insert(session, member).await?;
            jobs.push(ctx.jobs.enqueue_new(session, job).await?);
        }
        ctx.audit.record_all(session, &created.events).await?;
        imports.add_passwords(session, &created.passwords).await?;
        imports
            .settle(session, import.id, &rows, self.run.job.id)
            .await?;
        Ok(Done {
            last: Some(last),
            jobs,
        })
    }

    /// The members of the rows that are admitted. Decides every row.
    async fn create(
        &self,
        session: &mut ClientSession,
        tenant: &Tenant,
        rows: &mut [ImportRow],
    ) -> Result<Created, StoreError> {
        let ctx = &self.run.ctx;
        let allowance = ctx.allowances.of_plan(tenant.plan).await?;
        let sources = AdmissionSources {
            members: &ctx.members,
            domains: &ctx.domains,
            tenants: &ctx.tenants,
            users: &ctx.users,
        };
        let by_owner = self.import.by_owner;
        let new = rows.iter().filter_map(|row| row.member.as_ref());
        let mut admission = sources
            .admission(session, tenant, allowance, by_owner, new)
            .await?;
        let mut created = Created::default();
        for row in rows {
            self.decide(row, &mut admission, &mut created)?;
        }
        let mailboxes = created.members.iter().filter_map(|it| it.mailbox.as_ref());
        let domains: Vec<_> = mailboxes.flat_map(Mailbox::domain_ids).collect();
        ctx.domains.materialize_conflicts(session, domains).await?;
        Ok(created)
    }

    /// Decides a row, and adds its member, job, audit event and password.
    fn decide(
        &self,
        row: &mut ImportRow,
        admission: &mut Admission,
        created: &mut Created,
    ) -> Result<(), StoreError> {
        let now = self.run.ctx.store.now();
        row.at = Some(now);
        let Some(new) = row.member.clone() else {
            // Settled as refused when the import was accepted.
            return Err(StoreError::custom("a pending row has no member".to_owned()));
        };
        match admission.admit(&new, now) {
            Ok(member) => self.add(row, member, admission, created, now),
            Err(rejection) => {
                row.reject(rejection);
                Ok(())
            }
        }
    }

    fn add(
        &self,
        row: &mut ImportRow,
        mut member: Member,
        admission: &Admission,
        created: &mut Created,
        now: DateTime,
    ) -> Result<(), StoreError> {
        let args = ProvisionMember {
            tenant_id: member.tenant_id,
            member_id: member.id,
        };
        let is_elsewhere = admission.is_elsewhere(&member);
        let opens_anything = member.first_password_scope(is_elsewhere).is_some();
        let secrets = member.issue_password(generate_password(), now);
        let job = NewJob::new(&args, &self.run.job.created_by, now)?
            .child_of(&self.run.job, &row.n.to_string())
            .with_secrets(&self.run.ctx.encryption_keys, &secrets)
            .map_err(|error| StoreError::custom(error.to_string()))?;
        if let Some(encrypted) = job.job().secrets.as_ref().filter(|_| opens_anything) {
            let expire_at = clock::later(now, PASSWORDS_KEPT);
            row.password = Some(RowPassword::InFile);
            row.password_expires_at = Some(expire_at);
            created.passwords.push(ImportedPassword {
                job_id: job.job().id,
                import_id: self.import.id,
                member_id: member.id,
                secrets: encrypted.clone(),
                expire_at,
            });
        }
        row.outcome = RowOutcome::Created;
        row.member_id = Some(member.id);
        created.events.push(self.event(&member, &job, now));
        created.members.push(member);
        created.jobs.push(job);
        Ok(())
    }

    fn event(&self, member: &Member, job: &NewJob, now: DateTime) -> AuditEvent {
        let target = Target {
            kind: "member".to_owned(),
            id: member.id.to_string(),
            name: member.email.clone(),
        };
        let (actor, origin) = (self.import.actor.clone(), self.import.origin.clone());
        let mut event = AuditEvent::new(now, actor, Action::MemberCreate, target, origin)
            .with_changes(&Document::new(), &member.audited_fields());
        event.after.insert("memberImportId", self.import.id);
        event.tenant_id = Some(member.tenant_id);
        event.job_id = Some(job.job().id);
        event.outcome = Outcome::Accepted;
        event
    }
}

/// Whether members can be created in the tenant: in a suspended one too, where they are suspended with it.
fn accepts_members(tenant: &Tenant) -> bool {
    match tenant.status {
        TenantStatus::Pending | TenantStatus::Active | TenantStatus::Suspended => true,
        TenantStatus::Terminating | TenantStatus::Terminated => false,
    }
}
