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

pub use self::{redaction::redact, search_terms::words};
use crate::id::{AuditEventId, JobId, TenantId};

/// Action of an event. The name is the one on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[schema(as = AuditAction)]
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
    /// The removal of a tenant was scheduled.
    #[serde(rename = "tenant.delete")]
    TenantDelete,
    /// The scheduled removal of a tenant was revoked.
    #[serde(rename = "tenant.restore")]
    TenantRestore,
    /// A reconcile was requested.
    #[serde(rename = "tenant.reconcile")]
    TenantReconcile,
    /// A pending tenant became active.
    #[serde(rename = "tenant.activated")]
    TenantActivated,
    /// A tenant was removed from every upstream.
    #[serde(rename = "tenant.terminated")]
    TenantTerminated,
    /// A user signed in for the first time.
    #[serde(rename = "user.create")]
    UserCreate,
    /// A user's permissions were changed.
    #[serde(rename = "user.update")]
    UserUpdate,
    /// A user's permissions followed the groups of a token.
    #[serde(rename = "user.sync")]
    UserSync,
    /// A user was deleted.
    #[serde(rename = "user.delete")]
    UserDelete,
    /// A member was created, or a person known by a claim was adopted.
    #[serde(rename = "member.create")]
    MemberCreate,
    /// A member's name, role, aliases or quota was changed.
    #[serde(rename = "member.update")]
    MemberUpdate,
    /// A member was suspended.
    #[serde(rename = "member.suspend")]
    MemberSuspend,
    /// A suspended member was resumed.
    #[serde(rename = "member.resume")]
    MemberResume,
    /// A member's sessions were ended on request.
    #[serde(rename = "member.signOut")]
    MemberSignOut,
    /// A new one-time password was issued for a member.
    #[serde(rename = "member.resetPassword")]
    MemberResetPassword,
    /// A member's removal was requested; their rights ended.
    #[serde(rename = "member.delete")]
    MemberDelete,
    /// A member was restored before their removal.
    #[serde(rename = "member.restore")]
    MemberRestore,
    /// A pending member became active.
    #[serde(rename = "member.activated")]
    MemberActivated,
    /// A member was removed from every upstream.
    #[serde(rename = "member.removed")]
    MemberRemoved,
    /// An import of members was requested.
    #[serde(rename = "memberImport.create")]
    MemberImportCreate,
    /// The one-time passwords of an import were handed over.
    #[serde(rename = "memberImport.passwords")]
    MemberImportPasswords,
    /// A subscription was created.
    #[serde(rename = "subscription.create")]
    SubscriptionCreate,
    /// A subscription was changed.
    #[serde(rename = "subscription.update")]
    SubscriptionUpdate,
    /// A subscription was cancelled.
    #[serde(rename = "subscription.delete")]
    SubscriptionDelete,
    /// The invoices of a subscription were requested.
    #[serde(rename = "subscription.invoice")]
    SubscriptionInvoice,
    /// A sync of the customer at the payment provider was requested.
    #[serde(rename = "billing.sync")]
    BillingSync,
    /// The entry of a card was begun.
    #[serde(rename = "paymentMethod.enter")]
    PaymentMethodEnter,
    /// The card that invoices are charged to was changed.
    #[serde(rename = "paymentMethod.set")]
    PaymentMethodSet,
    /// A replay of an event of the payment provider was requested.
    #[serde(rename = "webhookEvent.replay")]
    WebhookEventReplay,
    /// An invoice was issued.
    #[serde(rename = "invoice.create")]
    InvoiceCreate,
    /// An invoice was voided.
    #[serde(rename = "invoice.void")]
    InvoiceVoid,
    /// An invoice was marked as paid.
    #[serde(rename = "invoice.markPaid")]
    InvoiceMarkPaid,
    /// An invoice of the payment provider was issued, paid, reduced or closed there.
    #[serde(rename = "invoice.mirror")]
    InvoiceMirror,
    /// An amount was written to a partner's ledger.
    #[serde(rename = "ledger.adjust")]
    LedgerAdjust,
    /// A payout was created.
    #[serde(rename = "payout.create")]
    PayoutCreate,
    /// The creation of a payout was requested.
    #[serde(rename = "payout.request")]
    PayoutRequest,
    /// A payout was cancelled.
    #[serde(rename = "payout.cancel")]
    PayoutCancel,
    /// A payout was marked as paid.
    #[serde(rename = "payout.markPaid")]
    PayoutMarkPaid,
    /// A report was saved.
    #[serde(rename = "savedReport.create")]
    SavedReportCreate,
    /// A saved report was deleted.
    #[serde(rename = "savedReport.delete")]
    SavedReportDelete,
    /// The price of a plan was created.
    #[serde(rename = "price.create")]
    PriceCreate,
    /// The price of a plan was changed.
    #[serde(rename = "price.update")]
    PriceUpdate,
    /// The price of a plan was deleted.
    #[serde(rename = "price.delete")]
    PriceDelete,
    /// The allowance of a plan was changed.
    #[serde(rename = "allowance.update")]
    AllowanceUpdate,
    /// The reset of a person's second factors was requested.
    #[serde(rename = "user.resetMfa")]
    UserResetMfa,
    /// A partner was created.
    #[serde(rename = "partner.create")]
    PartnerCreate,
    /// A partner's fields were changed.
    #[serde(rename = "partner.update")]
    PartnerUpdate,
    /// A partner was terminated.
    #[serde(rename = "partner.delete")]
    PartnerDelete,
    /// A member was invited to a partner's team.
    #[serde(rename = "partnerMember.invite")]
    PartnerMemberInvite,
    /// An invitation to a partner's team was accepted.
    #[serde(rename = "partnerMember.accept")]
    PartnerMemberAccept,
    /// An invitation to a partner's team was declined.
    #[serde(rename = "partnerMember.decline")]
    PartnerMemberDecline,
    /// The recovery link of an invitation was created or shown.
    #[serde(rename = "partnerMember.link")]
    PartnerMemberLink,
    /// The role of a partner's team member was changed.
    #[serde(rename = "partnerMember.update")]
    PartnerMemberUpdate,
    /// A member was removed from a partner's team.
    #[serde(rename = "partnerMember.remove")]
    PartnerMemberRemove,
    /// A check of the MFA devices of a partner's team was requested.
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
    /// A domain was added to a tenant, as owned or as a claim.
    #[serde(rename = "domain.create")]
    DomainCreate,
    /// A domain's settings were changed.
    #[serde(rename = "domain.update")]
    DomainUpdate,
    /// A domain's removal was requested, or a claim was deleted.
    #[serde(rename = "domain.delete")]
    DomainDelete,
    /// A check of a domain's DNS was requested.
    #[serde(rename = "domain.recheck")]
    DomainRecheck,
    /// A domain's ownership was proved through its DNS token.
    #[serde(rename = "domain.proved")]
    DomainProved,
    /// A claim was lost to another tenant.
    #[serde(rename = "domain.lost")]
    DomainLost,
    /// A domain was removed from the mail server and released.
    #[serde(rename = "domain.removed")]
    DomainRemoved,
    /// An app was created.
    #[serde(rename = "app.create")]
    AppCreate,
    /// An app's settings were changed.
    #[serde(rename = "app.update")]
    AppUpdate,
    /// An app's removal was requested.
    #[serde(rename = "app.delete")]
    AppDelete,
    /// A new client secret was issued.
    #[serde(rename = "app.rotateSecret")]
    AppRotateSecret,
    /// A reconcile found an app changed at the identity provider, and put it back.
    #[serde(rename = "app.drift")]
    AppDrift,
    /// An app was removed from the identity provider.
    #[serde(rename = "app.removed")]
    AppRemoved,
    /// A job was requeued.
    #[serde(rename = "job.requeue")]
    JobRequeue,
    /// A job was cancelled.
    #[serde(rename = "job.cancel")]
    JobCancel,
    /// A schedule was run manually.
    #[serde(rename = "schedule.run")]
    ScheduleRun,
    /// An upstream was paused.
    #[serde(rename = "upstream.pause")]
    UpstreamPause,
    /// An upstream was resumed, or a half-open probe was forced.
    #[serde(rename = "upstream.resume")]
    UpstreamResume,
    /// A queue was paused.
    #[serde(rename = "queue.pause")]
    QueuePause,
    /// A queue was resumed.
    #[serde(rename = "queue.resume")]
    QueueResume,
    /// An available job was discarded.
    #[serde(rename = "job.discard")]
    JobDiscard,
    /// A discarded job was dismissed.
    #[serde(rename = "job.dismiss")]
    JobDismiss,
    /// A bulk job operation was created.
    #[serde(rename = "jobOperation.create")]
    JobOperationCreate,
    /// An operator signed in to the console.
    #[serde(rename = "console.signIn")]
    ConsoleSignIn,
    /// An operator signed out of the console.
    #[serde(rename = "console.signOut")]
    ConsoleSignOut,
    /// A value written by a newer build; this build never records it.
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
            Self::Unknown => Err(serde::de::Error::custom("unknown action")),
            action => Ok(action),
        }
    }
}

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
    fn actions_round_trip_and_unknown_names_decode_as_unknown() {
        let newer: Action = bson::deserialize_from_bson("tenant.clone".into()).unwrap();

        assert_eq!(Action::DomainLost.to_string(), "domain.lost");
        assert_eq!("domain.lost".parse(), Ok(Action::DomainLost));
        assert_eq!(newer, Action::Unknown);
        assert!("tenant.clone".parse::<Action>().is_err());
        assert!("unknown".parse::<Action>().is_err());
    }

    #[test]
    fn actors_and_outcomes_of_a_newer_build_decode_as_unknown() {
        let actor: ActorKind = bson::deserialize_from_bson("robot".into()).unwrap();
        let outcome: Outcome = bson::deserialize_from_bson("refused".into()).unwrap();

        assert_eq!((actor, outcome), (ActorKind::Unknown, Outcome::Unknown));
        assert!("refused".parse::<Outcome>().is_err());
        assert!("unknown".parse::<Outcome>().is_err());
    }
}
