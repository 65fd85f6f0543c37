//! Status condition of a tenant or a domain.

use dezky_shared::{
    queue::error_code::ErrorClass,
    tenant::{Condition, ConditionStatus},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::timestamp::Timestamp;

/// A status condition.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Condition)]
pub struct ConditionView {
    /// Type.
    #[serde(rename = "type")]
    #[schema(example = "AuthentikReady")]
    kind: String,
    /// Whether the condition holds: `true`, `false` or `unknown`.
    status: ConditionStatus,
    /// Stable code of the reason.
    reason: String,
    /// The reason, for a human reader.
    message: String,
    /// The generation that was observed.
    observed_generation: i64,
    /// Time of the last change of `status`.
    last_transition_at: Timestamp,
    /// Time of the next attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_attempt_at: Option<Timestamp>,
    /// Error class, which tells the party that has to act.
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<ErrorClass>,
}

impl From<Condition> for ConditionView {
    fn from(condition: Condition) -> Self {
        Self {
            kind: condition.kind,
            status: condition.status,
            reason: condition.reason,
            message: condition.message,
            observed_generation: condition.observed_generation,
            last_transition_at: condition.last_transition_at.into(),
            next_attempt_at: condition.next_attempt_at.map(Timestamp::from),
            class: condition.class,
        }
    }
}
