//! Setup checks of the upstreams, repeated by the leader: failed ones are logged, counted in a metric, and shown with the
//! infrastructure status.
//!
//! An upstream that refuses our credentials is left out: some ban an address that repeats a failed login. So is one that
//! an operator paused. Neither has known problems.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use dezky_shared::{
    dependency::Dependency,
    store::{StoreError, upstreams::UpstreamState},
    upstream::Upstream,
};
use dezky_upstreams::clients::setup::{SetupCheck, SetupOutcome};
use futures::{FutureExt as _, future::BoxFuture};

use crate::{
    context::{Clients, Context},
    engine::{Duty, EngineTimings, with_timeout},
    metrics,
    setup::check_upstreams,
};

/// Checks the set-up of every upstream, and stores the problems.
pub(super) struct SetupChecks {
    ctx: Arc<Context>,
    every: Duration,
    initial_delay: Duration,
    timeout: Duration,
}

impl Duty for SetupChecks {
    fn name(&self) -> &'static str {
        "setup_checks"
    }

    fn every(&self) -> Duration {
        self.every
    }

    fn run(&mut self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.check_all().boxed()
    }

    /// After the first dependency checks, whose documents receive the problems.
    fn initial_delay(&self) -> Duration {
        self.initial_delay
    }

    fn end_term(&self) {
        for upstream in Upstream::CALLED {
            metrics::setup_problems(upstream, 0);
        }
    }
}

impl SetupChecks {
    pub(super) fn new(ctx: &Arc<Context>, times: &EngineTimings) -> Self {
        Self {
            ctx: ctx.clone(),
            every: times.setup_every,
            initial_delay: times.probe_every * 2,
            timeout: times.bulk_deadline,
        }
    }

    async fn check_all(&self) -> Result<(), StoreError> {
        let clients = self.callable_clients().await?;
        let mut checked: BTreeMap<_, _> = check_upstreams(&clients).await.into_iter().collect();
        for upstream in Upstream::CALLED {
            let checks = checked.remove(&upstream).unwrap_or_default();
            let problems: Vec<String> = checks.iter().filter_map(problem).collect();
            for problem in &problems {
                tracing::warn!(%upstream, problem, "The set-up of an upstream is incomplete");
            }
            metrics::setup_problems(upstream, problems.len());
            let dependency = Dependency::Upstream(upstream);
            let stored = self.ctx.probes.set_problems(&dependency, &problems);
            with_timeout(self.timeout, stored).await?;
        }
        Ok(())
    }

    /// The clients of the upstreams that may be called.
    async fn callable_clients(&self) -> Result<Clients, StoreError> {
        let mut clients = self.ctx.clients.clone();
        let states = with_timeout(self.timeout, self.ctx.upstreams.list()).await?;
        let is_closed =
            |state: &&UpstreamState| state.paused.is_some() || state.refused_at.is_some();
        for state in states.iter().filter(is_closed) {
            match state.upstream {
                Upstream::Authentik => clients.authentik = None,
                Upstream::Stalwart => clients.stalwart = None,
                Upstream::Ocis => clients.ocis = None,
                Upstream::Stripe => clients.stripe = None,
            }
        }
        Ok(clients)
    }
}

fn problem(check: &SetupCheck) -> Option<String> {
    match &check.outcome {
        SetupOutcome::Failed(problem) => Some(format!("{}: {problem}", check.name)),
        SetupOutcome::Ok(_) | SetupOutcome::Unknown(_) => None,
    }
}
