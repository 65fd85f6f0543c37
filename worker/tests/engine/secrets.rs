//! Job secrets.

use dezky_shared::{
    queue::{
        error_code::ErrorCode,
        job::{Job, JobState, StepState},
        secret_box::EncryptionKeys,
    },
    store::jobs::NewJob,
    tenant::reason,
};
use dezky_worker::steps::{Registry, StepSuccess, Steps};

use crate::{
    harness::{Harness, encryption_keys},
    script::Lone,
};

const SECRET: &str = "correct horse";

/// A kind whose step succeeds if it can read the secret.
fn registry() -> Registry {
    Registry::default().register::<Lone>(Steps::parallel().step("read", async |run| {
        let secret: String = run.secrets()?;
        assert_eq!(secret, SECRET);
        Ok(StepSuccess::ok(reason::PROVISIONED, Vec::new()))
    }))
}

async fn enqueue(harness: &Harness, keys: &EncryptionKeys) -> Job {
    let new = NewJob::new(&Lone { n: 1 }, "test", harness.context.store.now())
        .unwrap()
        .with_secrets(keys, &SECRET)
        .unwrap();
    harness.enqueue_new(&new).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_reads_the_secrets_and_the_finished_job_has_none() {
    let harness = Harness::new().await;
    let job = enqueue(&harness, &encryption_keys()).await;
    let stored = harness.stored_job(job.id).await.to_string();

    let worker = harness.worker_of("worker", registry(), 1);
    let done = harness.finished(job.id).await;
    worker.stop().await;

    assert!(!stored.contains(SECRET), "{stored}");
    assert_eq!((done.state, done.secrets), (JobState::Completed, None));
    assert!(done.had_secrets);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retired_key_still_decrypts() {
    let harness = Harness::new().await;
    let before = EncryptionKeys::parse([&*format!("old:{}=", "E".repeat(43))]).unwrap();
    let job = enqueue(&harness, &before).await;

    let worker = harness.worker_of("worker", registry(), 1);
    let done = harness.finished(job.id).await;
    worker.stop().await;

    assert_eq!(done.state, JobState::Completed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_the_key_snoozes_the_job_uncharged() {
    let harness = Harness::new().await;
    let lost = EncryptionKeys::parse([&*format!("lost:{}=", "I".repeat(43))]).unwrap();
    let job = enqueue(&harness, &lost).await;

    let worker = harness.worker_of("worker", registry(), 1);
    let held = harness.job_until(job.id, |job| job.snoozes > 0).await;
    worker.stop().await;

    let error = held.steps[0].error.clone().unwrap();
    assert_eq!((held.state, held.attempt), (JobState::Available, 0));
    assert_eq!(held.steps[0].state, StepState::Error);
    assert_eq!(error.code, ErrorCode::SecretsUnreadable);
    assert!(error.detail.contains("lost"), "{}", error.detail);
    assert!(held.secrets.is_some());
}
