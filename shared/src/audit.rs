//! Audit trail: one immutable event for each mutation, written in the transaction of the mutation.
//!
//! Events are inserted once. The leader seals them later into a hash chain (`seq`, `prev_hash`, `hash`; see
//! [`hash_chain`]), and retention deletes the oldest sealed events once their retention period is over.
//!
//! | mutation by | recorded events |
//! | --- | --- |
//! | a caller, on any route | one event for a request that changed something, with the caller as actor; none for a request that changed nothing, was rejected, or was replayed |
//! | a caller who invalidates competing domain claims | additionally one `domain.lost` for each claim, in the trail of the tenant that lost it |
//! | `GET /users/me` | `user.create` on the first sign-in, `user.sync` when permissions follow the groups of a token |
//! | sign-in to the console, and sign-out | `console.signIn`, `console.signOut`, with the operator as actor and target |
//! | a job that carries out a caller's accepted action | one event when it ends, with the action and the target of the accepted one, the system as actor, and the outcome `done`, `failed` or `cancelled` |
//! | a bulk job operation | `jobOperation.create`, and one event for each changed job, with the requester as actor |
//! | an import of members | `memberImport.create`, and one `member.create` for each member, with the requester as actor |
//! | a tenant's jobs | `tenant.activated`, `tenant.terminated`, and the owner's permissions granted on activation |
//! | an app's jobs, and a tenant's reconcile | `app.drift` where an app was changed at the identity provider, `app.removed` |
//! | a member's jobs | `member.activated`, `member.removed`, and the permissions granted with the account |
//! | a subscription's invoice job | `invoice.create` for each invoice, `subscription.update` where it enrolled the subscription or changed its status, `subscription.delete` where it ended it |
//! | the closing of a month | `payout.create` for each payout |
//! | a domain's jobs | `domain.proved`, `domain.lost`, `domain.removed`, and `domain.update` where a removal was reverted |
//! | the first start | the default tenant and its subscription |
//!
//! Not recorded, because no desired state changes: progress of jobs and steps, facts learned from upstreams, and DNS
//! check results (all can be queried again, and the documents carry timestamps); schedule instants, which have their
//! own ledger; jobs enqueued by other jobs, which name their parents; circuit breaker transitions; documents that reach
//! their expiry; and retention of the trail itself, which each chain's anchor records.

mod action;
pub mod hash_chain;
mod redaction;
pub(crate) mod search_terms;

use std::{fmt, str::FromStr};

use bson::{DateTime, Document};
use serde::{
    Deserialize, Serialize,
    de::{IntoDeserializer as _, value},
};
use utoipa::ToSchema;

pub use self::{action::Action, redaction::redact, search_terms::words};
use crate::id::{AuditEventId, JobId, TenantId};

/// Kind of actor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AuditActorKind)]
pub enum ActorKind {
    /// A platform operator.
    Operator,
    /// A member of a partner's team.
    Partner,
    /// A member of the tenant.
    Tenant,
    /// A user acting on their own account.
    User,
    /// The service itself.
    System,
    /// A value written by a newer build; this build never records it.
    #[serde(other)]
    Unknown,
}

impl fmt::Display for ActorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// Outcome of the action at the time it was recorded. The end of the job that carries out an accepted action is an event
/// of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AuditOutcome)]
pub enum Outcome {
    /// Accepted: a job carries it out and records the result.
    Accepted,
    /// Completed: in the transaction of the event, or by the job of an accepted action.
    Done,
    /// The job of an accepted action failed.
    Failed,
    /// The job of an accepted action was cancelled.
    Cancelled,
    /// A value written by a newer build; this build never records it.
    #[serde(other)]
    Unknown,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

impl FromStr for Outcome {
    type Err = value::Error;

    fn from_str(text: &str) -> Result<Self, value::Error> {
        match Self::deserialize(text.into_deserializer())? {
            Self::Unknown => Err(serde::de::Error::custom("unknown outcome")),
            outcome => Ok(outcome),
        }
    }
}

/// Actor of an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Actor {
    /// User id, or `system`.
    pub id: String,
    /// Display name at that time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// E-mail address at that time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Kind of actor.
    pub kind: ActorKind,
    /// Audience of the access token.
    #[serde(default)]
    pub audience: Vec<String>,
}

impl Actor {
    /// The service itself as actor.
    pub fn system() -> Self {
        Self {
            id: "system".to_owned(),
            name: None,
            email: None,
            kind: ActorKind::System,
            audience: Vec::new(),
        }
    }
}

/// Request that caused an event.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Origin {
    /// Request id, as in the logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Client IP address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// `User-Agent` header, at most 256 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
}

/// Object of an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Kind: `tenant`, `user`, `member`, `memberImport`, `partner`, `job`, `jobOperation`, `subscription`, `invoice`,
    /// `payout`, `price`, `allowance`, `flag`, `domain`, `app`, `schedule`, `upstream`, `queue`.
    pub kind: String,
    /// Object id.
    pub id: String,
    /// Display name.
    pub name: String,
}

impl Target {
    /// The object of `kind` with this id and display name.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "callers pass ids, which are copied, and texts"
    )]
    pub fn new(kind: &str, id: impl ToString, name: impl Into<String>) -> Self {
        Self {
            kind: kind.to_owned(),
            id: id.to_string(),
            name: name.into(),
        }
    }
}

/// Audit event, as stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditEvent {
    /// Unique id.
    #[serde(rename = "_id")]
    pub id: AuditEventId,
    /// Time of recording.
    pub at: DateTime,
    /// Tenant whose trail holds the event; missing for the platform's trail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<TenantId>,
    /// Actor.
    pub actor: Actor,
    /// Action.
    pub action: Action,
    /// Target.
    pub target: Target,
    /// Outcome.
    pub outcome: Outcome,
    /// Changed fields, before the change.
    #[serde(default)]
    pub before: Document,
    /// Changed fields, after the change.
    #[serde(default)]
    pub after: Document,
    /// Originating request.
    #[serde(flatten)]
    pub origin: Origin,
    /// Related job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<JobId>,
    /// Search terms, computed when the event is recorded.
    #[serde(default)]
    pub terms: Vec<String>,
    /// Whether the event is part of the hash chain.
    pub sealed: bool,
    /// Sequence number in the chain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<i64>,
    /// Hash of the preceding event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prev_hash: Option<String>,
    /// Hash of this event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
}

impl AuditEvent {
    /// A new event without changed fields.
    pub fn new(at: DateTime, actor: Actor, action: Action, target: Target, origin: Origin) -> Self {
        Self {
            id: AuditEventId::new(),
            at,
            tenant_id: None,
            actor,
            action,
            target,
            outcome: Outcome::Done,
            before: Document::new(),
            after: Document::new(),
            origin,
            job_id: None,
            terms: Vec::new(),
            sealed: false,
            seq: None,
            prev_hash: None,
            hash: None,
        }
    }

    /// Records the fields in which `after` differs from `before`.
    #[must_use]
    pub fn with_changes(mut self, before: &Document, after: &Document) -> Self {
        for (field, value) in after {
            if before.get(field) != Some(value) {
                self.after.insert(field.clone(), value.clone());
                if let Some(old) = before.get(field) {
                    self.before.insert(field.clone(), old.clone());
                }
            }
        }
        for (field, old) in before {
            if !after.contains_key(field) {
                self.before.insert(field.clone(), old.clone());
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actors_and_outcomes_of_a_newer_build_decode_as_unknown() {
        let actor: ActorKind = bson::deserialize_from_bson("robot".into()).unwrap();
        let outcome: Outcome = bson::deserialize_from_bson("refused".into()).unwrap();

        assert_eq!((actor, outcome), (ActorKind::Unknown, Outcome::Unknown));
        assert!("refused".parse::<Outcome>().is_err());
        assert!("unknown".parse::<Outcome>().is_err());
    }
}
