//! Requests of an operator. Customers know nothing of the tenants that it creates, so that no other request changes them.

use dezky_shared::{queue::job::Queue, upstream::Upstream};
use rand::{SeedableRng as _, rngs::StdRng};
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    client::{Reply, Request, patch, post},
    load::LoadGenerator,
};

/// A tenant that the operator created.
#[derive(Debug, Clone)]
pub(super) struct CreatedTenant {
    pub(super) slug: String,
    /// Id of the job that provisions it.
    pub(super) job: String,
}

impl LoadGenerator {
    /// Registers the operator as a user, as required before any other request.
    pub(super) async fn register_operator(&self) -> anyhow::Result<()> {
        self.client.register_operator().await
    }

    /// Creates a tenant without domains and without an owner; `None` if the request was refused.
    pub(super) async fn create_tenant(&self, prefix: &str) -> Option<CreatedTenant> {
        let slug = format!("{prefix}-{}", self.number());
        let body = json!({ "slug": slug, "name": slug, "plan": "business" });
        let request = post("/tenants".to_owned(), Some(body));
        let reply = self.operate("create", request).await?;
        let (slug, job) = (reply.slug?, reply.job?);
        Some(CreatedTenant { slug, job })
    }

    /// Suspends a tenant. Returns the id of the job; `None` if the request was refused.
    pub(super) async fn suspend(&self, slug: &str) -> Option<String> {
        let request = post(format!("/tenants/{slug}/suspend"), None);
        self.operate("suspend", request).await?.job
    }

    /// Resumes a tenant. Returns whether the request was accepted.
    pub(super) async fn resume(&self, slug: &str) -> bool {
        let request = post(format!("/tenants/{slug}/resume"), None);
        self.operate("resume", request).await.is_some()
    }

    /// Reconciles a tenant. Returns whether the request was accepted.
    pub(super) async fn reconcile(&self, slug: &str) -> bool {
        let request = post(format!("/tenants/{slug}/reconcile"), None);
        self.operate("reconcile", request).await.is_some()
    }

    /// Reconciles all tenants at once. Returns whether the request was accepted.
    pub(super) async fn reconcile_all(&self) -> bool {
        let request = post("/schedules/nightly_reconcile/run".to_owned(), None);
        self.operate("reconcile all", request).await.is_some()
    }

    /// Issues all invoices that are due. Returns whether the request was accepted.
    pub(super) async fn invoice_all(&self) -> bool {
        let request = post("/schedules/invoice_run/run".to_owned(), None);
        self.operate("invoice all", request).await.is_some()
    }

    /// Compares all customers and subscriptions with those of Stripe. Returns whether the request was accepted.
    pub(super) async fn sync_all_billing(&self) -> bool {
        let request = post("/schedules/billing_sync/run".to_owned(), None);
        self.operate("sync all billing", request).await.is_some()
    }

    /// Reads the events that no webhook delivered. Returns whether the request was accepted.
    pub(super) async fn fetch_stripe_events(&self) -> bool {
        let request = post("/schedules/stripe_events/run".to_owned(), None);
        self.operate("fetch events", request).await.is_some()
    }

    /// Creates a partner with a margin, in percent. Returns its id; `None` if the request was refused.
    pub(super) async fn create_partner(&self, slug: &str, margin: f64) -> Option<String> {
        let body = json!({ "slug": slug, "name": slug, "marginPct": margin });
        let request = post("/partners".to_owned(), Some(body));
        self.operate("create partner", request).await?.id
    }

    /// Changes a feature flag. Returns whether the request was accepted.
    pub(super) async fn change_flag(&self, key: &str, body: Value) -> bool {
        let request = patch(format!("/flags/{key}"), body);
        self.operate("change flag", request).await.is_some()
    }

    /// Saves the branding of a tenant, different for each number. Returns whether the request was accepted.
    pub(super) async fn save_settings(&self, slug: &str, number: usize) -> bool {
        let body = json!({ "productName": format!("Product {number}") });
        let path = format!("/tenants/{slug}/branding");
        let request = Request::new(Method::PUT, path, Some(body));
        self.operate("save settings", request).await.is_some()
    }

    /// Lists jobs and tenants.
    pub(super) async fn list(&self) {
        for (action, path) in [("list jobs", "/jobs"), ("list tenants", "/tenants")] {
            let request = Request::new(Method::GET, format!("{path}?limit=100"), None);
            self.operate(action, request).await;
        }
    }

    /// Pauses an upstream. Returns whether the request was accepted.
    pub(super) async fn pause_upstream(&self, upstream: Upstream) -> bool {
        let request = post(format!("/upstreams/{upstream}/pause"), None);
        self.operate("pause upstream", request).await.is_some()
    }

    /// Resumes an upstream. Returns whether the request was accepted.
    pub(super) async fn resume_upstream(&self, upstream: Upstream) -> bool {
        let request = post(format!("/upstreams/{upstream}/resume"), None);
        self.operate("resume upstream", request).await.is_some()
    }

    /// Pauses a queue. Returns whether the request was accepted.
    pub(super) async fn pause_queue(&self, queue: Queue) -> bool {
        let request = post(format!("/queues/{}/pause", queue.name()), None);
        self.operate("pause queue", request).await.is_some()
    }

    /// Resumes a queue. Returns whether the request was accepted.
    pub(super) async fn resume_queue(&self, queue: Queue) -> bool {
        let request = post(format!("/queues/{}/resume", queue.name()), None);
        self.operate("resume queue", request).await.is_some()
    }

    /// The response, if the request was accepted.
    async fn operate(&self, action: &'static str, request: Request) -> Option<Reply> {
        let mut random = StdRng::seed_from_u64(0);
        let reply = self.send(action, request, &mut random).await;
        reply.filter(Reply::is_accepted)
    }
}
