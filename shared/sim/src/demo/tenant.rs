//! The tenant and its partner.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, ensure};
use reqwest::{Method, RequestBuilder, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Demo, send};
use crate::callers::{Caller, DEMO_PARTNER, DEMO_TENANT, FAILING_TENANT};

/// Time limit for provisioning.
const TIMEOUT: Duration = Duration::from_mins(3);

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Tenant {
    status: String,
    provisioning_status: BTreeMap<String, String>,
    #[serde(default)]
    provisioning_errors: BTreeMap<String, String>,
    job: Option<Job>,
}

/// A resource with an id.
#[derive(Debug, Deserialize)]
struct Resource {
    id: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Job {
    id: String,
    state: String,
    #[serde(default)]
    error: Option<Value>,
}

impl Job {
    fn is_final(&self) -> bool {
        matches!(self.state.as_str(), "completed" | "discarded" | "cancelled")
    }

    pub(super) fn is_discarded(&self) -> bool {
        self.state == "discarded"
    }

    fn ensure_completed(self) -> anyhow::Result<()> {
        let Self { id, state, error } = self;
        let error = error.unwrap_or_default();
        ensure!(state == "completed", "job {id} was {state}: {error}");
        Ok(())
    }
}

impl Tenant {
    fn is_active(&self) -> bool {
        let mut steps = self.provisioning_status.values();
        self.status == "active" && steps.all(|state| is_done(state))
    }
}

fn is_done(state: &str) -> bool {
    matches!(state, "ok" | "skipped")
}

impl Demo {
    /// Registers a caller as a user, and returns the user's id.
    pub(super) async fn register(&self, caller: Caller, token: &str) -> anyhow::Result<String> {
        let request = self.client.get(format!("{}/users/me", self.api));
        let response = send(request.bearer_auth(token))
            .await
            .with_context(|| format!("{} cannot sign in", caller.name()))?;
        Ok(response.json::<Resource>().await?.id)
    }

    /// Attaches the tenant to the demo partner, and makes the user of the token `staff` the partner's owner.
    pub(super) async fn ensure_partner(&self, staff: &str) -> anyhow::Result<()> {
        let staff = self.register(Caller::Partner, staff).await?;
        let partners = format!("{}/partners", self.api);
        let partner = format!("{partners}/{DEMO_PARTNER}");
        let there = self.client.get(&partner).bearer_auth(&self.operator);
        let request = if there.send().await?.status() == StatusCode::NOT_FOUND {
            let new = json!({ "slug": DEMO_PARTNER, "name": "Demo partner", "marginPct": 12.5 });
            self.client.post(partners).json(&new)
        } else {
            self.client
                .patch(partner)
                .json(&json!({ "status": "active" }))
        };
        let answer = send(request.bearer_auth(&self.operator)).await?;
        let Resource { id } = answer.json().await?;

        let attach = self
            .request(Method::PATCH, "")
            .json(&json!({ "partnerId": id }));
        send(attach).await?;
        let user = format!("{}/users/{staff}", self.api);
        let owns = json!({ "partnerId": id, "partnerRole": "owner" });
        let request = self.client.patch(user).bearer_auth(&self.operator);
        send(request.json(&owns)).await?;
        self.say(&format!("{DEMO_PARTNER:<14} attached as partner"));
        Ok(())
    }

    /// Creates the tenant, or reconciles an existing one, and prints its steps until it is active.
    pub(super) async fn ensure(&self) -> anyhow::Result<()> {
        let requested = self.create_or_reconcile().await?;
        let mut shown = Shown::default();
        let follow = self.follow(requested.job, &mut shown);
        match tokio::time::timeout(TIMEOUT, follow).await {
            Ok(outcome) => outcome?,
            Err(_) => self.say(&format!("not finished after {TIMEOUT:?}")),
        }

        let tenant = self.tenant().await?;
        shown.print(self, &tenant, true);
        let problems = serde_json::to_string(&tenant.provisioning_errors)?;
        ensure!(
            tenant.is_active(),
            "the tenant is {}, its steps are {:?}, its errors {problems}",
            tenant.status,
            tenant.provisioning_status
        );
        let steps: Vec<String> = tenant
            .provisioning_status
            .iter()
            .map(|(step, state)| format!("{step} {state}"))
            .collect();
        self.say(&format!(
            "verified: GET /tenants/{DEMO_TENANT} returns {} ({})",
            tenant.status,
            steps.join(", ")
        ));
        Ok(())
    }

    /// Reconciles all other tenants into the simulators, which start empty. The failing one waits for an operator.
    pub(super) async fn reconcile_others(&self) -> anyhow::Result<()> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Page {
            items: Vec<Listed>,
            next_cursor: Option<String>,
        }
        #[derive(Deserialize)]
        struct Listed {
            slug: String,
            status: String,
        }
        let tenants = format!("{}/tenants", self.api);
        let mut cursor: Option<String> = None;
        loop {
            let mut query = vec![("limit", "100")];
            query.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
            let request = self.client.get(&tenants).query(&query);
            let page: Page = send(request.bearer_auth(&self.operator))
                .await?
                .json()
                .await?;
            for Listed { slug, status } in page.items {
                let waits = slug == FAILING_TENANT && status != "active";
                if slug != DEMO_TENANT && status != "terminated" && !waits {
                    let request = self.client.post(format!("{tenants}/{slug}/reconcile"));
                    send(request.bearer_auth(&self.operator).json(&json!({}))).await?;
                    self.say(&format!("{slug:<14} reconciling"));
                }
            }
            cursor = page.next_cursor;
            if cursor.is_none() {
                return Ok(());
            }
        }
    }

    /// Creates the tenant, or reconciles an existing one, since restarted simulators are empty.
    async fn create_or_reconcile(&self) -> anyhow::Result<Tenant> {
        let there = self.request(Method::GET, "").send().await?;
        let request = if there.status() == StatusCode::NOT_FOUND {
            let owner = Caller::Owner;
            let tenants = format!("{}/tenants", self.api);
            self.client
                .post(tenants)
                .bearer_auth(&self.operator)
                .json(&json!({
                    "slug": DEMO_TENANT,
                    "name": "Demo",
                    "domains": [format!("{DEMO_TENANT}.test")],
                    "owner": { "email": owner.email(), "name": "Demo owner" },
                }))
        } else {
            self.request(Method::POST, "/reconcile").json(&json!({}))
        };
        let key = Uuid::now_v7().to_string();
        let response = send(request.header("idempotency-key", key)).await?;
        response
            .json()
            .await
            .context("the response is not a tenant")
    }

    /// Prints the steps as they become `ok`, until the job is final.
    async fn follow(&self, job: Option<Job>, shown: &mut Shown) -> anyhow::Result<()> {
        // The steps of an existing tenant are outdated until the reconcile has started.
        let mut fresh = false;
        let mut etag = None;
        let Some(job) = job else { return Ok(()) };
        let end = self.end_of(job);
        tokio::pin!(end);
        loop {
            tokio::select! {
                job = &mut end => return job?.ensure_completed(),
                tenant = self.change(&mut etag) => {
                    if let Some(tenant) = tenant? {
                        fresh |= tenant.status == "pending";
                        shown.print(self, &tenant, fresh);
                    }
                }
            }
        }
    }

    /// Sends a request that enqueues a job, and waits until the job is completed.
    pub(super) async fn complete(&self, request: RequestBuilder) -> anyhow::Result<()> {
        #[derive(Deserialize)]
        struct Accepted {
            job: Job,
        }
        let Accepted { job } = send(request).await?.json().await?;
        self.until_ended(job).await?.ensure_completed()
    }

    /// The job, once it has ended.
    pub(super) async fn until_ended(&self, job: Job) -> anyhow::Result<Job> {
        let ended = tokio::time::timeout(TIMEOUT, self.end_of(job)).await;
        ended.context("a job does not end")?
    }

    async fn end_of(&self, mut job: Job) -> anyhow::Result<Job> {
        while !job.is_final() {
            let url = format!("{}/jobs/{}?wait=25s", self.api, job.id);
            let request = self.client.get(url).bearer_auth(&self.operator);
            job = send(request).await?.json().await?;
        }
        Ok(job)
    }

    /// The tenant if it has changed since `etag`, by long polling; `None` if it has not.
    async fn change(&self, etag: &mut Option<String>) -> anyhow::Result<Option<Tenant>> {
        let request = match etag {
            Some(etag) => self
                .request(Method::GET, "?wait=25s")
                .header(header::IF_NONE_MATCH, etag.as_str()),
            None => self.request(Method::GET, ""),
        };
        let response = send(request).await?;
        if response.status() == StatusCode::NOT_MODIFIED {
            return Ok(None);
        }
        let new = response.headers().get(header::ETAG);
        let new = new.context("the tenant has no ETag")?.to_str()?.to_owned();
        let tenant = response
            .json()
            .await
            .context("the response is not a tenant")?;
        *etag = Some(new);
        Ok(Some(tenant))
    }

    async fn tenant(&self) -> anyhow::Result<Tenant> {
        let response = send(self.request(Method::GET, "")).await?;
        response
            .json()
            .await
            .context("the response is not a tenant")
    }
}

/// Last printed state of each step.
#[derive(Debug, Default)]
struct Shown(BTreeMap<String, String>);

impl Shown {
    /// Prints changed states. A completed step is printed only if `trusted`: it may stem from an earlier run.
    fn print(&mut self, demo: &Demo, tenant: &Tenant, trusted: bool) {
        for (step, state) in &tenant.provisioning_status {
            let early = is_done(state) && !trusted;
            if state == "pending" || early || self.0.get(step) == Some(state) {
                continue;
            }
            let error = tenant.provisioning_errors.get(step);
            let error = error.map(|error| format!(": {error}")).unwrap_or_default();
            demo.say(&format!("{step:<14} {state}{error}"));
            self.0.insert(step.clone(), state.clone());
        }
    }
}
