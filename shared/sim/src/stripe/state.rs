//! State of the simulated Stripe: all objects in the order of their creation.

use std::collections::{HashMap, VecDeque};

use dezky_shared::platform::clock;
use serde_json::{Map, Value, json};

use super::{
    API_VERSION,
    idempotency::{Answer, IdempotencyKeys},
    params::Params,
    refusal::Refusal,
    webhooks::WebhookTarget,
};

/// Age at which an event cannot be read any more, in seconds.
const EVENT_RETENTION: i64 = 30 * 24 * 60 * 60;

#[derive(Debug, Default)]
pub(super) struct State {
    objects: Vec<Value>,
    /// Positions of the objects by id.
    positions: HashMap<String, usize>,
    pub(super) keys: IdempotencyKeys,
    /// Errors of the next requests, by operation.
    pub(super) refusals: VecDeque<(String, Refusal)>,
    /// Ids of the events that wait for their delivery.
    pub(super) undelivered: VecDeque<String>,
    /// Registered endpoint of the events.
    pub(super) endpoint: Option<WebhookTarget>,
    /// Seconds by which the simulated clock is ahead.
    pub(super) ahead: i64,
    /// Idempotency key of the running request.
    pub(super) running_key: Option<String>,
    last_id: u64,
    pub(super) last_request: u64,
}

impl State {
    /// Simulated time in seconds.
    pub(super) fn now(&self) -> i64 {
        clock::now().timestamp_millis() / 1_000 + self.ahead
    }

    /// Numbers the ids from this number on.
    pub(super) fn number_from(&mut self, first: u64) {
        self.last_id = first;
    }

    pub(super) fn new_id(&mut self, prefix: &str) -> String {
        self.last_id += 1;
        format!("{prefix}_sim{:011}", self.last_id)
    }

    /// Number of the last id: unique, and shorter than the id.
    pub(super) fn last_id(&self) -> u64 {
        self.last_id
    }

    pub(super) fn objects(&self) -> &[Value] {
        &self.objects
    }

    pub(super) fn find(&self, id: &str) -> Option<&Value> {
        let position = self.positions.get(id)?;
        self.objects.get(*position)
    }

    /// The object of this kind that a path names. One that was deleted counts as missing.
    pub(super) fn existing(&self, kind: &str, id: &str) -> Answer {
        let found = self.find(id).filter(|object| is_live(object, kind));
        found.cloned().ok_or_else(|| Refusal::missing(id))
    }

    /// The object of this kind that a parameter names.
    pub(super) fn referenced(&self, kind: &str, param: &str, id: &str) -> Answer {
        let found = self.find(id).filter(|object| is_live(object, kind));
        found
            .cloned()
            .ok_or_else(|| Refusal::missing_param(param, id))
    }

    /// Stores an object, in place of the one with its id.
    pub(super) fn put(&mut self, object: Value) {
        let id = id_of(&object);
        if let Some(position) = self.positions.get(&id) {
            self.objects[*position] = object;
        } else {
            self.positions.insert(id, self.objects.len());
            self.objects.push(object);
        }
    }

    pub(super) fn remove(&mut self, id: &str) {
        self.objects.retain(|object| object["id"] != id);
        let ids = self.objects.iter().map(id_of);
        self.positions = ids.zip(0..).collect();
    }

    /// Records an event about `object`, and queues it for delivery.
    pub(super) fn emit(&mut self, kind: &str, object: &Value) {
        let id = self.new_id("evt");
        let event = json!({
            "id": id, "object": "event", "api_version": API_VERSION, "created": self.now(),
            "data": { "object": object }, "livemode": false, "pending_webhooks": 1,
            "request": {
                "id": format!("req_sim{}", self.last_request), "idempotency_key": self.running_key,
            },
            "type": kind,
        });
        self.put(event);
        self.undelivered.push_back(id);
    }

    /// One page of the objects that match, newest first.
    pub(super) fn page(
        &self,
        url: &str,
        params: &mut Params,
        matches: impl Fn(&Value) -> bool,
    ) -> Answer {
        let limit = params.integer("limit")?.unwrap_or(10);
        let (after, before) = (
            params.filled("starting_after")?,
            params.filled("ending_before")?,
        );
        params.finish()?;
        let Some(limit) = usize::try_from(limit)
            .ok()
            .filter(|it| (1..=100).contains(it))
        else {
            let message = "The limit is between 1 and 100.";
            return Err(Refusal::param(
                "parameter_invalid_integer",
                "limit",
                message,
            ));
        };
        let all: Vec<&Value> = self.objects.iter().rev().filter(|it| matches(it)).collect();
        let position = |param: &str, id: &str| {
            let found = all.iter().position(|object| object["id"] == id);
            found.ok_or_else(|| Refusal::missing_param(param, id))
        };
        let (data, has_more) = match (after, before) {
            (_, Some(id)) => {
                let end = position("ending_before", &id)?;
                let start = end.saturating_sub(limit);
                (&all[start..end], start > 0)
            }
            (after, None) => {
                let start = match after {
                    Some(id) => position("starting_after", &id)? + 1,
                    None => 0,
                };
                let end = all.len().min(start + limit);
                (&all[start..end], end < all.len())
            }
        };
        Ok(json!({ "object": "list", "data": data, "has_more": has_more, "url": url }))
    }

    /// The readable events: those of the last 30 days.
    pub(super) fn list_events(&mut self, _: &[&str], params: &mut Params) -> Answer {
        let kinds: Vec<String> = match params.filled("type")? {
            Some(kind) => vec![kind],
            None => params.list("types")?.unwrap_or_default(),
        };
        let created = params.object("created", &["gt", "gte", "lt", "lte"])?;
        let bound =
            |name: &str| -> Option<i64> { created.as_ref()?.get(name)?.as_str()?.parse().ok() };
        let (above, from) = (bound("gt"), bound("gte"));
        let (below, until) = (bound("lt"), bound("lte"));
        let oldest = self.now() - EVENT_RETENTION;
        self.page("/v1/events", params, |object| {
            let at = object["created"].as_i64().unwrap_or_default();
            object["object"] == "event"
                && at > oldest
                && (kinds.is_empty() || kinds.iter().any(|kind| object["type"] == *kind))
                && above.is_none_or(|bound| at > bound)
                && from.is_none_or(|bound| at >= bound)
                && below.is_none_or(|bound| at < bound)
                && until.is_none_or(|bound| at <= bound)
        })
    }

    pub(super) fn retrieve_event(&mut self, ids: &[&str], params: &mut Params) -> Answer {
        params.finish()?;
        self.existing("event", ids[0])
    }

    /// Replaces the id at `path` by its object.
    pub(super) fn expand(&self, value: &mut Value, path: &str) {
        let (field, rest) = path.split_once('.').unwrap_or((path, ""));
        if let Value::Array(items) = value {
            for item in items {
                self.expand(item, path);
            }
            return;
        }
        let Some(nested) = value.get_mut(field) else {
            return;
        };
        if let Some(object) = nested.as_str().and_then(|id| self.find(id)) {
            *nested = object.clone();
        }
        if !rest.is_empty() {
            self.expand(nested, rest);
        }
    }
}

/// One object with the fields of all parts: the macro for JSON takes about thirty fields.
pub(super) fn merged<const N: usize>(parts: [Value; N]) -> Value {
    let fields = |part: Value| match part {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    parts.into_iter().flat_map(fields).collect()
}

fn id_of(object: &Value) -> String {
    object["id"].as_str().unwrap_or_default().to_owned()
}

fn is_live(object: &Value, kind: &str) -> bool {
    object["object"] == kind && object["deleted"] != true
}
