//! Expiry of pauses: ends those whose end has passed, as an operator would who resumes the queue or the upstream.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bson::DateTime;
use dezky_shared::{
    audit::{Action, Actor, AuditEvent, Origin, Target},
    platform::change_feed::DocumentChange,
    queue::job::Queue,
    store::{StoreError, TransactionError},
    upstream::Upstream,
};
use futures::{FutureExt as _, future::BoxFuture};

use crate::{
    context::Context,
    engine::{Duty, EngineTimings},
};

/// A queue or an upstream.
#[derive(Debug, Clone, Copy)]
enum Pausable {
    Queue(Queue),
    Upstream(Upstream),
}

/// Ends pauses.
pub(super) struct PauseExpiry {
    ctx: Arc<Context>,
    every: Duration,
}

impl Duty for PauseExpiry {
    fn name(&self) -> &'static str {
        "pause_expiry"
    }

    fn every(&self) -> Duration {
        self.every
    }

    fn run(&mut self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.end_all().boxed()
    }
}

impl PauseExpiry {
    pub(super) fn new(ctx: &Arc<Context>, times: &EngineTimings) -> Self {
        Self {
            ctx: ctx.clone(),
            every: times.measure_every,
        }
    }

    async fn end_all(&self) -> Result<(), StoreError> {
        let now = self.ctx.store.now();
        for queue in Queue::ALL {
            let control = self.ctx.queues.find(queue).await?;
            if control.paused.is_some_and(|pause| pause.is_over(now)) {
                self.end(Pausable::Queue(queue), now).await?;
            }
        }
        for state in self.ctx.upstreams.list().await? {
            if state.paused.is_some_and(|pause| pause.is_over(now)) {
                self.end(Pausable::Upstream(state.upstream), now).await?;
            }
        }
        Ok(())
    }

    /// Ends the pause and records it, unless an operator did or set another end.
    async fn end(&self, subject: Pausable, now: DateTime) -> Result<(), StoreError> {
        let ended: Result<bool, TransactionError<Infallible>> = self
            .ctx
            .store
            .transaction(&self.ctx, move |session, ctx| {
                async move {
                    let ended = match subject {
                        Pausable::Queue(queue) => ctx.queues.end_pause(session, queue, now).await?,
                        Pausable::Upstream(upstream) => {
                            ctx.upstreams.end_pause(session, upstream, now).await?
                        }
                    };
                    if ended {
                        ctx.audit.record(session, &event(subject, now)).await?;
                    }
                    Ok(ended)
                }
                .boxed()
            })
            .await;
        match ended {
            Ok(true) => {
                tracing::info!(?subject, "Pause ended");
                self.ctx.changes.publish(&[DocumentChange::Control]).await;
            }
            Ok(false) => {}
            Err(TransactionError::Store(error)) => return Err(error),
            Err(TransactionError::Aborted(never)) => match never {},
        }
        Ok(())
    }
}

fn event(subject: Pausable, now: DateTime) -> AuditEvent {
    let (action, kind, name) = match subject {
        Pausable::Queue(queue) => (Action::QueueResume, "queue", queue.name()),
        Pausable::Upstream(upstream) => (Action::UpstreamResume, "upstream", upstream.name()),
    };
    let target = Target::new(kind, name, name);
    AuditEvent::new(now, Actor::system(), action, target, Origin::default())
}
