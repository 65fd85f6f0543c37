//! Webhook event: the record of an event of Stripe that was received, by webhook or from the list of events. It holds names
//! alone, since the body of an event is personal data.

use std::{fmt, str::FromStr, time::Duration};

use bson::DateTime;
use mongodb::error::Error;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    id::TenantId,
    platform::clock,
    queue::{args::MirrorStripeObject, new_job::NewJob},
    stripe_event::{Event, StripeObject, is_event_id},
};

/// Retention of events. A repeated delivery is recognised for as long.
const KEPT: Duration = Duration::from_hours(90 * 24);

/// Source of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = WebhookEventSource)]
pub enum EventSource {
    /// Stripe delivered it.
    Webhook,
    /// It was found in the list of events.
    CatchUp,
}

/// State of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = WebhookEventState)]
pub enum EventState {
    /// A job will read its object again.
    Received,
    /// Its object was read again.
    Processed,
    /// Nothing depends on its object.
    Ignored,
}

/// Webhook event, as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WebhookEvent {
    /// Id at Stripe.
    #[serde(rename = "_id")]
    pub id: String,
    /// Type, such as `customer.updated`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Type of its object.
    pub object_type: String,
    /// Id of its object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_id: Option<String>,
    /// The object to read again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirrored: Option<StripeObject>,
    /// Tenant that it concerns, once it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<TenantId>,
    /// Time of the event, in whole seconds.
    pub created: DateTime,
    /// Time at which it was received.
    pub received_at: DateTime,
    /// Time at which a job was last enqueued for it.
    pub enqueued_at: DateTime,
    /// Version of the API that its body had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_version: Option<String>,
    /// Source: a delivery, or the list of events.
    pub source: EventSource,
    /// State.
    pub state: EventState,
    /// Expiry (TTL index).
    pub expire_at: DateTime,
}

impl WebhookEvent {
    /// An event that is received now.
    pub fn new(event: &Event, source: EventSource, now: DateTime) -> Self {
        let mirrored = event.mirrored();
        Self {
            id: event.id.clone(),
            kind: event.kind.clone(),
            object_type: event.object().object.clone(),
            object_id: event.object().id.clone(),
            state: if mirrored.is_some() {
                EventState::Received
            } else {
                EventState::Ignored
            },
            mirrored,
            tenant_id: None,
            created: event.created_at(),
            received_at: now,
            enqueued_at: now,
            api_version: event.api_version.clone(),
            source,
            expire_at: clock::later(now, KEPT),
        }
    }

    /// Whether both are deliveries of one event. Deliveries differ in their source, their times and their version.
    pub fn is_same(&self, other: &Self) -> bool {
        self.id == other.id
            && self.kind == other.kind
            && self.object_type == other.object_type
            && self.object_id == other.object_id
            && self.created == other.created
    }

    /// The job that reads its object again, if anything depends on it.
    pub fn job(&self, created_by: &str, now: DateTime) -> Result<Option<NewJob>, Error> {
        let Some(object) = self.mirrored.clone() else {
            return Ok(None);
        };
        let args = MirrorStripeObject {
            object_type: object.object_type,
            object_id: object.object_id,
            tenant_id: self.tenant_id,
        };
        NewJob::new(&args, created_by, now).map(Some)
    }
}

/// Id of an event, in a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventId(pub String);

/// Not an id of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAnEventId;

impl FromStr for EventId {
    type Err = NotAnEventId;

    fn from_str(text: &str) -> Result<Self, NotAnEventId> {
        if is_event_id(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NotAnEventId)
        }
    }
}

/// Position in the list of events: the time at which one was received, and its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventPosition {
    /// Time at which it was received.
    pub received_at: DateTime,
    /// Id.
    pub id: String,
}

impl From<&WebhookEvent> for EventPosition {
    fn from(event: &WebhookEvent) -> Self {
        Self {
            received_at: event.received_at,
            id: event.id.clone(),
        }
    }
}

impl fmt::Display for EventPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.received_at.timestamp_millis(), self.id)
    }
}

impl FromStr for EventPosition {
    type Err = NotAnEventId;

    fn from_str(text: &str) -> Result<Self, NotAnEventId> {
        let (millis, id) = text.split_once('/').ok_or(NotAnEventId)?;
        let millis = millis.parse().map_err(|_| NotAnEventId)?;
        let EventId(id) = id.parse()?;
        Ok(Self {
            received_at: DateTime::from_millis(millis),
            id,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_as_it_was_written() {
        let position = EventPosition {
            received_at: DateTime::from_millis(1_795_339_800_000),
            id: "evt_1".to_owned(),
        };

        assert_eq!(position.to_string().parse(), Ok(position));
        for bad in ["", "1", "x/evt_1", "1/cus_1"] {
            assert_eq!(bad.parse::<EventPosition>(), Err(NotAnEventId), "{bad}");
        }
    }
}
