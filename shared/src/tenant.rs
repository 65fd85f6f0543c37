//! A tenant: a company's workspace, as it is wanted and as it is.
//!
//! Callers write what is wanted (`generation` + 1); jobs write what is (`provisioning_status`, `conditions`).
//! What the upstreams should hold follows from the document alone: [`Tenant::intent`].

use std::{fmt, str::FromStr};

use bson::DateTime;
use serde::{Deserialize, Serialize};

use crate::{
    billing::{BillingInfo, Plan},
    branding::TenantBranding,
    id::{PartnerId, TenantId},
    queue::{error_code::ErrorClass, job::StepState},
    security_policy::SecurityPolicy,
    upstream::Upstream,
};

/// Where a tenant stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TenantStatus {
    /// Wanted, and not yet ready in every upstream.
    Pending,
    /// Ready.
    Active,
    /// Frozen: nobody signs in, nothing is lost.
    Suspended,
    /// To be removed at `purge_at`, frozen until then.
    Terminating,
    /// Removed. The document stays, so that its slug is never used again.
    Terminated,
}

impl TenantStatus {
    /// The name used in documents and on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Terminating => "terminating",
            Self::Terminated => "terminated",
        }
    }
}

impl fmt::Display for TenantStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for TenantStatus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [
            Self::Pending,
            Self::Active,
            Self::Suspended,
            Self::Terminating,
            Self::Terminated,
        ]
        .into_iter()
        .find(|status| status.name() == text)
        .ok_or_else(|| "expected pending, active, suspended, terminating or terminated".to_owned())
    }
}

/// What the upstreams should hold for a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DesiredState {
    /// Everything, and its members can sign in.
    Active,
    /// Everything, and nobody can sign in.
    Suspended,
    /// Nothing.
    Gone,
}

/// A value for each upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PerUpstream<T> {
    /// Identity.
    pub authentik: T,
    /// Mail.
    pub stalwart: T,
    /// Files.
    pub ocis: T,
}

impl<T> PerUpstream<T> {
    /// The same value for all.
    pub fn all(value: T) -> Self
    where
        T: Clone,
    {
        Self {
            authentik: value.clone(),
            stalwart: value.clone(),
            ocis: value,
        }
    }

    /// The value for `upstream`.
    pub fn get(&self, upstream: Upstream) -> &T {
        match upstream {
            Upstream::Authentik => &self.authentik,
            Upstream::Stalwart => &self.stalwart,
            Upstream::Ocis => &self.ocis,
        }
    }

    /// The value for `upstream`, to be changed.
    pub fn get_mut(&mut self, upstream: Upstream) -> &mut T {
        match upstream {
            Upstream::Authentik => &mut self.authentik,
            Upstream::Stalwart => &mut self.stalwart,
            Upstream::Ocis => &mut self.ocis,
        }
    }
}

/// How a tenant stands in one upstream, as portals read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProvisioningState {
    /// Not yet tried, or undone by a new intent.
    #[default]
    Pending,
    /// As it should be.
    Ok,
    /// Nothing to do, or the integration is switched off.
    Skipped,
    /// The last try failed.
    Error,
}

impl From<StepState> for ProvisioningState {
    fn from(state: StepState) -> Self {
        match state {
            StepState::Pending => Self::Pending,
            StepState::Ok => Self::Ok,
            StepState::Skipped => Self::Skipped,
            StepState::Error | StepState::Unknown => Self::Error,
        }
    }
}

/// What is known about one aspect of a tenant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Which aspect, such as `AuthentikReady`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// A stable name for why, in `CamelCase`.
    pub reason: String,
    /// A sentence safe to show.
    pub message: String,
    /// The generation it speaks of.
    pub observed_generation: i64,
    /// When `status` last changed.
    pub last_transition_at: DateTime,
    /// When it is tried again, where it does not hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_at: Option<DateTime>,
    /// Who has to act, where it does not hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<ErrorClass>,
}

impl Condition {
    /// Takes the place of the one of its type. Its transition time is kept where the status is.
    pub(crate) fn set_in(mut self, conditions: &mut Vec<Self>) {
        match conditions.iter_mut().find(|known| known.kind == self.kind) {
            Some(known) => {
                if known.status == self.status {
                    self.last_transition_at = known.last_transition_at;
                }
                *known = self;
            }
            None => conditions.push(self),
        }
    }
}

/// Whether a condition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ConditionStatus {
    /// It does.
    True,
    /// It does not.
    False,
    /// Nobody knows at present.
    Unknown,
}

/// Why a condition holds once a step has brought an upstream to the intent.
pub mod reason {
    /// The upstream holds everything.
    pub const PROVISIONED: &str = "Provisioned";
    /// The upstream holds everything, frozen.
    pub const SUSPENDED: &str = "Suspended";
    /// The upstream holds nothing.
    pub const REMOVED: &str = "Removed";
    /// The integration is switched off.
    pub const INTEGRATION_DISABLED: &str = "IntegrationDisabled";
    /// There is no domain that mail could have.
    pub const NO_DOMAIN: &str = "NoDomain";
    /// It has not been tried with the present intent.
    pub const PENDING: &str = "Pending";
    /// The work is about no tenant.
    pub const NO_TENANT: &str = "NoTenant";
}

/// The person a new workspace is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Owner {
    /// In lower case: the username at the identity provider.
    pub email: String,
    /// As shown to people.
    pub name: String,
    /// The identity provider's id, once it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
}

/// A tenant, as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tenant {
    /// Its id.
    #[serde(rename = "_id")]
    pub id: TenantId,
    /// Its name in URLs and its group's name: immutable, never used again.
    pub slug: String,
    /// Its name for people.
    pub name: String,
    /// Where it stands.
    pub status: TenantStatus,
    /// Where it stood before it was terminated, to which restoring returns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_before: Option<TenantStatus>,
    /// When it is removed upstream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purge_at: Option<DateTime>,
    /// What it has bought.
    pub plan: Plan,
    /// The mail domains that are its own, as the domains collection has them: lower case, A-labels. A domain stands in at most one tenant.
    #[serde(default)]
    pub domains: Vec<String>,
    /// The one of them in which new mailboxes are made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary_domain: Option<String>,
    /// Domains it gave up and that are still to be removed from the mail server.
    #[serde(default)]
    pub former_domains: Vec<String>,
    /// The partner that looks after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partner_id: Option<PartnerId>,
    /// What its company does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub industry: Option<String>,
    /// Its colour, `#rrggbb`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub brand_color: Option<String>,
    /// The person it was made for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
    /// Its group at the identity provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authentik_group_id: Option<String>,
    /// Its space on the files server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ocis_space_id: Option<String>,
    /// Its first domain that the mail server serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stalwart_domain: Option<String>,
    /// Its customer at the payment provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stripe_customer_id: Option<String>,
    /// Where it is billed.
    #[serde(default, skip_serializing_if = "is_default")]
    pub billing_info: BillingInfo,
    /// How its workspace looks.
    #[serde(default, skip_serializing_if = "is_default")]
    pub branding: TenantBranding,
    /// How it wants its people to sign in.
    #[serde(default, skip_serializing_if = "is_default")]
    pub security_policy: SecurityPolicy,
    /// + 1 with every write by a caller.
    pub generation: i64,
    /// How it stands in each upstream.
    pub provisioning_status: PerUpstream<ProvisioningState>,
    /// What went wrong in each upstream, safe to show.
    #[serde(default)]
    pub provisioning_errors: PerUpstream<Option<String>>,
    /// The same, told in full.
    #[serde(default)]
    pub conditions: Vec<Condition>,
    /// Until when a write of unknown outcome may still land; nobody writes there before.
    #[serde(default)]
    pub unknown_until: PerUpstream<Option<DateTime>>,
    /// + 1 with every write.
    pub revision: i64,
    /// When it was created.
    pub created_at: DateTime,
    /// When it last changed.
    pub updated_at: DateTime,
}

impl Tenant {
    /// What the upstreams should hold at `now`.
    pub fn intent(&self, now: DateTime) -> DesiredState {
        match self.status {
            TenantStatus::Pending | TenantStatus::Active => DesiredState::Active,
            TenantStatus::Terminating if self.purge_at.is_some_and(|at| at <= now) => {
                DesiredState::Gone
            }
            TenantStatus::Suspended | TenantStatus::Terminating => DesiredState::Suspended,
            TenantStatus::Terminated => DesiredState::Gone,
        }
    }

    /// Adds `name` to what it owns.
    pub fn add_domain(&mut self, name: &str) {
        if !self.domains.iter().any(|owned| owned == name) {
            self.domains.push(name.to_owned());
        }
        self.former_domains.retain(|former| former != name);
    }

    /// What is known about how it stands in `upstream`.
    pub fn condition(&self, upstream: Upstream) -> Option<&Condition> {
        let kind = condition_type(upstream);
        self.conditions
            .iter()
            .find(|condition| condition.kind == kind)
    }

    /// Puts `condition` in the place of the one of its type. Its transition time is kept where the status is.
    pub fn set_condition(&mut self, condition: Condition) {
        condition.set_in(&mut self.conditions);
    }

    /// Undoes what is known about `upstreams`: a new intent has to be carried out there.
    pub fn set_pending(&mut self, upstreams: &[Upstream], now: DateTime) {
        for &upstream in upstreams {
            *self.provisioning_status.get_mut(upstream) = ProvisioningState::Pending;
            *self.provisioning_errors.get_mut(upstream) = None;
            self.set_condition(Condition {
                kind: condition_type(upstream).to_owned(),
                status: ConditionStatus::Unknown,
                reason: reason::PENDING.to_owned(),
                message: "Waiting to be carried out.".to_owned(),
                observed_generation: self.generation,
                last_transition_at: now,
                next_attempt_at: Some(now),
                class: None,
            });
        }
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The type of the condition that speaks of `upstream`.
pub const fn condition_type(upstream: Upstream) -> &'static str {
    match upstream {
        Upstream::Authentik => "AuthentikReady",
        Upstream::Stalwart => "StalwartReady",
        Upstream::Ocis => "OcisReady",
    }
}
