//! Provisioning state: the observed state of a tenant or a member in each upstream, with its conditions.

use bson::DateTime;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    queue::{
        error_code::ErrorClass,
        job::{JobFailure, StepState},
    },
    upstream::Upstream,
};

/// One value for each upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PerUpstream<T> {
    /// Value for Authentik (identity).
    pub authentik: T,
    /// Value for Stalwart (mail).
    pub stalwart: T,
    /// Value for oCIS (files).
    pub ocis: T,
}

impl<T> PerUpstream<T> {
    /// The same value for every upstream.
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

    /// The value for `upstream`, in which tenants have to be [provisioned](Upstream::is_provisioned).
    pub fn get(&self, upstream: Upstream) -> &T {
        match upstream {
            Upstream::Authentik => &self.authentik,
            Upstream::Stalwart => &self.stalwart,
            Upstream::Ocis => &self.ocis,
            Upstream::Stripe => unreachable!("no tenant is provisioned in {upstream}"),
        }
    }

    /// Mutable value for `upstream`, in which tenants have to be [provisioned](Upstream::is_provisioned).
    pub fn get_mut(&mut self, upstream: Upstream) -> &mut T {
        match upstream {
            Upstream::Authentik => &mut self.authentik,
            Upstream::Stalwart => &mut self.stalwart,
            Upstream::Ocis => &mut self.ocis,
            Upstream::Stripe => unreachable!("no tenant is provisioned in {upstream}"),
        }
    }
}

/// Provisioning state of a tenant in one upstream, as shown by portals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProvisioningState {
    /// Not yet attempted, or reset by a new desired state.
    #[default]
    Pending,
    /// In sync.
    Ok,
    /// Nothing to do, or the integration is disabled.
    Skipped,
    /// The last attempt failed.
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

/// Condition: the observed state of one aspect of a tenant or domain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Condition type, such as `AuthentikReady`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether the condition holds.
    pub status: ConditionStatus,
    /// Stable reason in `CamelCase`.
    pub reason: String,
    /// Message that is safe to show.
    pub message: String,
    /// Generation that was observed.
    pub observed_generation: i64,
    /// Time of the last change of `status`.
    pub last_transition_at: DateTime,
    /// Time of the next attempt, if the condition does not hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_at: Option<DateTime>,
    /// Party that has to act, if the condition does not hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<ErrorClass>,
}

impl Condition {
    /// Replaces the condition of the same type. The transition time is kept if the status is unchanged.
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

/// Provisioning states of a tenant or a member, with their conditions.
pub(crate) struct ProvisioningMut<'a> {
    pub(crate) generation: i64,
    pub(crate) status: &'a mut PerUpstream<ProvisioningState>,
    pub(crate) errors: &'a mut PerUpstream<Option<String>>,
    pub(crate) conditions: &'a mut Vec<Condition>,
}

impl ProvisioningMut<'_> {
    /// Resets the state of `upstreams` to pending.
    pub(crate) fn set_pending(&mut self, upstreams: &[Upstream], now: DateTime) {
        for &upstream in upstreams {
            *self.status.get_mut(upstream) = ProvisioningState::Pending;
            *self.errors.get_mut(upstream) = None;
            let pending = Condition {
                kind: condition_type(upstream).to_owned(),
                status: ConditionStatus::Unknown,
                reason: reason::PENDING.to_owned(),
                message: "Waiting to be provisioned.".to_owned(),
                observed_generation: self.generation,
                last_transition_at: now,
                next_attempt_at: Some(now),
                class: None,
            };
            pending.set_in(self.conditions);
        }
    }

    /// Fails every upstream that is pending or waits for another attempt: no job will attempt it.
    pub(crate) fn fail_waiting(&mut self, failure: &JobFailure, now: DateTime) {
        for upstream in Upstream::ALL {
            let kind = condition_type(upstream);
            let mut conditions = self.conditions.iter();
            let waits = conditions
                .any(|condition| condition.kind == kind && condition.next_attempt_at.is_some());
            if !waits && *self.status.get(upstream) != ProvisioningState::Pending {
                continue;
            }
            *self.status.get_mut(upstream) = ProvisioningState::Error;
            *self.errors.get_mut(upstream) = Some(failure.message.clone());
            let failed = Condition {
                kind: kind.to_owned(),
                status: ConditionStatus::False,
                reason: failure.code.reason().to_owned(),
                message: failure.message.clone(),
                observed_generation: self.generation,
                last_transition_at: now,
                next_attempt_at: None,
                class: Some(failure.class),
            };
            failed.set_in(self.conditions);
        }
    }
}

/// Status of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ConditionStatus {
    /// The condition holds.
    True,
    /// The condition does not hold.
    False,
    /// Currently unknown.
    Unknown,
}

/// Reasons of conditions that hold after a step.
pub mod reason {
    /// The upstream is provisioned.
    pub const PROVISIONED: &str = "Provisioned";
    /// The upstream is provisioned and suspended.
    pub const SUSPENDED: &str = "Suspended";
    /// The upstream holds no state of the tenant.
    pub const REMOVED: &str = "Removed";
    /// The integration is disabled.
    pub const INTEGRATION_DISABLED: &str = "IntegrationDisabled";
    /// The tenant owns no domain for mail.
    pub const NO_DOMAIN: &str = "NoDomain";
    /// Not yet attempted for the current generation.
    pub const PENDING: &str = "Pending";
    /// The job concerns no tenant.
    pub const NO_TENANT: &str = "NoTenant";
}

/// Condition type of `upstream`.
pub const fn condition_type(upstream: Upstream) -> &'static str {
    match upstream {
        Upstream::Authentik => "AuthentikReady",
        Upstream::Stalwart => "StalwartReady",
        Upstream::Ocis => "OcisReady",
        Upstream::Stripe => "StripeReady",
    }
}
