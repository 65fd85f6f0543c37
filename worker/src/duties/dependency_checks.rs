//! Dependency checks: whether the stores, upstreams and resolvers answer, for operators.
//!
//! A check is cheap, and all run concurrently. It sends no credentials, uses no rate budget, and does not affect a circuit
//! breaker: whether an upstream can do the work is for jobs to find out.

use std::{sync::Arc, time::Duration};

use bson::doc;
use dezky_shared::{
    dependency::{CheckResult, Dependency},
    store::StoreError,
    upstream::Upstream,
};
use dezky_upstreams::clients::ClientError;
use futures::{
    FutureExt as _,
    future::{BoxFuture, join_all, try_join_all},
};
use tokio::time::{Instant, timeout};

use crate::{
    context::Context,
    engine::{Duty, EngineTimings, with_timeout},
    metrics,
};

/// The timeout of one check.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// Checks every dependency, and stores the results.
pub(super) struct DependencyChecks {
    ctx: Arc<Context>,
    every: Duration,
    timeout: Duration,
}

impl Duty for DependencyChecks {
    fn name(&self) -> &'static str {
        "dependency_checks"
    }

    fn every(&self) -> Duration {
        self.every
    }

    fn run(&mut self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.check_all().boxed()
    }

    /// A new leader has more urgent duties.
    fn initial_delay(&self) -> Duration {
        self.every
    }

    fn end_term(&self) {
        for dependency in self.dependencies() {
            metrics::dependency_checked(&dependency, None);
        }
    }
}

impl DependencyChecks {
    pub(super) fn new(ctx: &Arc<Context>, times: &EngineTimings) -> Self {
        Self {
            ctx: ctx.clone(),
            every: times.probe_every,
            timeout: times.bulk_deadline,
        }
    }

    async fn check_all(&self) -> Result<(), StoreError> {
        let dependencies = self.dependencies();
        let checks = dependencies.iter().map(|dependency| self.check(dependency));
        let results = join_all(checks).await;
        for (dependency, result) in dependencies.iter().zip(&results) {
            metrics::dependency_checked(dependency, Some(result));
        }
        let repository = &self.ctx.probes;
        let now = self.ctx.store.now();
        let stored = dependencies
            .iter()
            .zip(&results)
            .map(|(dependency, result)| repository.upsert(dependency, result, now));
        with_timeout(self.timeout, try_join_all(stored)).await?;
        with_timeout(self.timeout, repository.retain(&dependencies)).await
    }

    fn dependencies(&self) -> Vec<Dependency> {
        let mut dependencies = vec![Dependency::Mongodb, Dependency::Redis];
        dependencies.extend(Upstream::ALL.map(Dependency::Upstream));
        if self.ctx.clients.stripe.is_some() {
            dependencies.push(Dependency::Upstream(Upstream::Stripe));
        }
        if let Some(dns) = &self.ctx.clients.dns {
            let names = dns.resolvers().map(str::to_owned);
            dependencies.extend(names.map(Dependency::Resolver));
        }
        dependencies
    }

    async fn check(&self, dependency: &Dependency) -> CheckResult {
        let began = Instant::now();
        let check = async {
            match dependency {
                Dependency::Mongodb => Some(self.check_mongodb().await),
                Dependency::Redis => Some(self.check_redis().await),
                Dependency::Upstream(upstream) => {
                    let result = self.check_upstream(*upstream).await?;
                    Some(result.map_err(|error| error.to_string()))
                }
                Dependency::Resolver(name) => {
                    Some(self.ctx.clients.dns.as_ref()?.probe(name).await)
                }
            }
        };
        match timeout(CHECK_TIMEOUT, check).await {
            Ok(None) => CheckResult::Disabled,
            Ok(Some(Ok(()))) => CheckResult::Answered(began.elapsed()),
            Ok(Some(Err(error))) => CheckResult::Failed(error),
            Err(_) => CheckResult::Failed(format!("no answer in {} s", CHECK_TIMEOUT.as_secs())),
        }
    }

    /// The driver's error may contain addresses, so it is not shown.
    async fn check_mongodb(&self) -> Result<(), String> {
        let ping = self.ctx.store.database().run_command(doc! { "ping": 1 });
        ping.await.map_err(|_| "no answer".to_owned())?;
        Ok(())
    }

    async fn check_redis(&self) -> Result<(), String> {
        let ping = self.ctx.ready.ping().await;
        ping.map_err(|error| error.category().to_owned())
    }

    /// `None` if the integration is disabled.
    async fn check_upstream(&self, upstream: Upstream) -> Option<Result<(), ClientError>> {
        let clients = &self.ctx.clients;
        Some(match upstream {
            Upstream::Authentik => clients.authentik.as_ref()?.probe().await,
            Upstream::Stalwart => clients.stalwart.as_ref()?.probe().await,
            Upstream::Ocis => clients.ocis.as_ref()?.probe().await,
            Upstream::Stripe => clients.stripe.as_ref()?.probe().await,
        })
    }
}
