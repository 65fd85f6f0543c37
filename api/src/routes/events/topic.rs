//! Topic of a stream: the documents that it follows, and their current state as an event.

use axum::response::sse::Event;
use bson::DateTime;
use dezky_shared::{
    id::{JobId, TenantId},
    platform::change_feed::DocumentChange,
};

use super::{event, position::Position, resources::Scope};
use crate::{
    error::ApiError,
    extract::{Caller, Permission as _, ReadBilling, ReadPrivate},
    routes::{
        jobs::{JobView, still_visible_job},
        tenants::TenantView,
    },
    state::AppState,
};

/// The topic of a stream.
#[derive(Debug, Clone, Copy)]
pub(super) enum Topic {
    /// A job and its tenant.
    Job(JobId, Option<TenantId>),
    /// A tenant.
    Tenant(TenantId),
}

/// The state of a topic.
pub(super) struct Snapshot {
    pub(super) revision: i64,
    /// Whether the state is final.
    pub(super) is_last: bool,
    pub(super) event: Event,
    /// The tenant whose resources are sent, too.
    pub(super) resources: Option<StreamedTenant>,
    /// The documents that it was read from, including those of the caller's permissions, with their revisions.
    pub(super) sources: Vec<(DocumentChange, i64)>,
}

/// A tenant whose resources are sent.
#[derive(Clone)]
pub(super) struct StreamedTenant {
    id: TenantId,
    slug: String,
    /// Whether the caller may read members and apps.
    is_private: bool,
    /// Whether the caller may read invoices.
    is_billing: bool,
}

impl StreamedTenant {
    pub(super) fn scope(&self, tenant_revision: Option<i64>) -> Scope<'_> {
        Scope {
            tenant: self.id,
            tenant_slug: &self.slug,
            is_private: self.is_private,
            is_billing: self.is_billing,
            tenant_revision: tenant_revision.unwrap_or(0),
        }
    }

    /// Whether the caller may no longer read resources that could be read `before`.
    pub(super) fn is_narrower_than(&self, before: &Self) -> bool {
        before.is_private && !self.is_private || before.is_billing && !self.is_billing
    }
}

impl Topic {
    /// The documents that the state or the caller's permissions depend on.
    pub(super) fn sources(self, caller: &Caller) -> Vec<DocumentChange> {
        let (job, tenant) = match self {
            Self::Job(job, tenant) => (Some(job), tenant),
            Self::Tenant(tenant) => (None, Some(tenant)),
        };
        let documents = job.map(DocumentChange::Job).into_iter();
        let resources = match self {
            Self::Job(..) => None,
            Self::Tenant(id) => Some(DocumentChange::TenantResources(id)),
        };
        documents
            .chain(tenant.map(DocumentChange::Tenant))
            .chain(resources)
            .chain([DocumentChange::User(caller.user.id)])
            .chain(
                caller
                    .partner
                    .as_ref()
                    .map(|it| DocumentChange::Partner(it.id)),
            )
            .collect()
    }

    /// Reads the current state, if the caller still has access. Changes of a tenant's resources are sent through `sent_through`.
    pub(super) async fn read(
        self,
        app: &AppState,
        caller: &mut Caller,
        sent_through: DateTime,
    ) -> Result<Snapshot, ApiError> {
        let mut snapshot = match self {
            Self::Job(id, _) => {
                let (job, tenant) = still_visible_job(app, caller, id).await?;
                let tenants = tenant.iter();
                let mut sources = vec![(DocumentChange::Job(id), job.revision)];
                sources.extend(tenants.map(|it| (DocumentChange::Tenant(it.id), it.revision)));
                let (revision, is_last) = (job.revision, job.state.is_final());
                let view = JobView::new(job, tenant.map(|tenant| tenant.slug), caller);
                Snapshot {
                    revision,
                    is_last,
                    event: event("job", &Position::of(revision), &view)?,
                    resources: None,
                    sources,
                }
            }
            Self::Tenant(id) => {
                let tenant = caller.reload_tenant(&app.access, id).await?;
                let revision = tenant.revision;
                let resources = StreamedTenant {
                    id,
                    slug: tenant.slug.clone(),
                    is_private: ReadPrivate::allows(caller, &tenant),
                    is_billing: ReadBilling::allows(caller, &tenant),
                };
                let view = TenantView::shown_to(caller, tenant);
                Snapshot {
                    revision,
                    is_last: false,
                    event: event(
                        "tenant",
                        &Position::with_resources(revision, sent_through),
                        &view,
                    )?,
                    resources: Some(resources),
                    sources: vec![
                        (DocumentChange::Tenant(id), revision),
                        (DocumentChange::TenantResources(id), 0),
                    ],
                }
            }
        };
        let user = &caller.user;
        snapshot
            .sources
            .push((DocumentChange::User(user.id), user.revision));
        if let Some(partner) = &caller.partner {
            let source = (DocumentChange::Partner(partner.id), partner.revision);
            snapshot.sources.push(source);
        }
        Ok(snapshot)
    }
}
