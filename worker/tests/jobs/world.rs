//! A running worker with simulated upstreams, and the writes that the API makes for it.

use std::time::Duration;

use bson::{Document, doc};
use dezky_shared::{
    id::TenantId,
    platform::clock,
    queue::{
        args::{
            DeprovisionTenant, ProvisionTenant, ReconcileTenant, ResumeTenant, SuspendTenant,
            SyncBilling,
        },
        job::{Job, JobArgs, JobState},
    },
    store::{TransactionError, jobs::NewJob, members::MemberFilter},
    tenant::{ProvisioningState, Tenant, TenantStatus},
    upstream::Upstream,
};
use dezky_sim::{authentik::User, effects::Effect, ocis::SimSpace};
use dezky_upstreams::clients::{Mode, stalwart::Removal};
use dezky_worker::{context::ClientsConfig, engine::EngineTimings};
use futures::FutureExt as _;
use serde_json::{Value, json};

use crate::{
    harness::{Harness, Worker, until},
    restore::Backup,
    upstreams::Upstreams,
};

/// Upstreams, stores and a running worker.
pub(crate) struct World {
    pub(crate) harness: Harness,
    pub(crate) upstreams: Upstreams,
    worker: Worker,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_, _| ()).await
    }

    /// With adapted clients or timings.
    pub(crate) async fn start_with(
        adapt: impl FnOnce(&mut ClientsConfig, &mut EngineTimings),
    ) -> Self {
        let upstreams = Upstreams::start().await;
        let mut config = upstreams.config();
        let mut times = crate::harness::fast_timings();
        adapt(&mut config, &mut times);
        let mut harness = Harness::with(config).await;
        harness.times = times;
        let worker = harness.worker();
        Self {
            harness,
            upstreams,
            worker,
        }
    }

    pub(crate) async fn stop(self) {
        self.worker.stop().await;
    }

    /// Keeps the upstreams and replaces the stores by new ones restored from `backup`.
    pub(crate) async fn with_restored_stores(self, backup: &Backup) -> Self {
        self.worker.stop().await;
        let mut harness = Harness::with_upstreams(&self.upstreams).await;
        harness.times = self.harness.times;
        backup.restore(&harness.context.store).await;
        let worker = harness.worker();
        Self {
            harness,
            upstreams: self.upstreams,
            worker,
        }
    }

    /// Adds an active tenant.
    pub(crate) async fn active_tenant(&self, slug: &str, domains: &[&str]) -> Tenant {
        let tenant = self.harness.add_tenant(slug, domains).await;
        self.completed(&self.provision(tenant.id).await).await;
        let tenant = self.tenant(tenant.id).await;
        assert_eq!(tenant.status, TenantStatus::Active);
        tenant
    }

    pub(crate) async fn tenant(&self, id: TenantId) -> Tenant {
        self.harness.tenant(id).await
    }

    pub(crate) async fn provision(&self, id: TenantId) -> Job {
        self.harness
            .enqueue(&ProvisionTenant { tenant_id: id })
            .await
    }

    /// Enqueues the job for which a new tenant is fresh.
    pub(crate) async fn provision_first(&self, id: TenantId) -> Job {
        self.harness.enqueue_first(&self.tenant(id).await).await
    }

    pub(crate) async fn suspend(&self, id: TenantId) -> Job {
        self.harness
            .change_tenant(id, |tenant| tenant.status = TenantStatus::Suspended)
            .await;
        self.harness.enqueue(&SuspendTenant { tenant_id: id }).await
    }

    pub(crate) async fn resume(&self, id: TenantId) -> Job {
        self.harness
            .change_tenant(id, |tenant| tenant.status = TenantStatus::Pending)
            .await;
        self.harness.enqueue(&ResumeTenant { tenant_id: id }).await
    }

    pub(crate) async fn reconcile(&self, id: TenantId) -> Job {
        let args = ReconcileTenant {
            tenant_id: id,
            dry_run: false,
        };
        self.harness.enqueue(&args).await
    }

    pub(crate) async fn dry_run(&self, id: TenantId) -> Job {
        let args = ReconcileTenant {
            tenant_id: id,
            dry_run: true,
        };
        self.harness.enqueue(&args).await
    }

    /// Deletes a tenant: one job freezes it now, one purges it later.
    pub(crate) async fn delete(&self, id: TenantId, purge_after: Duration) -> [Job; 2] {
        let purge_at = clock::later(self.harness.context.store.now(), purge_after);
        self.harness
            .change_tenant(id, |tenant| {
                tenant.status_before = Some(tenant.status);
                tenant.status = TenantStatus::Terminating;
                tenant.purge_at = Some(purge_at);
            })
            .await;
        let freeze = self.harness.enqueue(&SuspendTenant { tenant_id: id }).await;
        let purge = self
            .enqueue_at(&DeprovisionTenant { tenant_id: id }, purge_at)
            .await;
        [freeze, purge]
    }

    /// Makes the purge of a deleted tenant due and enqueues it.
    pub(crate) async fn purge(&self, id: TenantId) -> Job {
        let store = &self.harness.context.store;
        let due = doc! { "$set": { "purgeAt": store.now() }, "$inc": { "revision": 1_i64 } };
        let tenants = store.collection::<Document>("tenants");
        tenants.update_one(doc! { "_id": id }, due).await.unwrap();
        self.harness
            .enqueue(&DeprovisionTenant { tenant_id: id })
            .await
    }

    pub(crate) async fn restore(&self, id: TenantId) -> Job {
        self.harness
            .change_tenant(id, |tenant| {
                tenant.status = tenant.status_before.take().unwrap();
                tenant.purge_at = None;
            })
            .await;
        self.harness.enqueue(&ResumeTenant { tenant_id: id }).await
    }

    async fn enqueue_at<A: JobArgs>(&self, args: &A, run_at: bson::DateTime) -> Job {
        let context = &self.harness.context;
        let new = NewJob::new(args, "test", context.store.now())
            .unwrap()
            .run_at(run_at);
        let enqueued: Result<Job, TransactionError<()>> = context
            .store
            .transaction((&context.jobs, &new), |session, (jobs, new)| {
                async move { Ok(jobs.enqueue(session, new).await?) }.boxed()
            })
            .await;
        let job = enqueued.unwrap();
        if run_at <= context.store.now() {
            context.ready.notify(std::slice::from_ref(&job)).await;
        }
        job
    }

    /// Waits until the job is final and asserts that it completed.
    pub(crate) async fn completed(&self, job: &Job) -> Job {
        let job = self.harness.finished(job.id).await;
        assert_eq!(job.state, JobState::Completed, "{job:#?}");
        job
    }

    /// Waits until all jobs are final.
    pub(crate) async fn until_idle(&self) {
        let jobs = self.harness.context.store.collection::<Document>("jobs");
        let open = doc! { "state": { "$in": ["available", "running"] } };
        until(
            async || jobs.count_documents(open.clone()).await.unwrap(),
            |&open| open == 0,
        )
        .await;
    }

    /// Waits until all delayed effects have happened.
    pub(crate) async fn until_effects_landed(&self) {
        let Upstreams {
            authentik,
            stalwart,
            ocis,
            stripe,
            ..
        } = &self.upstreams;
        let servers = [
            &authentik.server,
            &stalwart.server,
            &ocis.server,
            &stripe.server,
        ];
        let faults = servers.map(|it| &it.faults);
        let outstanding = async || {
            faults
                .iter()
                .map(|faults| faults.outstanding())
                .sum::<usize>()
        };
        until(outstanding, |&outstanding| outstanding == 0).await;
    }

    /// Removes the tenant's domains from the mail server, as an operator does.
    pub(crate) async fn purge_mail_domains(&self, id: TenantId) {
        let stalwart = self.harness.context.clients.stalwart.as_ref().unwrap();
        let owned = stalwart.list_domains(&id.to_string(), &[]).await.unwrap();
        for domain in owned {
            let mut removal = Removal::default();
            let purged = stalwart.purge_domain(&domain, Mode::Apply, &mut removal);
            purged.await.unwrap();
        }
    }

    /// Stops the worker, as far as it waits for its jobs, and starts another.
    pub(crate) async fn replace_worker(&mut self) {
        let next = self.harness.worker();
        std::mem::replace(&mut self.worker, next).stop().await;
    }

    /// Stops the worker, and starts one that runs no jobs.
    pub(crate) async fn only_lead(&mut self) {
        let leader = self.harness.leader_of(dezky_worker::jobs::registry());
        std::mem::replace(&mut self.worker, leader).stop().await;
    }

    pub(crate) fn user(&self, username: &str) -> User {
        self.upstreams.authentik.user_named(username).unwrap()
    }

    pub(crate) fn mailbox_is_open(&self, mailbox: &str) -> bool {
        let accounts = self.upstreams.stalwart.accounts();
        let account = accounts.iter().find(|account| account.email == mailbox);
        account.unwrap().can_sign_in
    }

    pub(crate) fn space(&self, tenant: &Tenant) -> Option<SimSpace> {
        let marker = format!("project/{}", tenant.id);
        let mut spaces = self.upstreams.ocis.spaces();
        spaces.retain(|space| space.alias == marker);
        assert!(spaces.len() <= 1, "{spaces:#?}");
        spaces.pop()
    }

    /// Adds a member of the tenant, with a session and tokens.
    pub(crate) fn add_member(&self, slug: &str, username: &str) -> User {
        let group = self.upstreams.authentik.group_named(slug).unwrap();
        let user = self.upstreams.authentik.add_user(username, &[group.id]);
        self.sign_in(user.pk);
        user
    }

    /// Adds a user to another tenant.
    pub(crate) fn join(&self, username: &str, slug: &str) {
        let authentik = &self.upstreams.authentik;
        let group = authentik.group_named(slug).unwrap().id;
        let user = self.user(username).pk;
        authentik.change(|state| {
            state.users.get_mut(&user).unwrap().groups.insert(group);
        });
    }

    pub(crate) fn sign_in(&self, user: i64) {
        let authentik = &self.upstreams.authentik;
        let session = authentik.add_session(user);
        authentik.add_access_token(user, Some(session));
        authentik.add_access_token(user, None);
        authentik.add_refresh_token(user);
        authentik.add_api_token(user, "app_password");
    }

    pub(crate) fn add_mailbox(&self, email: &str) {
        self.upstreams
            .stalwart
            .add_account(email, "correct horse battery", &[], json!({}));
    }

    /// All effects on upstreams so far.
    pub(crate) fn effects(&self) -> Vec<Effect> {
        let Upstreams {
            authentik,
            stalwart,
            ocis,
            stripe,
            ..
        } = &self.upstreams;
        let servers = [
            &authentik.server,
            &stalwart.server,
            &ocis.server,
            &stripe.server,
        ];
        servers
            .iter()
            .flat_map(|server| server.effects.all())
            .collect()
    }

    /// All effects without ids, in deterministic order.
    pub(crate) fn sorted_effects(&self) -> Vec<String> {
        let effects = self.effects();
        let mut effects: Vec<String> = effects
            .iter()
            .map(|effect| format!("{} {}", effect.operation, without_ids(&effect.key)))
            .collect();
        effects.sort();
        effects
    }

    /// The final state of a tenant's document and of its members', without fields that differ between runs.
    pub(crate) async fn tenant_state(&self, id: TenantId) -> Value {
        let tenant = self.tenant(id).await;
        let members = &self.harness.context.members;
        let listed = members.list(id, &MemberFilter::default(), 10).await;
        let mut members = Vec::new();
        for member in listed.unwrap() {
            members.push(self.member_state(member.id).await);
        }
        json!({
            "status": tenant.status,
            // Done or skipped: a second job of a purged tenant has nothing to do.
            "settled": Upstream::ALL.map(|upstream| {
                let state = tenant.provisioning_status.get(upstream);
                matches!(state, ProvisioningState::Ok | ProvisioningState::Skipped)
            }),
            "errors": tenant.provisioning_errors,
            "domains": tenant.domains,
            "formerDomains": tenant.former_domains,
            "hasGroup": tenant.authentik_group_id.is_some(),
            "hasSpace": tenant.ocis_space_id.is_some(),
            "members": members,
            "hasOwner": tenant.owner.map(|owner| owner.subject.is_some()),
        })
    }

    /// The state of the upstreams, without values that differ between runs.
    pub(crate) fn upstream_state(&self) -> Value {
        let Upstreams {
            authentik,
            stalwart,
            ocis,
            ..
        } = &self.upstreams;
        masked(json!([
            authentik.snapshot(),
            stalwart.snapshot(),
            ocis.snapshot(),
            self.customers(),
            self.sent_invoices(),
            self.card_subscriptions(),
        ]))
    }

    /// Name, address, owner and tax ids of each customer at the payment provider.
    pub(crate) fn customers(&self) -> Vec<Value> {
        let stripe = &self.upstreams.stripe;
        let tax_ids = stripe.objects("tax_id");
        let state = |customer: &Value| {
            let own = tax_ids.iter().filter(|it| it["customer"] == customer["id"]);
            let values: Vec<&Value> = own.map(|tax_id| &tax_id["value"]).collect();
            json!({
                "name": customer["name"], "email": customer["email"], "country": customer["address"]["country"],
                "tenant": customer["metadata"]["tenantId"], "taxIds": values,
            })
        };
        stripe.objects("customer").iter().map(state).collect()
    }

    /// Status, total and number of lines of each invoice at the payment provider.
    fn sent_invoices(&self) -> Vec<Value> {
        let state = |invoice: &Value| {
            let lines = invoice["lines"]["data"].as_array().map(Vec::len);
            json!({ "status": invoice["status"], "total": invoice["total"], "lines": lines })
        };
        let invoices = self.upstreams.stripe.objects("invoice");
        invoices.iter().map(state).collect()
    }

    /// Status, price and end of each subscription at the payment provider.
    pub(crate) fn card_subscriptions(&self) -> Vec<Value> {
        let state = |subscription: &Value| {
            json!({
                "status": subscription["status"],
                "price": subscription["items"]["data"][0]["price"]["unit_amount"],
                "ends": subscription["cancel_at_period_end"],
            })
        };
        let subscriptions = self.upstreams.stripe.objects("subscription");
        subscriptions.iter().map(state).collect()
    }

    /// Syncs the tenant's customer at the payment provider.
    pub(crate) async fn sync_billing(&self, tenant_id: TenantId) -> Job {
        let args = SyncBilling {
            tenant_id,
            dry_run: false,
        };
        self.harness.enqueue(&args).await
    }
}

/// Masks ids, times and keys, which differ between runs.
fn masked(value: Value) -> Value {
    const DIFFER: [&str; 9] = [
        "id",
        "domainId",
        "pk",
        "date_joined",
        "lastModifiedDateTime",
        "eTag",
        "createdAt",
        "publicKey",
        "dnsZoneFile",
    ];
    match value {
        Value::String(text) => Value::String(without_ids(&text)),
        Value::Array(values) => values.into_iter().map(masked).collect(),
        Value::Object(members) => members
            .into_iter()
            .filter(|(key, _)| !DIFFER.contains(&key.as_str()))
            .map(|(key, value)| (without_ids(&key), masked(value)))
            .collect(),
        other => other,
    }
}

/// Replaces every UUID by `<id>`.
pub(crate) fn without_ids(text: &str) -> String {
    const LENGTH: usize = 36;
    let is_id = |part: &[u8]| {
        part.iter().enumerate().all(|(place, byte)| match place {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
    };
    let mut left = text;
    let mut kept = String::new();
    while let Some(place) = left.as_bytes().windows(LENGTH).position(is_id) {
        kept.push_str(&left[..place]);
        kept.push_str("<id>");
        left = &left[place + LENGTH..];
    }
    kept + left
}
