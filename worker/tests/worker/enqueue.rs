//! A new intent joins the job that waits, by writing it.

use std::time::Duration;

use bson::doc;
use dezky_shared::{
    id::TenantId,
    platform::clock,
    queue::{
        args::{DeprovisionTenant, ReconcileTenant},
        job::{JobArgs, JobState},
    },
    store::{TransactionError, jobs::NewJob},
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
async fn an_intent_joins_the_job_that_waits_and_starts_it_afresh() {
    let harness = Harness::new().await;
    let args = Joining {
        tenant_id: TenantId::new(),
    };
    let first = harness.enqueue_silently(&args).await;
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

    let joined = harness.enqueue_silently(&args).await;

    assert_eq!(joined.id, first.id);
    assert_eq!(joined.revision, first.revision + 1);
    assert!(
        joined.run_at < later,
        "it is due when the sooner of the two is"
    );
    assert_eq!(
        joined.priority, 1,
        "it is as urgent as the more urgent of the two"
    );
    assert!(joined.give_up_at.unwrap() > later);
    assert_eq!((joined.attempt, joined.crashes), (0, 0));
    assert!(
        joined.steps.is_empty() && joined.error.is_none(),
        "what was done for the old intent says nothing"
    );
    assert_eq!(
        joined.cancel_requested, None,
        "the old intent was cancelled, not the new one"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_intent_neither_puts_off_nor_demotes_the_job_it_joins() {
    let harness = Harness::new().await;
    let args = Joining {
        tenant_id: TenantId::new(),
    };
    let first = harness.enqueue_silently(&args).await;
    let sooner = clock::earlier(first.run_at, HOUR);
    harness
        .edit_job(first.id, doc! { "runAt": sooner, "priority": 0 })
        .await;

    let joined = harness.enqueue_silently(&args).await;

    assert_eq!((joined.run_at, joined.priority), (sooner, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_job_is_not_joined_because_it_may_have_read_the_old_intent() {
    let harness = Harness::new().await;
    let args = Joining {
        tenant_id: TenantId::new(),
    };
    let running = harness.enqueue_silently(&args).await;
    harness
        .edit_job(running.id, doc! { "state": "running" })
        .await;

    let second = harness.enqueue_silently(&args).await;

    assert_ne!(second.id, running.id);
    assert_eq!(harness.job(running.id).await.revision, running.revision);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_and_a_purge_join_nothing() {
    async fn joins(harness: &Harness, args: &impl JobArgs) -> bool {
        harness.enqueue_silently(args).await.id == harness.enqueue_silently(args).await.id
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
async fn many_intents_at_once_give_one_job_and_none_of_them_is_refused() {
    let harness = Harness::new().await;
    let tenant = harness.add_tenant("acme", &[]).await;

    let enqueued = join_all((0..16).map(|_| async {
        let new = NewJob::new(
            &Joining {
                tenant_id: tenant.id,
            },
            "test",
            harness.context.store.now(),
        )
        .unwrap();
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
async fn a_job_is_not_claimed_while_an_intent_that_joins_it_is_not_committed() {
    let harness = Harness::new().await;
    let tenant = harness.add_tenant("acme", &[]).await;
    let args = Joining {
        tenant_id: tenant.id,
    };
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
        "the intent is read after the claim"
    );
}
