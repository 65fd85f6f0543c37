//! Looking at what the service stands on, so that operators see how it is without asking it themselves.
//!
//! The looks are cheap and go side by side. They send no credentials, and neither cost a turn in an upstream's budget
//! nor are news for its circuit: whether work can be done there, jobs find out.

use std::time::Duration;

use bson::doc;
use dezky_shared::{
    dependency::{CheckResult, Dependency},
    store::StoreError,
    upstream::Upstream,
};
use dezky_upstreams::clients::ClientError;
use futures::future::{join_all, try_join_all};
use tokio::time::{Instant, timeout};

use super::{Engine, bulk};
use crate::metrics;

/// How long an answer may take.
const DEADLINE: Duration = Duration::from_secs(5);

impl Engine {
    /// Looks at everything, and notes what it found. Run by the leader.
    pub(crate) async fn probe(&self) -> Result<(), StoreError> {
        let subjects = self.subjects();
        let findings = join_all(subjects.iter().map(|subject| self.look_at(subject))).await;
        for (subject, finding) in subjects.iter().zip(&findings) {
            metrics::probed(subject, Some(finding));
        }
        let probes = &self.ctx.probes;
        let now = self.ctx.store.now();
        let noted = subjects
            .iter()
            .zip(&findings)
            .map(|(subject, finding)| probes.upsert(subject, finding, now));
        bulk::with_timeout(self.times.bulk_deadline, try_join_all(noted)).await?;
        bulk::with_timeout(self.times.bulk_deadline, probes.retain(&subjects)).await
    }

    /// Has metrics say nothing more about it.
    pub(crate) fn probe_no_more(&self) {
        for subject in self.subjects() {
            metrics::probed(&subject, None);
        }
    }

    fn subjects(&self) -> Vec<Dependency> {
        let mut subjects = vec![Dependency::Mongodb, Dependency::Redis];
        subjects.extend(Upstream::ALL.map(Dependency::Upstream));
        if let Some(dns) = &self.ctx.clients.dns {
            let names = dns.resolvers().map(str::to_owned);
            subjects.extend(names.map(Dependency::Resolver));
        }
        subjects
    }

    async fn look_at(&self, subject: &Dependency) -> CheckResult {
        let began = Instant::now();
        let asked = async {
            match subject {
                Dependency::Mongodb => Some(self.ask_mongodb().await),
                Dependency::Redis => Some(self.ask_redis().await),
                Dependency::Upstream(upstream) => {
                    let asked = self.ask_upstream(*upstream).await?;
                    Some(asked.map_err(|error| error.to_string()))
                }
                Dependency::Resolver(name) => {
                    Some(self.ctx.clients.dns.as_ref()?.probe(name).await)
                }
            }
        };
        match timeout(DEADLINE, asked).await {
            Ok(None) => CheckResult::Disabled,
            Ok(Some(Ok(()))) => CheckResult::Answered(began.elapsed()),
            Ok(Some(Err(error))) => CheckResult::Failed(error),
            Err(_) => CheckResult::Failed(format!("no answer in {} s", DEADLINE.as_secs())),
        }
    }

    /// What the driver says of a failure may hold addresses.
    async fn ask_mongodb(&self) -> Result<(), String> {
        let ping = self.ctx.store.database().run_command(doc! { "ping": 1 });
        ping.await.map_err(|_| "no answer".to_owned())?;
        Ok(())
    }

    async fn ask_redis(&self) -> Result<(), String> {
        let ping = self.ctx.ready.ping().await;
        ping.map_err(|error| error.category().to_owned())
    }

    /// Nothing where the integration is switched off.
    async fn ask_upstream(&self, upstream: Upstream) -> Option<Result<(), ClientError>> {
        let clients = &self.ctx.clients;
        Some(match upstream {
            Upstream::Authentik => clients.authentik.as_ref()?.probe().await,
            Upstream::Stalwart => clients.stalwart.as_ref()?.probe().await,
            Upstream::Ocis => clients.ocis.as_ref()?.probe().await,
        })
    }
}
