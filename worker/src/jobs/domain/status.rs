//! What a look at the DNS means for a claim: where it stands, what is known about it, and what of that is new.

use std::time::Duration;

use bson::DateTime;
use dezky_shared::{
    domain::{
        Domain, DomainStatus, HistoryEntry, OWNED,
        check::{Check, CheckKind, CheckState},
        reason,
    },
    platform::clock,
    queue::error_code::ErrorClass,
    tenant::{Condition, ConditionStatus},
};

use super::{condition, next_check};

/// How long a claim waits to be proven.
const PROVEN_WITHIN: Duration = Duration::from_hours(7 * 24);

/// Writes what `checks` found into the claim.
pub(super) fn note(domain: &mut Domain, checks: Vec<Check>, now: DateTime) {
    let status = status(domain, &checks, now);
    let worst = required(&checks).find(|check| check.state.is_bad());
    let code = match status {
        DomainStatus::Failed => Some("not_proven_in_time"),
        DomainStatus::Attention | DomainStatus::Pending => worst.map(|check| check.code.as_str()),
        DomainStatus::Verified => None,
    };
    domain.set_status(status, code, now);
    remember_changes(domain, &checks, now);
    domain.next_check_at = Some(next_check::next(domain, &checks, now));
    set_conditions(domain, &checks, now);
    domain.checks = checks;
    domain.checked_at = Some(now);
    domain.updated_at = now;
}

/// Where a claim stands after these checks. What nobody could tell changes nothing.
pub(super) fn status(domain: &Domain, checks: &[Check], now: DateTime) -> DomainStatus {
    if !domain.is_owned() {
        let overdue = clock::until(domain.created_at, now) >= PROVEN_WITHIN;
        let unknown = checks
            .iter()
            .any(|check| check.kind == CheckKind::Ownership && check.state == CheckState::Unknown);
        return match (overdue, unknown) {
            (false, _) => DomainStatus::Pending,
            (true, false) => DomainStatus::Failed,
            (true, true) => domain.status,
        };
    }
    let was_good = matches!(
        domain.status,
        DomainStatus::Verified | DomainStatus::Attention
    );
    if required(checks).any(|check| check.state.is_bad()) {
        return if was_good {
            DomainStatus::Attention
        } else {
            DomainStatus::Pending
        };
    }
    let surely_good = required(checks).next().is_some()
        && required(checks).all(|check| check.state != CheckState::Unknown);
    match domain.status {
        _ if surely_good => DomainStatus::Verified,
        DomainStatus::Failed => DomainStatus::Pending,
        unchanged => unchanged,
    }
}

/// The checks without which mail does not work. The proof is needed once: its record may go again.
fn required(checks: &[Check]) -> impl Iterator<Item = &Check> {
    checks
        .iter()
        .filter(|check| check.kind != CheckKind::Ownership && !check.kind.is_extra())
}

/// Adds to the history what is another state than before. What nobody could tell is no change.
fn remember_changes(domain: &mut Domain, checks: &[Check], now: DateTime) {
    for check in checks {
        let what = name_of(check);
        let before = domain
            .checks
            .iter()
            .find(|before| name_of(before) == what)
            .filter(|before| before.state != CheckState::Unknown)
            .map(|before| before.state.name().to_owned())
            .or_else(|| {
                let told = domain.history.iter().rev();
                let mut told = told.filter(|entry| entry.what == what);
                told.next().map(|entry| entry.to.clone())
            });
        if check.state == CheckState::Unknown || before.as_deref() == Some(check.state.name()) {
            continue;
        }
        domain.push_history(HistoryEntry {
            at: now,
            what,
            from: before,
            to: check.state.name().to_owned(),
            code: Some(check.code.clone()),
        });
    }
}

fn name_of(check: &Check) -> String {
    match &check.selector {
        Some(selector) => format!("{} {selector}", check.kind.name()),
        None => check.kind.name().to_owned(),
    }
}

fn set_conditions(domain: &mut Domain, checks: &[Check], now: DateTime) {
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
        let message = "Publish the ownership record, so that we know that the domain is yours.";
        let unknown = ConditionStatus::Unknown;
        set_condition(domain, OWNED, unknown, reason::AWAITING_PROOF, message, now);
    }
    let found = required(checks);
    let worst =
        found.max_by_key(|check| (check.state.is_bad(), check.state == CheckState::Unknown));
    let Some(worst) = worst.cloned() else {
        return;
    };
    let (status, reason, message) = match worst.state {
        state if state.is_bad() => (
            ConditionStatus::False,
            camel_case(&worst.code),
            worst.message,
        ),
        CheckState::Unknown => (
            ConditionStatus::Unknown,
            camel_case(&worst.code),
            "The DNS could not be asked about everything. We look again soon.".to_owned(),
        ),
        _ => (
            ConditionStatus::True,
            "AsExpected".to_owned(),
            "The DNS says what it should.".to_owned(),
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

/// Says something about a claim. What does not hold is the customer's to mend, and is looked at again.
pub(super) fn set_condition(
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

/// `mx_missing` as `MxMissing`.
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

#[cfg(test)]
pub(super) mod tests {
    use dezky_shared::{
        domain::{Dmarc, OwnershipProof, check::Dnssec},
        id::TenantId,
    };
    use proptest::prelude::*;

    use super::*;

    const STATES: [CheckState; 6] = [
        CheckState::Ok,
        CheckState::Warning,
        CheckState::Missing,
        CheckState::Mismatch,
        CheckState::Invalid,
        CheckState::Unknown,
    ];

    pub(in crate::jobs::domain) fn check(kind: CheckKind, state: CheckState) -> Check {
        Check {
            kind,
            selector: None,
            state,
            code: format!("{}_{}", kind.name(), state.name()),
            message: "A sentence.".to_owned(),
            expected: Vec::new(),
            found: Vec::new(),
            ttl: None,
            resolvers: Vec::new(),
            dnssec: Dnssec::Insecure,
        }
    }

    fn claim() -> Domain {
        let now = DateTime::from_millis(0);
        Domain::claim(TenantId::new(), "acme.test", Dmarc::default(), now)
    }

    fn owned(status: DomainStatus) -> Domain {
        let mut domain = claim();
        domain.owned_by = Some(OwnershipProof::Proof);
        domain.status = status;
        domain
    }

    fn days(days: u64) -> DateTime {
        clock::later(DateTime::from_millis(0), Duration::from_hours(24 * days))
    }

    fn after(domain: &Domain, checks: &[(CheckKind, CheckState)]) -> DomainStatus {
        let checks: Vec<Check> = checks
            .iter()
            .map(|(kind, state)| check(*kind, *state))
            .collect();
        status(domain, &checks, days(1))
    }

    #[test]
    fn a_claim_that_nobody_proves_fails_after_seven_days() {
        let missing = [check(CheckKind::Ownership, CheckState::Missing)];
        let unknown = [check(CheckKind::Ownership, CheckState::Unknown)];

        assert_eq!(status(&claim(), &missing, days(6)), DomainStatus::Pending);
        assert_eq!(status(&claim(), &unknown, days(7)), DomainStatus::Pending);
        assert_eq!(status(&claim(), &missing, days(7)), DomainStatus::Failed);
    }

    #[test]
    fn a_domain_whose_every_record_is_there_is_verified() {
        use {
            CheckKind::{Mx, Spf},
            CheckState::{Missing, Ok, Warning},
        };
        for before in DomainStatus::ALL {
            let domain = owned(before);

            assert_eq!(
                after(&domain, &[(Mx, Ok), (Spf, Warning)]),
                DomainStatus::Verified
            );
            assert_eq!(
                after(
                    &domain,
                    &[
                        (Mx, Ok),
                        (CheckKind::MtaSts, Missing),
                        (CheckKind::Ownership, Missing)
                    ]
                ),
                DomainStatus::Verified,
                "an extra never turns a domain bad, nor does a proof that is not needed any more"
            );
        }
    }

    #[test]
    fn a_record_that_is_off_needs_attention_only_where_it_was_good_before() {
        let off = [
            (CheckKind::Mx, CheckState::Ok),
            (CheckKind::Dkim, CheckState::Mismatch),
        ];

        assert_eq!(
            after(&owned(DomainStatus::Pending), &off),
            DomainStatus::Pending
        );
        assert_eq!(
            after(&owned(DomainStatus::Verified), &off),
            DomainStatus::Attention
        );
        assert_eq!(
            after(&owned(DomainStatus::Attention), &off),
            DomainStatus::Attention
        );
    }

    #[test]
    fn only_another_state_makes_history() {
        let mut domain = owned(DomainStatus::Pending);
        let states = [
            CheckState::Missing,
            CheckState::Missing,
            CheckState::Unknown,
            CheckState::Missing,
            CheckState::Ok,
            CheckState::Unknown,
            CheckState::Ok,
        ];
        for state in states {
            note(&mut domain, vec![check(CheckKind::Mx, state)], days(1));
        }

        let told: Vec<String> = domain.history[1..]
            .iter()
            .map(|entry| {
                let from = entry.from.as_deref().unwrap_or("nothing");
                format!("{}: {from} to {}", entry.what, entry.to)
            })
            .collect();
        assert_eq!(
            told,
            [
                "mx: nothing to missing",
                "status: pending to verified",
                "mx: missing to ok",
            ]
        );
    }

    #[test]
    fn the_condition_names_the_worst_that_was_found() {
        let mut domain = owned(DomainStatus::Verified);
        let checks = vec![
            check(CheckKind::Mx, CheckState::Ok),
            check(CheckKind::Spf, CheckState::Unknown),
            check(CheckKind::Dkim, CheckState::Mismatch),
            check(CheckKind::MtaSts, CheckState::Invalid),
        ];

        note(&mut domain, checks, days(1));

        let condition = domain.conditions.last().unwrap();
        assert_eq!(condition.kind, "DnsInOrder");
        assert_eq!(condition.status, ConditionStatus::False);
        assert_eq!(condition.reason, "DkimMismatch");
        assert_eq!(condition.next_attempt_at, domain.next_check_at);
    }

    proptest! {
        #[test]
        fn what_nobody_could_tell_never_turns_a_domain_bad(
            states in prop::collection::vec(0_usize..6, 1..5),
            before in 0_usize..4,
        ) {
            let before = DomainStatus::ALL[before];
            let states: Vec<(CheckKind, CheckState)> = states
                .into_iter()
                .map(|state| (CheckKind::Dkim, STATES[state]))
                .map(|(kind, state)| (kind, if state.is_bad() { CheckState::Unknown } else { state }))
                .collect();

            let status = after(&owned(before), &states);

            prop_assert!(status == before || status == DomainStatus::Verified
                || before == DomainStatus::Failed);
            prop_assert!(status != DomainStatus::Attention || before == DomainStatus::Attention);
            prop_assert!(status != DomainStatus::Failed);
        }
    }
}
