//! An event, as callers see it.

use bson::{Bson, Document};
use dezky_shared::{
    audit::{Action, Actor, ActorKind, AuditEvent, Outcome, Target},
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
    /// Its id.
    #[schema(value_type = String, format = Uuid)]
    pub(super) id: AuditEventId,
    /// When.
    pub(super) at: Timestamp,
    /// The tenant whose trail it belongs to; the platform's when missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = Uuid)]
    pub(super) tenant_id: Option<TenantId>,
    /// Who.
    pub(super) actor: ActorView,
    /// What.
    #[schema(value_type = String, example = "tenant.suspend")]
    pub(super) action: Action,
    /// To what.
    pub(super) target: TargetView,
    /// `accepted`: a job carries it out. `done`: it was complete at once.
    #[schema(value_type = String, example = "done")]
    pub(super) outcome: Outcome,
    /// The fields that changed, as they were. What is secret is `***`.
    #[schema(value_type = Object)]
    pub(super) before: Value,
    /// The fields that changed, as they are.
    #[schema(value_type = Object)]
    pub(super) after: Value,
    /// The request, as it stands in the logs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) request_id: Option<String>,
    /// The address that it came from. An operator's is shown to operators.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ip: Option<String>,
    /// The program that sent it. An operator's is shown to operators.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) user_agent: Option<String>,
    /// The job that carries it out, or that did it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = Uuid)]
    pub(super) job_id: Option<JobId>,
    /// Its place in the chain, once it is sealed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) seq: Option<i64>,
    /// The hash of the event before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) prev_hash: Option<String>,
    /// Its own hash.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) hash: Option<String>,
}

/// Who did it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AuditActor)]
pub(super) struct ActorView {
    /// The id of the user, or `system`.
    pub(super) id: String,
    /// What they acted as: `operator`, `partner`, `tenant` (somebody of it), `user` (for themselves), `system`.
    #[schema(value_type = String, example = "tenant")]
    pub(super) kind: ActorKind,
    /// Their name at that time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    /// Their e-mail address at that time. An operator's is shown to operators.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) email: Option<String>,
    /// The audience of their token.
    pub(super) audience: Vec<String>,
}

/// What it was done to.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AuditTarget)]
pub(super) struct TargetView {
    /// What it is: `tenant`, `user`, `domain`, ...
    #[schema(example = "tenant")]
    pub(super) kind: String,
    /// Its id.
    pub(super) id: String,
    /// Its name for people.
    pub(super) name: String,
}

impl AuditEventView {
    /// As `caller` may see it.
    pub(super) fn new(event: AuditEvent, caller: &Caller) -> Self {
        let is_shown = caller.may_see_origin(&event.actor);
        let shown = |text: Option<String>| text.filter(|_| is_shown);
        let Actor {
            id,
            name,
            email,
            kind,
            audience,
        } = event.actor;
        let Target {
            kind: target_kind,
            id: target_id,
            name: target_name,
        } = event.target;
        Self {
            id: event.id,
            at: event.at.into(),
            tenant_id: event.tenant_id,
            actor: ActorView {
                id,
                kind,
                name,
                email: shown(email),
                audience,
            },
            action: event.action,
            target: TargetView {
                kind: target_kind,
                id: target_id,
                name: target_name,
            },
            outcome: event.outcome,
            before: plain_document(event.before),
            after: plain_document(event.after),
            request_id: event.origin.request_id,
            ip: shown(event.origin.ip),
            user_agent: shown(event.origin.user_agent),
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

/// A stored value as it is written everywhere else on the wire.
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
        // Nothing else is stored; whatever it is, it is not kept back.
        other => other.to_string().into(),
    }
}

#[cfg(test)]
mod tests {
    use bson::{DateTime, doc};
    use dezky_shared::id::TenantId;

    use super::*;

    #[test]
    fn changed_fields_are_written_as_everything_else_is() {
        let stored = doc! {
            "partnerId": TenantId::from_bytes([7; 16]),
            "purgeAt": DateTime::from_millis(1_795_339_800_000),
            "seats": 5_i64,
            "domains": ["a.test"],
            "owner": { "email": "a@b.test", "subject": null },
        };

        let shown = plain_document(stored);

        insta::assert_json_snapshot!(shown, @r#"
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
