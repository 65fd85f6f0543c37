//! Events of a tenant's resources: members, apps, domains and invoices that changed, each with the resource as GET returns
//! it. An invoice is as in its list: the link of its page grants access without a sign-in.
//!
//! They are found by the time of their last change, which a transaction reads before it commits. Each read therefore
//! begins [`SETTLING`] before the latest known change, and a read that found something is repeated once that time is over.
//! A change that was sent already is recognised by its revision.

use std::{collections::HashMap, time::Duration};

use axum::response::sse::Event;
use bson::DateTime;
use dezky_shared::{id::TenantId, platform::clock};
use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;

use super::{event, position::Position};
use crate::{
    error::ApiError,
    routes::{
        apps::AppView,
        domains::DomainView,
        invoices::InvoiceView,
        members::{TenantUserView, views_of},
    },
    state::AppState,
};

/// Time after which a transaction that read the clock has committed.
const SETTLING: Duration = Duration::from_secs(3);
/// Maximum number of changed resources of a kind in one read. Of more only the latest are sent, after an event `overflow`.
const MAX_CHANGED: i64 = 200;

/// Feed of the changed resources of a tenant.
pub(super) struct ResourceFeed {
    /// Time of the latest change that was read.
    since: DateTime,
    /// Revisions of the resources as last read, by id.
    known: HashMap<String, i64>,
    /// Time of the read that finds the changes that were not committed at the last.
    repeat_at: Option<Instant>,
}

/// A change of a resource, with its event.
struct ResourceChange {
    id: String,
    revision: i64,
    at: DateTime,
    name: &'static str,
    data: Value,
}

/// Data of an event `overflow`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Overflow {
    /// Kind of the resources whose list should be read again.
    #[serde(rename = "parts")]
    kind: &'static str,
}

/// Tenant whose resources are read, and which of them the caller may see.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    pub(super) tenant: TenantId,
    pub(super) tenant_slug: &'a str,
    /// Whether the caller may read members and apps.
    pub(super) is_private: bool,
    /// Whether the caller may read invoices.
    pub(super) is_billing: bool,
    /// Revision of the tenant, for the ids of events.
    pub(super) tenant_revision: i64,
}

impl ResourceFeed {
    /// A feed of the changes after the client's `position`, or from now on.
    pub(super) async fn start(
        app: &AppState,
        scope: Scope<'_>,
        position: Option<DateTime>,
    ) -> Result<Self, ApiError> {
        let mut feed = Self {
            since: position.unwrap_or_else(|| app.store.now()),
            known: HashMap::new(),
            repeat_at: None,
        };
        if position.is_none() {
            let (changed, _) = feed.changed(app, scope).await?;
            feed.set_known(&changed);
        }
        Ok(feed)
    }

    /// Time of the latest change that was read.
    pub(super) fn since(&self) -> DateTime {
        self.since
    }

    /// Time at which the last read is repeated.
    pub(super) fn repeat_at(&self) -> Option<Instant> {
        self.repeat_at
    }

    /// The events of the changes since the last read.
    pub(super) async fn read(
        &mut self,
        app: &AppState,
        scope: Scope<'_>,
    ) -> Result<Vec<Event>, ApiError> {
        let (changed, overflows) = self.changed(app, scope).await?;
        let is_new =
            |change: &&ResourceChange| self.known.get(&change.id) != Some(&change.revision);
        let mut new: Vec<&ResourceChange> = changed.iter().filter(is_new).collect();
        new.sort_by_key(|change| change.at);
        self.repeat_at = (!new.is_empty()).then(|| Instant::now() + SETTLING);
        let id = |at| Position::with_resources(scope.tenant_revision, at);
        let has_new = |kind: &&str| new.iter().any(|change| change.name == *kind);
        let overflows: Vec<&'static str> = overflows.into_iter().filter(has_new).collect();
        let overflows = overflows
            .into_iter()
            .map(|kind| event("overflow", &id(self.since), &Overflow { kind }));
        let resources = new
            .into_iter()
            .map(|change| event(change.name, &id(change.at), &change.data));
        let events: Vec<Event> = overflows
            .chain(resources)
            .collect::<Result<_, ApiError>>()?;
        self.set_known(&changed);
        Ok(events)
    }

    /// Stores the revisions of the last read. Older changes are not read again.
    fn set_known(&mut self, changed: &[ResourceChange]) {
        let known = changed.iter();
        self.known = known.map(|it| (it.id.clone(), it.revision)).collect();
        let latest = changed.iter().map(|change| change.at).max();
        self.since = latest.unwrap_or(self.since).max(self.since);
    }

    /// The resources that changed in the period that is read again, and the kinds of which more changed than are read.
    async fn changed(
        &self,
        app: &AppState,
        scope: Scope<'_>,
    ) -> Result<(Vec<ResourceChange>, Vec<&'static str>), ApiError> {
        let (found, tenant) = (&app.db.tenant_resource_changes, scope.tenant);
        let since = clock::earlier(self.since, SETTLING);
        let mut changed = Vec::new();
        for domain in found.domains_since(tenant, since, MAX_CHANGED).await? {
            let (id, revision, at) = (domain.id.to_string(), domain.revision, domain.updated_at);
            let view = DomainView::from(domain);
            changed.push(ResourceChange::new("domain", id, revision, at, &view)?);
        }
        if scope.is_private {
            for changed_app in found.apps_since(tenant, since, MAX_CHANGED).await? {
                let (id, revision, at) = (
                    changed_app.id.to_string(),
                    changed_app.revision,
                    changed_app.updated_at,
                );
                let view = AppView::new(app, scope.tenant_slug, changed_app);
                changed.push(ResourceChange::new("app", id, revision, at, &view)?);
            }
            let members = found.members_since(tenant, since, MAX_CHANGED).await?;
            let versions = members.iter();
            let versions = versions.map(|it| (it.id.to_string(), it.revision, it.updated_at));
            let versions: Vec<_> = versions.collect();
            let views: Vec<TenantUserView> = views_of(app, members).await?;
            for ((id, revision, at), view) in versions.into_iter().zip(views) {
                changed.push(ResourceChange::new("member", id, revision, at, &view)?);
            }
        }
        if scope.is_billing {
            for invoice in found.invoices_since(tenant, since, MAX_CHANGED).await? {
                let (id, revision, at) =
                    (invoice.id.to_string(), invoice.revision, invoice.updated_at);
                let view = InvoiceView::from(invoice);
                changed.push(ResourceChange::new("invoice", id, revision, at, &view)?);
            }
        }
        let limit = usize::try_from(MAX_CHANGED).unwrap_or(usize::MAX);
        let kinds = ["domain", "app", "member", "invoice"];
        let overflows = kinds.into_iter().filter(|name| {
            let of_kind = changed.iter().filter(|change| change.name == *name);
            of_kind.count() >= limit
        });
        let overflows = overflows.collect();
        Ok((changed, overflows))
    }
}

impl ResourceChange {
    fn new(
        name: &'static str,
        id: String,
        revision: i64,
        at: DateTime,
        view: &impl Serialize,
    ) -> Result<Self, ApiError> {
        let data = serde_json::to_value(view);
        Ok(Self {
            id,
            revision,
            at,
            name,
            data: data.map_err(|error| ApiError::internal(error.into()))?,
        })
    }
}
