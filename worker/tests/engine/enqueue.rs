//! Enqueue: a change joins the available job with its unique key by writing to it.

use std::time::Duration;

use bson::doc;
use dezky_shared::{
    id::TenantId,
    platform::clock,
    queue::{
        args::{DeprovisionTenant, ReconcileTenant},
        job::{JobArgs, JobState},
        priority::Priority,
    },
    store::{TransactionError, VersionedRepository as _, jobs::NewJob},
    upstream::Upstream,
};
use dezky_worker::steps::{Registry, Steps};
use futures::{FutureExt as _, future::join_all};

use crate::{
    harness::Harness,
    script::{Joining, Script},
};

const HOUR: Duration = Duration::from_hours(1);

#[tokio::test(flavor = "multi_thread")]
async fn a_change_joins_the_available_job_and_restarts_it() {
    let harness = Harness::new().await;
    let args = Joining {
        tenant_id: TenantId::new(),
    };
    let first = harness.enqueue_unannounced(&args).await;
    let later = clock::later(first.run_at, HOUR);
    let stale = doc! {
        "runAt": later,
        "giveUpAt": first.run_at,
        "priority": 2,
        "attempt": 5,
        "crashes": 2,
        "steps": [{ "name": "work", "state": "ok", "attempts": 3 }],
        "error": { "code": "internal", "class": "bug", "message": "", "detail": "", "retryable": true },
        "cancelRequested": true,
    };
    harness.edit_job(first.id, stale).await;

    let joined = harness.enqueue_unannounced(&args).await;

    assert_eq!(joined.id, first.id);
    assert_eq!(joined.revision, first.revision + 1);
    assert!(joined.run_at < later, "the earlier run time applies");
    assert_eq!(
        joined.priority,
        Priority::Interactive,
        "the higher priority applies"
    );
    assert!(joined.give_up_at.unwrap() > later);
    assert_eq!((joined.attempt, joined.crashes), (0, 0));
    assert!(
        joined.steps.is_empty() && joined.error.is_none(),
        "results for the old desired state are discarded"
    );
    assert_eq!(
        joined.cancel_requested, None,
        "the cancellation applied to the old desired state only"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn joining_neither_delays_a_job_nor_lowers_its_priority() {
    let harness = Harness::new().await;
    let args = Joining {
        tenant_id: TenantId::new(),
    };
    let first = harness.enqueue_unannounced(&args).await;
    let sooner = clock::earlier(first.run_at, HOUR);
    harness
        .edit_job(first.id, doc! { "runAt": sooner, "priority": 0 })
        .await;

    let joined = harness.enqueue_unannounced(&args).await;

    let kept = (joined.run_at, joined.priority);
    assert_eq!(kept, (sooner, Priority::Security));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_job_is_not_joined_as_it_may_have_read_the_old_desired_state() {
    let harness = Harness::new().await;
    let args = Joining {
        tenant_id: TenantId::new(),
    };
    let running = harness.enqueue_unannounced(&args).await;
    harness
        .edit_job(running.id, doc! { "state": "running" })
        .await;

    let second = harness.enqueue_unannounced(&args).await;

    assert_ne!(second.id, running.id);
    assert_eq!(harness.job(running.id).await.revision, running.revision);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_and_a_purge_join_no_other_job() {
    async fn joins(harness: &Harness, args: &impl JobArgs) -> bool {
        harness.enqueue_unannounced(args).await.id == harness.enqueue_unannounced(args).await.id
    }
    let harness = Harness::new().await;
    let tenant_id = TenantId::new();

    assert!(
        joins(
            &harness,
            &ReconcileTenant {
                tenant_id,
                dry_run: false
            }
        )
        .await
    );
    assert!(
        !joins(
            &harness,
            &ReconcileTenant {
                tenant_id,
                dry_run: true
            }
        )
        .await
    );
    assert!(!joins(&harness, &DeprovisionTenant { tenant_id }).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_changes_result_in_one_job_without_errors() {
    let harness = Harness::new().await;
    let tenant = harness.add_tenant("acme", &[]).await;

    let enqueued = join_all((0..16).map(|_| async {
        let new = NewJob::new(&Joining::of(&tenant), "test", harness.context.store.now()).unwrap();
        let changed: Result<_, TransactionError<()>> = harness
            .context
            .store
            .transaction((&harness.context, &new), |session, (context, new)| {
                async move {
                    let job = context.jobs.enqueue(session, new).await?;
                    context
                        .tenants
                        .find_for_update(session, tenant.id)
                        .await?
                        .unwrap();
                    Ok(job)
                }
                .boxed()
            })
            .await;
        changed
    }))
    .await;

    let first = enqueued[0].as_ref().unwrap().id;
    assert!(
        enqueued
            .iter()
            .all(|job| job.as_ref().is_ok_and(|job| job.id == first)),
        "{enqueued:#?}"
    );
    assert_eq!(harness.job(first).await.revision, 16);
    assert_eq!(
        harness.tenant(tenant.id).await.revision,
        tenant.revision + 16
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_not_claimed_while_a_joining_change_is_uncommitted() {
    let harness = Harness::new().await;
    let tenant = harness.add_tenant("acme", &[]).await;
    let args = Joining::of(&tenant);
    let job = harness.enqueue(&args).await;
    let new = NewJob::new(&args, "test", harness.context.store.now()).unwrap();
    let context = harness.context.clone();
    let joining = harness
        .open(move |session| {
            let (context, new) = (context.clone(), new.clone());
            async move {
                let mut changed = context
                    .tenants
                    .find_for_update(session, tenant.id)
                    .await?
                    .unwrap();
                changed.generation += 1;
                context.tenants.save(session, &changed).await?;
                context.jobs.enqueue(session, &new).await?;
                Ok(())
            }
            .boxed()
        })
        .await;
    let script = Script::new([]);
    let registry = Registry::default()
        .register::<Joining>(Steps::parallel().upstream(Upstream::Authentik, script.step()));

    let worker = harness.worker_of("worker", registry, 8);
    harness.until_an_update_is_blocked().await;
    let claimed_early = harness.job(job.id).await.state;
    joining.commit().await;
    harness.finished(job.id).await;
    worker.stop().await;

    assert_eq!(claimed_early, JobState::Available);
    let runs = script.runs();
    assert_eq!(runs.len(), 1);
    assert_eq!(
        runs[0].tenant.as_ref().unwrap().generation,
        2,
        "the desired state is read after the claim"
    );
}
