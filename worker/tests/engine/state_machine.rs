//! State machine test: random sequences of events on a job, compared with a small model.

use std::time::Duration;

use bson::doc;
use dezky_shared::{
    id::{JobId, TenantId},
    platform::clock,
    queue::{
        error_code::{ErrorCode, RetryPolicy},
        job::{Job, JobState},
    },
};
use dezky_worker::{
    engine::EngineTimings,
    steps::{Registry, Steps},
};
use proptest::{
    collection::vec,
    prelude::*,
    sample::select,
    test_runner::{Config, TestRunner},
};

use crate::{
    harness::{Harness, fast_timings},
    script::{Joining, Script, Scripted},
};

/// Attempts of a job.
const MOST_ATTEMPTS: i32 = 3;
/// Crashes until a job is discarded.
const MOST_CRASHES: i32 = 3;

/// An event.
#[derive(Debug, Clone, Copy)]
enum Event {
    /// A worker claims the job and its step ends, while something else happens.
    Run {
        failure: Option<ErrorCode>,
        meanwhile: Meanwhile,
    },
    /// A worker claims and starts the job, then crashes.
    Crash,
    /// The job has expired when a worker claims it.
    GiveUp,
    /// An operator cancels the job.
    Cancel,
    /// An operator requeues the job.
    Requeue,
    /// The same change is enqueued again.
    Join,
}

/// A concurrent event while a job runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meanwhile {
    Nothing,
    Cancel,
    Join,
}

/// The expected job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Model {
    state: JobState,
    attempt: i32,
    crashes: i32,
    snoozes: i32,
}

impl Model {
    const NEW: Self = Self {
        state: JobState::Available,
        attempt: 0,
        crashes: 0,
        snoozes: 0,
    };

    fn of(job: &Job) -> Self {
        Self {
            state: job.state,
            attempt: job.attempt,
            crashes: job.crashes,
            snoozes: job.snoozes,
        }
    }

    fn run(&mut self, failure: Option<ErrorCode>, meanwhile: Meanwhile) {
        self.attempt += 1;
        let Some(code) = failure else {
            self.state = JobState::Completed;
            return;
        };
        let exhausted = self.attempt >= MOST_ATTEMPTS;
        match (code.retry_policy(), meanwhile) {
            (RetryPolicy::Never, _) => self.state = JobState::Discarded,
            (RetryPolicy::Counted, _) if exhausted => self.state = JobState::Discarded,
            // The available job supersedes it.
            (_, Meanwhile::Join) => self.state = JobState::Cancelled,
            (RetryPolicy::Counted, _) => self.crashes = 0,
            (RetryPolicy::Free | RetryPolicy::AfterHold, _) => {
                self.attempt -= 1;
                self.snoozes += 1;
                self.crashes = 0;
            }
        }
        // Not observed during the run: the job ends at its next claim, which is immediate.
        if meanwhile == Meanwhile::Cancel && self.state == JobState::Available {
            self.attempt += 1;
            self.state = JobState::Cancelled;
        }
    }

    fn crash(&mut self) {
        self.crashes += 1;
        if self.crashes == MOST_CRASHES {
            self.state = JobState::Discarded;
            self.attempt += 1;
        }
    }

    fn restart(&mut self) {
        self.attempt = 0;
        self.crashes = 0;
    }
}

#[test]
fn a_job_matches_its_model_after_any_sequence_of_events() {
    let mut runner = TestRunner::new(Config {
        cases: 12,
        max_shrink_iters: 12,
        failure_persistence: None,
        ..Config::default()
    });
    let runtime = tokio::runtime::Runtime::new().unwrap();

    runner
        .run(&vec(any_event(), 1..10), |events| {
            runtime.block_on(replay(&events));
            Ok(())
        })
        .unwrap();
}

fn any_event() -> impl Strategy<Value = Event> {
    let failure = prop::option::weighted(
        0.85,
        select(vec![
            ErrorCode::UpstreamUnavailable,
            ErrorCode::UpstreamConflict,
            ErrorCode::UpstreamAnswerLost,
            ErrorCode::SecretsUnreadable,
            ErrorCode::DomainInvalid,
        ]),
    );
    let meanwhile = prop_oneof![
        4 => Just(Meanwhile::Nothing),
        1 => Just(Meanwhile::Cancel),
        1 => Just(Meanwhile::Join),
    ];
    prop_oneof![
        6 => (failure, meanwhile).prop_map(|(failure, meanwhile)| Event::Run { failure, meanwhile }),
        3 => Just(Event::Crash),
        1 => Just(Event::GiveUp),
        1 => Just(Event::Cancel),
        2 => Just(Event::Requeue),
        2 => Just(Event::Join),
    ]
}

/// Successive jobs with the same unique key; the last one is open.
struct Life {
    harness: Harness,
    tenant: TenantId,
    job: JobId,
    model: Model,
    /// Final jobs, as of their end.
    over: Vec<Job>,
}

async fn replay(events: &[Event]) {
    let mut harness = Harness::new().await;
    harness.times = without_delays();
    let tenant = harness.add_tenant("acme", &[]).await.id;
    let job = harness
        .enqueue_unannounced(&Joining { tenant_id: tenant })
        .await;
    let mut life = Life {
        harness,
        tenant,
        job: job.id,
        model: Model::NEW,
        over: Vec::new(),
    };
    life.limit_attempts().await;

    for event in events {
        life.apply(*event).await;
        life.check(*event).await;
    }
}

/// No delays.
fn without_delays() -> EngineTimings {
    let moment = Duration::from_millis(1);
    EngineTimings {
        retry_base: moment,
        in_doubt_wait: moment,
        hold_backoff: moment,
        // The renewal of a lease returns a requested cancellation.
        renew_every: Duration::from_secs(5),
        rescue_every: Duration::from_millis(10),
        rescue_spread: moment,
        rescue_grace: moment,
        ..fast_timings()
    }
}

impl Life {
    async fn apply(&mut self, event: Event) {
        let waits = self.model.state == JobState::Available;
        match event {
            Event::Run { failure, meanwhile } if waits => self.run(failure, meanwhile).await,
            Event::Crash if waits => self.crash().await,
            Event::GiveUp if waits => self.expire().await,
            Event::Cancel if waits => {
                self.harness.cancel(self.job).await;
                self.model.state = JobState::Cancelled;
            }
            Event::Requeue => {
                let again = self.harness.requeue(self.job).await.unwrap();
                self.continue_as(&again.job).await;
            }
            Event::Join => {
                let tenant_id = self.tenant;
                let joined = self
                    .harness
                    .enqueue_unannounced(&Joining { tenant_id })
                    .await;
                self.continue_as(&joined).await;
            }
            // Final jobs do not change.
            Event::Run { .. } | Event::Crash | Event::GiveUp | Event::Cancel => {}
        }
    }

    async fn run(&mut self, failure: Option<ErrorCode>, meanwhile: Meanwhile) {
        let say = failure.map_or(Scripted::Ok, Scripted::Fail);
        let script = Script::blocking([say]);
        let steps = Steps::parallel().step("work", script.step());
        let registry = Registry::default().register::<Joining>(steps);

        self.announce().await;
        let worker = self.harness.worker_of("worker", registry, 1);
        script.until_runs(1).await;
        let joined = match meanwhile {
            Meanwhile::Nothing => None,
            Meanwhile::Cancel => {
                self.harness.cancel(self.job).await;
                None
            }
            Meanwhile::Join => {
                let tenant_id = self.tenant;
                Some(
                    self.harness
                        .enqueue_unannounced(&Joining { tenant_id })
                        .await,
                )
            }
        };
        // Claims no more jobs and finishes the current one.
        worker.request_stop();
        script.release(1);
        worker.stop().await;

        self.model.run(failure, meanwhile);
        if meanwhile == Meanwhile::Cancel {
            self.announce().await;
            let worker = self.harness.worker_of("worker", Registry::default(), 1);
            self.harness.finished(self.job).await;
            worker.stop().await;
        }
        if let Some(joined) = joined {
            self.continue_as(&joined).await;
        }
    }

    /// Leaves the job as a crashed worker does.
    async fn crash(&mut self) {
        let context = &self.harness.context;
        let past = clock::earlier(context.store.now(), Duration::from_mins(1));
        let lease = doc! {
            "token": dezky_shared::id::LeaseToken::new(),
            "worker": "gone",
            "until": past,
            "startedAt": past,
        };
        let claimed = doc! {
            "state": JobState::Running.name(),
            "attempt": self.model.attempt + 1,
            "lease": lease,
        };
        self.harness.edit_job(self.job, claimed).await;
        let leader = self.harness.leader();
        let rescued = |job: &Job| job.state != JobState::Running;
        self.harness.job_until(self.job, rescued).await;
        leader.stop().await;
        self.model.crash();
    }

    async fn expire(&mut self) {
        let past = clock::earlier(self.harness.context.store.now(), Duration::from_mins(1));
        let over = doc! { "giveUpAt": past };
        self.harness.edit_job(self.job, over).await;
        self.announce().await;
        let steps = Steps::parallel().step("work", Script::new([]).step());
        let registry = Registry::default().register::<Joining>(steps);
        let worker = self.harness.worker_of("worker", registry, 1);
        self.harness.finished(self.job).await;
        worker.stop().await;
        self.model.attempt += 1;
        self.model.state = JobState::Discarded;
    }

    /// Joining and requeueing restart the job, or clone a final one.
    async fn continue_as(&mut self, job: &Job) {
        if job.id == self.job {
            self.model.restart();
            return;
        }
        let ended = self.harness.job(self.job).await;
        assert_eq!(Model::of(&ended), self.model);
        assert!(ended.state.is_final(), "{ended:#?}");
        self.over.push(ended);
        self.job = job.id;
        self.model = Model::NEW;
        self.limit_attempts().await;
    }

    async fn limit_attempts(&self) {
        let limit = doc! { "maxAttempts": MOST_ATTEMPTS };
        self.harness.edit_job(self.job, limit).await;
    }

    async fn announce(&self) {
        let job = self.harness.job(self.job).await;
        let ready = &self.harness.context.ready;
        ready.notify(std::slice::from_ref(&job)).await;
    }

    async fn check(&self, event: Event) {
        let job = self.harness.job(self.job).await;
        let about = format!("after {event:?}: {job:#?}");
        assert_eq!(Model::of(&job), self.model, "{about}");
        assert!(job.attempt <= MOST_ATTEMPTS, "{about}");
        assert!(job.crashes <= MOST_CRASHES, "{about}");
        assert!(job.lease.is_none(), "{about}");
        assert_eq!(job.state.is_final(), job.finished_at.is_some(), "{about}");
        assert_eq!(job.state.is_final(), job.expire_at.is_some(), "{about}");
        if !job.state.is_final() {
            let give_up_at = job.give_up_at.unwrap();
            assert!(job.run_at < give_up_at, "{about}");
            let open = job.steps.iter().filter(|step| !step.state.is_done());
            assert!(
                open.clone().all(|step| !step.is_permanently_failed()),
                "{about}"
            );
        }
        for ended in &self.over {
            let now = self.harness.job(ended.id).await;
            assert_eq!(&now, ended, "a final job changed, {about}");
        }
    }
}
