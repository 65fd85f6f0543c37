//! The representation of an audit event.

use bson::{Bson, Document};
use dezky_shared::{
    audit::{Action, ActorKind, AuditEvent, Outcome},
    id::{AuditEventId, JobId, TenantId},
};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::{extract::Caller, timestamp::Timestamp};

/// An entry of the audit trail.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AuditEvent)]
pub(super) struct AuditEventView {
    /// Id.
    #[schema(value_type = String, format = Uuid)]
    pub(super) id: AuditEventId,
    /// Time.
    pub(super) at: Timestamp,
    /// Tenant of the trail. Missing for the platform's trail.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = Uuid)]
    pub(super) tenant_id: Option<TenantId>,
    /// Actor.
    pub(super) actor: ActorView,
    /// Action.
    pub(super) action: Action,
    /// Target.
    pub(super) target: TargetView,
    /// `accepted`: a job carries the change out; another event with its `jobId` says how that ended. `done`: the change is
    /// complete. `failed`, `cancelled`: its job failed, or was cancelled.
    pub(super) outcome: Outcome,
    /// Changed fields, before the change. Secrets are `***`.
    #[schema(value_type = Object)]
    pub(super) before: Value,
    /// Changed fields, after the change.
    #[schema(value_type = Object)]
    pub(super) after: Value,
    /// Request id, as in the logs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) request_id: Option<String>,
    /// IP address of the client. Operators' addresses are visible to operators only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ip: Option<String>,
    /// User agent of the client. Operators' user agents are visible to operators only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) user_agent: Option<String>,
    /// Job that carries the change out, or made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = Uuid)]
    pub(super) job_id: Option<JobId>,
    /// Sequence number in the hash chain, once sealed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) seq: Option<i64>,
    /// Hash of the previous event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) prev_hash: Option<String>,
    /// Hash of this event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) hash: Option<String>,
}

/// The actor of an event.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AuditActor)]
pub(super) struct ActorView {
    /// User id, or `system`.
    pub(super) id: String,
    /// Capacity of the actor: `operator`, `partner`, `tenant` (a member), `user` (own account) or `system`.
    pub(super) kind: ActorKind,
    /// Name at the time of the event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    /// E-mail address at the time of the event. Operators' addresses are visible to operators only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) email: Option<String>,
    /// Audience of the token.
    pub(super) audience: Vec<String>,
}

/// The target of an event.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AuditTarget)]
pub(super) struct TargetView {
    /// Kind: `tenant`, `user`, `domain`, ...
    #[schema(example = "tenant")]
    pub(super) kind: String,
    /// Id.
    pub(super) id: String,
    /// Display name.
    pub(super) name: String,
}

impl AuditEventView {
    /// The representation for `caller`.
    pub(super) fn new(event: AuditEvent, caller: &Caller) -> Self {
        let is_visible = caller.may_see_origin(&event.actor);
        let visible = |text: Option<String>| text.filter(|_| is_visible);
        let (actor, target) = (event.actor, event.target);
        Self {
            id: event.id,
            at: event.at.into(),
            tenant_id: event.tenant_id,
            actor: ActorView {
                id: actor.id,
                kind: actor.kind,
                name: actor.name,
                email: visible(actor.email),
                audience: actor.audience,
            },
            action: event.action,
            target: TargetView {
                kind: target.kind,
                id: target.id,
                name: target.name,
            },
            outcome: event.outcome,
            before: plain_document(event.before),
            after: plain_document(event.after),
            request_id: event.origin.request_id,
            ip: visible(event.origin.ip),
            user_agent: visible(event.origin.user_agent),
            job_id: event.job_id,
            seq: event.seq,
            prev_hash: event.prev_hash,
            hash: event.hash,
        }
    }
}

fn plain_document(document: Document) -> Value {
    let fields = document.into_iter();
    let fields = fields.map(|(name, value)| (name, plain(value)));
    Value::Object(fields.collect::<Map<_, _>>())
}

/// A stored value in its JSON representation.
fn plain(value: Bson) -> Value {
    match value {
        Bson::Document(document) => plain_document(document),
        Bson::Array(items) => items.into_iter().map(plain).collect(),
        Bson::DateTime(time) => serde_json::json!(Timestamp::from(time)),
        Bson::String(text) => text.into(),
        Bson::Boolean(value) => value.into(),
        Bson::Int32(number) => number.into(),
        Bson::Int64(number) => number.into(),
        Bson::Double(number) => number.into(),
        Bson::Binary(binary) => match binary.to_uuid() {
            Ok(id) => id.to_string().into(),
            Err(_) => Value::Null,
        },
        Bson::Null => Value::Null,
        // No other type is stored. Shown rather than hidden.
        other => other.to_string().into(),
    }
}

#[cfg(test)]
mod tests {
    use bson::{DateTime, doc};
    use dezky_shared::id::TenantId;

    use super::*;

    #[test]
    fn changed_fields_have_the_json_representation_of_the_api() {
        let stored = doc! {
            "partnerId": TenantId::from_bytes([7; 16]),
            "purgeAt": DateTime::from_millis(1_795_339_800_000),
            "seats": 5_i64,
            "domains": ["a.test"],
            "owner": { "email": "a@b.test", "subject": null },
        };

        let json = plain_document(stored);

        insta::assert_json_snapshot!(json, @r#"
        {
          "domains": [
            "a.test"
          ],
          "owner": {
            "email": "a@b.test",
            "subject": null
          },
          "partnerId": "07070707-0707-0707-0707-070707070707",
          "purgeAt": "2026-11-22T09:30:00.000Z",
          "seats": 5
        }
        "#);
    }
}
