//! Webhooks of the payment provider: events are verified and stored by their names, and jobs follow them. Operators list and
//! replay them.

mod receive;
mod replay;
mod signature;

use axum::Json;
use dezky_shared::{
    store::webhook_events::WebhookEventFilter,
    webhook_event::{EventPosition, EventSource, EventState, WebhookEvent},
};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    error::ApiError,
    extract::{FromQuery, Page, PageOf, Parameters, PlatformReader, QueryParams},
    read::{Get, ListResult},
    state::SharedState,
    timestamp::Timestamp,
};

pub(super) fn router() -> OpenApiRouter<SharedState> {
    OpenApiRouter::new()
        .routes(routes!(receive::receive))
        .routes(routes!(list))
        .routes(routes!(replay::replay))
}

/// An event of the payment provider that was received. Its body is not stored.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = WebhookEvent)]
struct EventView {
    /// Id at the payment provider.
    #[schema(example = "evt_1")]
    id: String,
    /// Type.
    #[serde(rename = "type")]
    #[schema(example = "customer.updated")]
    kind: String,
    /// Type of the object that changed.
    #[schema(example = "customer")]
    object_type: String,
    /// Id of the object that changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    object_id: Option<String>,
    /// Tenant that it concerns, once it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = Uuid)]
    tenant_id: Option<String>,
    /// State: `received` until a job has read the object, then `processed`, or `ignored` if nothing depends on it.
    state: EventState,
    /// Source: `webhook`, or `catch_up` from the list of events.
    source: EventSource,
    /// Version of the API that its body had.
    #[serde(skip_serializing_if = "Option::is_none")]
    api_version: Option<String>,
    /// Time of the event, in whole seconds.
    created_at: Timestamp,
    /// Time at which it was received.
    received_at: Timestamp,
}

impl From<WebhookEvent> for EventView {
    fn from(event: WebhookEvent) -> Self {
        Self {
            id: event.id,
            kind: event.kind,
            object_type: event.object_type,
            object_id: event.object_id,
            tenant_id: event.tenant_id.map(|id| id.to_string()),
            state: event.state,
            source: event.source,
            api_version: event.api_version,
            created_at: event.created.into(),
            received_at: event.received_at.into(),
        }
    }
}

/// Filter of an event list.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
struct ListQuery {
    /// State: `received`, `processed` or `ignored`.
    state: Option<EventState>,
    #[param(ignore)]
    page: Page,
}

impl FromQuery for ListQuery {
    fn from_query(parameters: &mut Parameters) -> Result<Self, ApiError> {
        Ok(Self {
            state: parameters.variant("state", "received, processed or ignored")?,
            page: Page::from_query(parameters)?,
        })
    }
}

/// Lists the events of the payment provider, the last received one first
///
/// They are kept for 90 days.
#[utoipa::path(
    get, path = "/webhook-events", operation_id = "listWebhookEvents", tag = "billing", params(ListQuery, Page),
    responses((status = 200, body = PageOf<EventView>)),
)]
async fn list(get: Get<PlatformReader, QueryParams<ListQuery>>) -> ListResult<EventView> {
    let QueryParams(query) = get.params;
    let list = format!("webhook-events?{:?}", query.state);
    let filter = WebhookEventFilter {
        state: query.state,
        after: query.page.after(&list)?,
    };
    let events = &get.app.db.webhook_events;
    let found = events.list(&filter, query.page.fetch_limit()).await?;
    let position = |event: &WebhookEvent| EventPosition::from(event).to_string();
    let page = query.page.build(&list, found, position, EventView::from);
    Ok(Json(page))
}
