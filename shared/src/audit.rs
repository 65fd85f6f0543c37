//! Who changed what: one event for each mutation, in the transaction of the mutation.
//!
//! Events are only ever inserted. A leader seals them later (`seq`, `prev_hash`, `hash`, see [`chain`]), and whatever is
//! older than it has to be kept is deleted, the oldest first.
//!
//! | who changes | what is recorded |
//! | --- | --- |
//! | a caller, by any route | one event for a request that changed something, in the caller's name. One that finds all as wanted, is refused, or is replayed has none |
//! | a caller who makes others lose their claims to a domain | beside their own event a `domain.lost` for each claim, in the trail of whoever lost it |
//! | `GET /users/me` | `user.create` at first sight, `user.sync` when rights follow the groups of a token |
//! | an operation on many jobs | `jobOperation.create`, and an event for each job that it changed, in the name of who asked |
//! | a tenant's jobs | `tenant.activated`, `tenant.terminated`, and the rights of the owner who was welcomed |
//! | a domain's jobs | `domain.proved`, `domain.lost`, `domain.removed`, and `domain.update` where a removal was taken back |
//! | the first start | the default tenant and its subscription |
//!
//! What is no mutation of what somebody wants has no event: how far a job and its steps have come, what they learned
//! upstream, and how a domain's DNS looks (all of this the upstreams and the public DNS can be asked for again, and the
//! documents say when it was learned); the instants of schedules, which have a ledger of their own; jobs that follow
//! from other jobs, which name their parents; circuits that open and close; documents that reach their date of expiry;
//! and the keeping of this trail itself, of which each chain's anchor tells.

pub mod hash_chain;
mod redaction;
pub(crate) mod search_terms;

use std::{fmt, str::FromStr};

use bson::{DateTime, Document};
use serde::{
    Deserialize, Serialize,
    de::{IntoDeserializer as _, value},
};

pub use self::{redaction::redact, search_terms::words};
use crate::id::{AuditEventId, JobId, TenantId};

/// What was done. The name is the action's on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Action {
    /// A tenant was created.
    #[serde(rename = "tenant.create")]
    TenantCreate,
    /// A tenant's fields were changed.
    #[serde(rename = "tenant.update")]
    TenantUpdate,
    /// A tenant was suspended.
    #[serde(rename = "tenant.suspend")]
    TenantSuspend,
    /// A suspended tenant was resumed.
    #[serde(rename = "tenant.resume")]
    TenantResume,
    /// A tenant was terminated.
    #[serde(rename = "tenant.delete")]
    TenantDelete,
    /// A terminated tenant was restored.
    #[serde(rename = "tenant.restore")]
    TenantRestore,
    /// A reconcile was asked for.
    #[serde(rename = "tenant.reconcile")]
    TenantReconcile,
    /// A pending tenant became active.
    #[serde(rename = "tenant.activated")]
    TenantActivated,
    /// A tenant was removed from every upstream.
    #[serde(rename = "tenant.terminated")]
    TenantTerminated,
    /// A user was seen for the first time.
    #[serde(rename = "user.create")]
    UserCreate,
    /// A user's rights were changed.
    #[serde(rename = "user.update")]
    UserUpdate,
    /// A user's rights followed the groups of a token.
    #[serde(rename = "user.sync")]
    UserSync,
    /// A user was deleted.
    #[serde(rename = "user.delete")]
    UserDelete,
    /// A subscription was made.
    #[serde(rename = "subscription.create")]
    SubscriptionCreate,
    /// A subscription was changed.
    #[serde(rename = "subscription.update")]
    SubscriptionUpdate,
    /// A subscription was cancelled.
    #[serde(rename = "subscription.delete")]
    SubscriptionDelete,
    /// The price of a plan was set.
    #[serde(rename = "price.create")]
    PriceCreate,
    /// The price of a plan was changed.
    #[serde(rename = "price.update")]
    PriceUpdate,
    /// The price of a plan was taken away.
    #[serde(rename = "price.delete")]
    PriceDelete,
    /// A partner was added.
    #[serde(rename = "partner.create")]
    PartnerCreate,
    /// A partner's fields were changed.
    #[serde(rename = "partner.update")]
    PartnerUpdate,
    /// A partner was terminated.
    #[serde(rename = "partner.delete")]
    PartnerDelete,
    /// Somebody was invited to a partner's team.
    #[serde(rename = "partnerMember.invite")]
    PartnerMemberInvite,
    /// The recovery link of an invitation was made, or was shown.
    #[serde(rename = "partnerMember.link")]
    PartnerMemberLink,
    /// The access level of a partner's member of staff was changed.
    #[serde(rename = "partnerMember.update")]
    PartnerMemberUpdate,
    /// Somebody was removed from a partner's team.
    #[serde(rename = "partnerMember.remove")]
    PartnerMemberRemove,
    /// A look at the MFA devices of a partner's team was asked for.
    #[serde(rename = "partnerMember.recheck")]
    PartnerMemberRecheck,
    /// A tenant's billing information was changed.
    #[serde(rename = "tenant.billingInfo")]
    TenantBillingInfo,
    /// A tenant's branding was changed.
    #[serde(rename = "tenant.branding")]
    TenantBranding,
    /// A tenant's security policy was changed.
    #[serde(rename = "tenant.securityPolicy")]
    TenantSecurityPolicy,
    /// A feature flag was defined.
    #[serde(rename = "flag.create")]
    FlagCreate,
    /// A feature flag was changed.
    #[serde(rename = "flag.update")]
    FlagUpdate,
    /// A feature flag was deleted.
    #[serde(rename = "flag.delete")]
    FlagDelete,
    /// A domain was added to a tenant, as its own or as a claim.
    #[serde(rename = "domain.create")]
    DomainCreate,
    /// What a domain should be was changed.
    #[serde(rename = "domain.update")]
    DomainUpdate,
    /// A domain is to be removed, or a claim was.
    #[serde(rename = "domain.delete")]
    DomainDelete,
    /// A look at a domain's DNS was asked for.
    #[serde(rename = "domain.recheck")]
    DomainRecheck,
    /// A domain became its tenant's own by its proof.
    #[serde(rename = "domain.proved")]
    DomainProved,
    /// A claim was lost to another tenant.
    #[serde(rename = "domain.lost")]
    DomainLost,
    /// A domain was removed from the mail server, and is nobody's.
    #[serde(rename = "domain.removed")]
    DomainRemoved,
    /// A job was put in the queue again.
    #[serde(rename = "job.requeue")]
    JobRequeue,
    /// A job was cancelled.
    #[serde(rename = "job.cancel")]
    JobCancel,
    /// A schedule was run before its time.
    #[serde(rename = "schedule.run")]
    ScheduleRun,
    /// All work with an upstream was stopped for a while.
    #[serde(rename = "upstream.pause")]
    UpstreamPause,
    /// Work with an upstream goes on, or is tried again at once.
    #[serde(rename = "upstream.resume")]
    UpstreamResume,
    /// A queue was stopped for a while.
    #[serde(rename = "queue.pause")]
    QueuePause,
    /// A queue goes on.
    #[serde(rename = "queue.resume")]
    QueueResume,
    /// A job that waited was discarded.
    #[serde(rename = "job.discard")]
    JobDiscard,
    /// Something was to be done to many jobs.
    #[serde(rename = "jobOperation.create")]
    JobOperationCreate,
    /// Something that only a newer build has a name for. Nothing records it.
    #[serde(rename = "unknown", other)]
    Unknown,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

impl FromStr for Action {
    type Err = value::Error;

    fn from_str(text: &str) -> Result<Self, value::Error> {
        match Self::deserialize(text.into_deserializer())? {
            Self::Unknown => Err(serde::de::Error::custom("no such action")),
            action => Ok(action),
        }
    }
}

/// What somebody acted as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ActorKind {
    /// An operator of ours.
    Operator,
    /// Staff of a partner.
    Partner,
    /// Somebody of the tenant.
    Tenant,
    /// Somebody for themselves.
    User,
    /// The service itself.
    System,
    /// Something that only a newer build has a name for. Nothing records it.
    #[serde(other)]
    Unknown,
}

impl fmt::Display for ActorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// How far it had come when it was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// A job carries it out, and says how that ends.
    Accepted,
    /// With the event itself.
    Done,
    /// Something that only a newer build has a name for. Nothing records it.
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
            Self::Unknown => Err(serde::de::Error::custom("no such outcome")),
            outcome => Ok(outcome),
        }
    }
}

/// Who did it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Actor {
    /// Our id of them, or `system`.
    pub id: String,
    /// Their name at that time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Their address at that time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// What they acted as.
    pub kind: ActorKind,
    /// The audience of their token.
    #[serde(default)]
    pub audience: Vec<String>,
}

impl Actor {
    /// The service itself.
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

/// From where it was done.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Origin {
    /// The request, as it stands in the logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The caller's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// The caller's `User-Agent`, at most 256 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
}

/// What it was done to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// `tenant`, `user`, `partner`, `job`, `jobOperation`, `subscription`, `price`, `flag`, `domain`, `schedule`,
    /// `upstream`, `queue`.
    pub kind: String,
    /// Its id.
    pub id: String,
    /// Its name for people.
    pub name: String,
}

/// One entry of the audit trail, as stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditEvent {
    /// Its id.
    #[serde(rename = "_id")]
    pub id: AuditEventId,
    /// When.
    pub at: DateTime,
    /// The tenant whose trail it belongs to; the platform's when missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<TenantId>,
    /// Who.
    pub actor: Actor,
    /// What.
    pub action: Action,
    /// To what.
    pub target: Target,
    /// How far it had come.
    pub outcome: Outcome,
    /// The fields that changed, as they were.
    #[serde(default)]
    pub before: Document,
    /// The fields that changed, as they are.
    #[serde(default)]
    pub after: Document,
    /// From where.
    #[serde(flatten)]
    pub origin: Origin,
    /// The job it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<JobId>,
    /// What it is found by, beside its time; made as it is recorded.
    #[serde(default)]
    pub terms: Vec<String>,
    /// Whether it has its place in the chain of hashes.
    pub sealed: bool,
    /// Its place in the chain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<i64>,
    /// The hash of the event before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prev_hash: Option<String>,
    /// Its own hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
}

impl AuditEvent {
    /// An event of now, without changed fields.
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

    /// The fields in which `after` differs from `before`.
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
    fn an_action_is_read_as_it_is_written_and_one_of_a_newer_build_is_unknown() {
        let newer: Action = bson::deserialize_from_bson("tenant.clone".into()).unwrap();

        assert_eq!(Action::DomainLost.to_string(), "domain.lost");
        assert_eq!("domain.lost".parse(), Ok(Action::DomainLost));
        assert_eq!(newer, Action::Unknown);
        assert!("tenant.clone".parse::<Action>().is_err());
        assert!("unknown".parse::<Action>().is_err());
    }

    #[test]
    fn what_a_newer_build_calls_an_actor_or_an_outcome_is_unknown_here() {
        let actor: ActorKind = bson::deserialize_from_bson("robot".into()).unwrap();
        let outcome: Outcome = bson::deserialize_from_bson("refused".into()).unwrap();

        assert_eq!((actor, outcome), (ActorKind::Unknown, Outcome::Unknown));
        assert!("refused".parse::<Outcome>().is_err());
        assert!("unknown".parse::<Outcome>().is_err());
    }
}
