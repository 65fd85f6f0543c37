//! Measurement of all tenants.
//!
//! The file server lists all spaces at once, without pages, so that a crash starts the list again. The mail server is
//! asked for the mailboxes of one tenant after another, from where the attempt before has stopped.

use std::collections::BTreeMap;

use dezky_shared::{
    id::TenantId,
    queue::job::Progress,
    storage_report::{FilesUsage, MailUsage, PersonalSpace},
    store::{storage_reports::StorageReportRepository, tenants::MailTenant},
    tenant::reason,
    upstream::STORAGE_MAIL,
};
use dezky_upstreams::clients::{ClientError, ocis::ListedSpace, stalwart::Stalwart};
use futures::{FutureExt as _, StreamExt as _, stream};
use serde::{Deserialize, Serialize};
use tokio::{sync::mpsc, time::Instant};

use super::{MEASURED, usage_of};
use crate::{
    jobs::partial_failure::{PartialFailures, StoredFailure},
    steps::{StepContext, StepFailure, StepSuccess},
};

/// Spaces held in memory and stored per batch.
const BATCH: usize = 500;
/// Tenants whose mailboxes are measured per batch.
const TENANTS: i64 = 100;
/// Tenants measured at a time: the mail server rejects an account's fifth request.
const CONCURRENCY: usize = 2;

/// Measures the spaces of all tenants.
pub(super) async fn files(run: StepContext) -> Result<StepSuccess, StepFailure> {
    measure(run, Spaces::OfTenants).await
}

/// Measures the personal spaces of all members.
pub(super) async fn personal(run: StepContext) -> Result<StepSuccess, StepFailure> {
    measure(run, Spaces::OfUsers).await
}

#[derive(Clone, Copy)]
enum Spaces {
    OfTenants,
    OfUsers,
}

/// Stores the usage of all spaces while they are listed, batch by batch.
async fn measure(run: StepContext, spaces: Spaces) -> Result<StepSuccess, StepFailure> {
    let Some(client) = &run.ctx.clients.ocis else {
        return Ok(StepSuccess::skipped(reason::INTEGRATION_DISABLED));
    };
    let client = client.with_deadline(&run.deadline);
    let (sender, mut listed) = mpsc::channel(BATCH);
    let store = async {
        let mut batch = Vec::with_capacity(BATCH);
        while listed.recv_many(&mut batch, BATCH).await > 0 {
            match spaces {
                Spaces::OfTenants => store_spaces(&run, &batch).await?,
                Spaces::OfUsers => store_personal_spaces(&run, &batch).await?,
            }
            batch.clear();
        }
        // Owned here, so that an error ends the list.
        drop(listed);
        Ok::<_, StepFailure>(())
    };
    let list = async {
        match spaces {
            Spaces::OfTenants => client.list_spaces(sender).await,
            Spaces::OfUsers => client.list_personal_spaces(sender).await,
        }
    };
    let (listed, stored) = tokio::join!(list, store);
    stored?;
    listed?;
    Ok(done())
}

/// Stores the usage of the personal spaces of members' users.
async fn store_personal_spaces(
    run: &StepContext,
    spaces: &[ListedSpace],
) -> Result<(), StepFailure> {
    let as_of = run.ctx.store.now();
    let owned = spaces.iter().filter_map(|space| {
        let usage = space.usage();
        Some((space.owner_id()?.to_owned(), PersonalSpace { as_of, usage }))
    });
    let measured = (&run.ctx.members, owned.collect::<Vec<_>>());
    run.fenced_transaction(measured, |session, (members, spaces)| {
        members.set_personal_spaces(session, spaces).boxed()
    })
    .await
}

/// Stores the usage of those spaces that exactly one tenant stores.
async fn store_spaces(run: &StepContext, spaces: &[ListedSpace]) -> Result<(), StepFailure> {
    let as_of = run.ctx.store.now();
    let ids: Vec<String> = spaces.iter().map(|space| space.id.clone()).collect();
    let mut holders: BTreeMap<String, Vec<TenantId>> = BTreeMap::new();
    for holder in run.ctx.tenants.list_space_holders(&ids).await? {
        let id = holder.ocis_space_id.unwrap_or_default();
        holders.entry(id).or_default().push(holder.id);
    }
    let usages = spaces.iter().filter_map(|space| {
        let [tenant] = holders.get(&space.id)?[..] else {
            return None;
        };
        let space = Some(space.usage());
        Some((tenant, FilesUsage { as_of, space }))
    });
    let measured = (&run.ctx.storage_reports, usages.collect::<Vec<_>>());
    run.fenced_transaction(measured, |session, (reports, usages)| {
        reports.set_files_many(session, usages).boxed()
    })
    .await
}

/// Measures the mailboxes of all tenants, ordered by id.
pub(super) async fn mail(run: StepContext) -> Result<StepSuccess, StepFailure> {
    let Some(client) = &run.ctx.clients.stalwart else {
        return Ok(StepSuccess::skipped(reason::INTEGRATION_DISABLED));
    };
    let client = client.with_deadline(&run.deadline);
    let Pass {
        mut measured,
        mut after,
        mut failures,
    } = Pass::resume(&run);
    loop {
        let tenants = run.ctx.tenants.list_with_mail_domains(after, TENANTS);
        let tenants = tenants.await?;
        let Some(last) = tenants.last().map(|tenant| tenant.id) else {
            failures.finish_pass(progress(measured, None))?;
            return Ok(done());
        };
        let count = i64::try_from(tenants.len()).unwrap_or(0);
        measure_batch(&run, &client, tenants, &mut failures).await?;
        measured += count;
        after = Some(last);
        if Instant::now() >= run.yield_after {
            let position = Position {
                after: last,
                failure: failures.stored(),
            };
            let progress = progress(measured, serde_json::to_string(&position).ok());
            let now = run.ctx.store.now();
            return Ok(StepSuccess::unfinished(now, progress, Vec::new()));
        }
    }
}

/// One pass over all tenants with mail domains, over several attempts.
#[derive(Default)]
struct Pass {
    /// Number of tenants measured.
    measured: i64,
    /// The last of them.
    after: Option<TenantId>,
    failures: PartialFailures,
}

/// The position of a pass, as stored in the progress.
#[derive(Serialize, Deserialize)]
struct Position {
    after: TenantId,
    /// The failure that was captured up to here: it fails the step at the end of the pass.
    failure: Option<StoredFailure>,
}

impl Pass {
    /// The pass that the attempt before left unfinished, or a new one.
    fn resume(run: &StepContext) -> Self {
        let step = run.job.step(STORAGE_MAIL);
        let progress = step.and_then(|step| step.progress.as_ref());
        let resumed = progress.and_then(|progress| {
            let position: Position = serde_json::from_str(progress.cursor.as_ref()?).ok()?;
            Some(Self {
                measured: progress.done,
                after: Some(position.after),
                failures: PartialFailures::resume(position.failure),
            })
        });
        resumed.unwrap_or_default()
    }
}

fn progress(measured: i64, cursor: Option<String>) -> Progress {
    Progress {
        done: measured,
        total: measured,
        note: "tenants".to_owned(),
        cursor,
    }
}

/// Measures some tenants. The failure of one tenant alone does not prevent the measurement of the others.
async fn measure_batch(
    run: &StepContext,
    client: &Stalwart,
    tenants: Vec<MailTenant>,
    failures: &mut PartialFailures,
) -> Result<(), StepFailure> {
    type Measured = (TenantId, Result<MailUsage, ClientError>);
    let results: Vec<Measured> = stream::iter(tenants)
        .map(async |MailTenant { id, mail_domains }| {
            (id, usage_of(run, client, id, &mail_domains).await)
        })
        .buffer_unordered(CONCURRENCY)
        .collect()
        .await;
    for (tenant, usage) in results {
        let Some(usage) = failures.capture(usage)? else {
            continue;
        };
        let measured = (&run.ctx.storage_reports, tenant, usage);
        run.fenced_transaction(measured, |session, measured| {
            let (reports, tenant, usage): &mut (&StorageReportRepository, _, _) = measured;
            reports.set_mail(session, *tenant, usage).boxed()
        })
        .await?;
    }
    Ok(())
}

fn done() -> StepSuccess {
    StepSuccess::ok(MEASURED, Vec::new())
}
