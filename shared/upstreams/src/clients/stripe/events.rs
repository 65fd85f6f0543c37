//! Events: the changes at Stripe in the last 30 days.

use dezky_shared::stripe_event::Event;
use serde::Deserialize;

use super::{Form, Stripe};
use crate::clients::{ClientError, Operation};

const LIST: Operation = Operation::read("list_events");
/// Size of a page.
const LIMIT: u8 = 100;

/// One page of events, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct EventPage {
    /// The events.
    pub data: Vec<Event>,
    /// Whether there are older ones.
    pub has_more: bool,
}

impl EventPage {
    /// Id of the object that was created for a tenant, by its metadata.
    pub fn created_for(&self, tenant_id: &str) -> Option<&str> {
        let is_tenants = |event: &&Event| event.object().metadata("tenantId") == Some(tenant_id);
        self.data.iter().find(is_tenants)?.object().id.as_deref()
    }
}

impl Stripe {
    /// Lists the events since `since` (seconds), newest first, that are older than the event `after`.
    pub async fn list_events(
        &self,
        since: i64,
        after: Option<&str>,
    ) -> Result<EventPage, ClientError> {
        self.list_events_of(None, since, after).await
    }

    /// Lists the creations of customers since `since` (seconds), newest first, that are older than the event `after`.
    /// Customers cannot be listed by metadata, and a search finds new ones late.
    pub async fn list_created_customers(
        &self,
        since: i64,
        after: Option<&str>,
    ) -> Result<EventPage, ClientError> {
        let created = Some("customer.created");
        self.list_events_of(created, since, after).await
    }

    async fn list_events_of(
        &self,
        kind: Option<&str>,
        since: i64,
        after: Option<&str>,
    ) -> Result<EventPage, ClientError> {
        let mut query: Form = vec![
            ("created[gte]".to_owned(), since.to_string()),
            ("limit".to_owned(), LIMIT.to_string()),
        ];
        query.extend(kind.map(|kind| ("type".to_owned(), kind.to_owned())));
        query.extend(after.map(|id| ("starting_after".to_owned(), id.to_owned())));
        let found = self.get(LIST, "/v1/events", &query).await?;
        // The event to start after is older than 30 days: nothing before it can be read.
        Ok(found.unwrap_or(EventPage {
            data: Vec::new(),
            has_more: false,
        }))
    }
}
