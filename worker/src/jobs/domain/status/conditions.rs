//! Conditions of a claim, which tell the customer the next action.

use bson::DateTime;
use dezky_shared::{
    domain::{
        Domain, DomainStatus, OWNED,
        check::{Check, CheckState},
        reason,
    },
    queue::error_code::ErrorClass,
    tenant::{Condition, ConditionStatus},
};

use super::{disagrees_for_long, is_disagreement, required};
use crate::jobs::domain::condition;

/// Sets the conditions of ownership and of the DNS records, from the worst of the required checks.
pub(super) fn set_conditions(domain: &mut Domain, checks: &[Check], now: DateTime) {
    if domain.status == DomainStatus::Failed {
        let message = "The ownership record was not found within seven days. Publish it, then \
                       check again.";
        set_condition(
            domain,
            OWNED,
            ConditionStatus::False,
            "NotProvenInTime",
            message,
            now,
        );
    }
    if domain.status == DomainStatus::Pending && !domain.is_owned() {
        let message = "Publish the ownership record to prove that you own this domain.";
        let unknown = ConditionStatus::Unknown;
        set_condition(domain, OWNED, unknown, reason::AWAITING_PROOF, message, now);
    }
    let found = required(checks);
    let worst = found.max_by_key(|check| {
        (
            check.state.is_bad(),
            disagrees_for_long(check, now),
            is_disagreement(check),
            check.state == CheckState::Unknown,
        )
    });
    let Some(worst) = worst.cloned() else {
        return;
    };
    let (status, reason, message) = match worst.state {
        state if state.is_bad() => (
            ConditionStatus::False,
            camel_case(&worst.code),
            worst.message,
        ),
        _ if disagrees_for_long(&worst, now) => (
            ConditionStatus::False,
            "ResolversDisagree".to_owned(),
            "DNS resolvers have returned different answers for more than a day. Some name servers of \
             the domain may serve outdated records: ask your DNS provider."
                .to_owned(),
        ),
        CheckState::Unknown if is_disagreement(&worst) => (
            ConditionStatus::Unknown,
            camel_case(&worst.code),
            worst.message,
        ),
        CheckState::Unknown => (
            ConditionStatus::Unknown,
            camel_case(&worst.code),
            "Some DNS queries were inconclusive. The check is repeated soon.".to_owned(),
        ),
        _ => (
            ConditionStatus::True,
            "AsExpected".to_owned(),
            "All required DNS records are correct.".to_owned(),
        ),
    };
    set_condition(
        domain,
        condition::DNS_IN_ORDER,
        status,
        &reason,
        &message,
        now,
    );
}

/// Sets a condition of a claim. A false one requires action by the customer and is checked again.
pub(in crate::jobs::domain) fn set_condition(
    domain: &mut Domain,
    kind: &str,
    status: ConditionStatus,
    reason: &str,
    message: &str,
    now: DateTime,
) {
    let holds = status == ConditionStatus::True;
    domain.set_condition(Condition {
        kind: kind.to_owned(),
        status,
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation: domain.generation,
        last_transition_at: now,
        next_attempt_at: domain.next_check_at.filter(|_| !holds),
        class: (status == ConditionStatus::False).then_some(ErrorClass::UserAction),
    });
}

/// Converts `mx_missing` to `MxMissing`.
fn camel_case(code: &str) -> String {
    let mut upper = true;
    code.chars()
        .filter_map(|character| {
            if character == '_' {
                upper = true;
                return None;
            }
            let shown = if upper {
                character.to_ascii_uppercase()
            } else {
                character
            };
            upper = false;
            Some(shown)
        })
        .collect()
}
