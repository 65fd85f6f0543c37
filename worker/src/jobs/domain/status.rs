//! Domain status from DNS check results: status, conditions and history.

mod conditions;

use std::time::Duration;

use bson::DateTime;
use dezky_shared::{
    domain::{
        Domain, DomainStatus, HistoryEntry,
        check::{Check, CheckKind, CheckState},
    },
    platform::clock,
};

pub(super) use self::conditions::set_condition;
use self::conditions::set_conditions;
use super::next_check;
use crate::dns::Code;

/// Deadline of the ownership proof after the claim.
const PROOF_DEADLINE: Duration = Duration::from_hours(7 * 24);
/// Longest disagreement between resolvers before the domain needs attention: a change propagates within a day.
const PROPAGATION_LIMIT: Duration = Duration::from_hours(24);

/// Applies the results of a check to the claim.
pub(super) fn apply_checks(domain: &mut Domain, mut checks: Vec<Check>, now: DateTime) {
    track_disagreement(domain, &mut checks, now);
    let status = status_after(domain, &checks, now);
    let worst = required(&checks)
        .find(|check| check.state.is_bad())
        .or(required(&checks).find(|check| disagrees_for_long(check, now)));
    let code = match status {
        DomainStatus::Failed => Some("not_proven_in_time"),
        DomainStatus::Attention | DomainStatus::Pending => worst.map(|check| check.code.as_str()),
        DomainStatus::Verified => None,
    };
    domain.set_status(status, code, now);
    record_changes(domain, &checks, now);
    domain.next_check_at = Some(next_check::next(domain, &checks, now));
    set_conditions(domain, &checks, now);
    domain.checks = checks;
    domain.checked_at = Some(now);
    domain.updated_at = now;
}

/// Status of a claim after these checks. Inconclusive checks never degrade it.
fn status_after(domain: &Domain, checks: &[Check], now: DateTime) -> DomainStatus {
    if !domain.is_owned() {
        let overdue = clock::until(domain.created_at, now) >= PROOF_DEADLINE;
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
    if required(checks).any(|check| check.state.is_bad() || disagrees_for_long(check, now)) {
        return if was_good {
            DomainStatus::Attention
        } else {
            DomainStatus::Pending
        };
    }
    let all_good = !lacks_keys(domain)
        && required(checks).next().is_some()
        && required(checks).all(|check| check.state != CheckState::Unknown);
    match domain.status {
        _ if all_good => DomainStatus::Verified,
        DomainStatus::Failed => DomainStatus::Pending,
        unchanged => unchanged,
    }
}

/// Whether the expected records are those known before the mail server has generated the DKIM keys: not all that mail
/// requires.
fn lacks_keys(domain: &Domain) -> bool {
    let mut expected = domain.expected.iter();
    !domain.expected.is_empty() && expected.all(|record| record.check != Some(CheckKind::Dkim))
}

/// Checks that mail depends on. The ownership record is required only once.
fn required(checks: &[Check]) -> impl Iterator<Item = &Check> {
    checks
        .iter()
        .filter(|check| check.kind != CheckKind::Ownership && !check.kind.is_extra())
}

/// Records since when resolvers have disagreed about a check. A failed lookup in between does not end a disagreement.
fn track_disagreement(domain: &Domain, checks: &mut [Check], now: DateTime) {
    for check in checks {
        let before = domain
            .checks
            .iter()
            .find(|before| name_of(before) == name_of(check))
            .and_then(|before| before.disagreeing_since);
        check.disagreeing_since = match check.state {
            CheckState::Unknown if is_disagreement(check) => before.or(Some(now)),
            CheckState::Unknown => before,
            _ => None,
        };
    }
}

fn is_disagreement(check: &Check) -> bool {
    check.code == Code::Propagating.name()
}

/// Whether resolvers disagree for longer than a change takes to propagate.
fn disagrees_for_long(check: &Check, now: DateTime) -> bool {
    let since = check.disagreeing_since.filter(|_| is_disagreement(check));
    since.is_some_and(|since| clock::until(since, now) >= PROPAGATION_LIMIT)
}

/// Appends changed check states to the history. An inconclusive check is not a change.
fn record_changes(domain: &mut Domain, checks: &[Check], now: DateTime) {
    for check in checks {
        let what = name_of(check);
        let before = domain
            .checks
            .iter()
            .find(|before| name_of(before) == what)
            .filter(|before| before.state != CheckState::Unknown)
            .map(|before| before.state.name().to_owned())
            .or_else(|| {
                let mut history = domain.history.iter().rev();
                let last = history.find(|entry| entry.what == what);
                last.map(|entry| entry.to.clone())
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

#[cfg(test)]
pub(super) mod tests {
    use dezky_shared::{
        domain::{
            Dmarc, OwnershipProof,
            check::{Dnssec, Record},
        },
        id::TenantId,
        tenant::ConditionStatus,
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
            disagreeing_since: None,
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
        status_after(domain, &checks, days(1))
    }

    #[test]
    fn an_unproven_claim_fails_after_seven_days() {
        let missing = [check(CheckKind::Ownership, CheckState::Missing)];
        let unknown = [check(CheckKind::Ownership, CheckState::Unknown)];

        assert_eq!(
            status_after(&claim(), &missing, days(6)),
            DomainStatus::Pending
        );
        assert_eq!(
            status_after(&claim(), &unknown, days(7)),
            DomainStatus::Pending
        );
        assert_eq!(
            status_after(&claim(), &missing, days(7)),
            DomainStatus::Failed
        );
    }

    #[test]
    fn a_domain_with_all_required_records_is_verified() {
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
                "neither optional checks nor a removed ownership record affect the status"
            );
        }
    }

    #[test]
    fn a_wrong_record_needs_attention_only_if_the_domain_was_verified_before() {
        let wrong = [
            (CheckKind::Mx, CheckState::Ok),
            (CheckKind::Dkim, CheckState::Mismatch),
        ];

        assert_eq!(
            after(&owned(DomainStatus::Pending), &wrong),
            DomainStatus::Pending
        );
        assert_eq!(
            after(&owned(DomainStatus::Verified), &wrong),
            DomainStatus::Attention
        );
        assert_eq!(
            after(&owned(DomainStatus::Attention), &wrong),
            DomainStatus::Attention
        );
    }

    #[test]
    fn a_domain_is_not_verified_without_its_keys() {
        let record = |kind| Record {
            name: String::new(),
            kind: "TXT".to_owned(),
            value: String::new(),
            check: Some(kind),
        };
        let mut domain = owned(DomainStatus::Pending);
        let checks = [(CheckKind::Mx, CheckState::Ok)];

        domain.expected = vec![record(CheckKind::Mx)];
        let without_keys = after(&domain, &checks);
        domain.expected.push(record(CheckKind::Dkim));
        let with_keys = after(&domain, &checks);

        assert_eq!(without_keys, DomainStatus::Pending);
        assert_eq!(with_keys, DomainStatus::Verified);
    }

    #[test]
    fn only_changed_states_are_recorded_in_the_history() {
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
            apply_checks(&mut domain, vec![check(CheckKind::Mx, state)], days(1));
        }

        let changes: Vec<String> = domain.history[1..]
            .iter()
            .map(|entry| {
                let from = entry.from.as_deref().unwrap_or("nothing");
                format!("{}: {from} to {}", entry.what, entry.to)
            })
            .collect();
        assert_eq!(
            changes,
            [
                "mx: nothing to missing",
                "status: pending to verified",
                "mx: missing to ok",
            ]
        );
    }

    #[test]
    fn the_condition_reports_the_worst_check() {
        let mut domain = owned(DomainStatus::Verified);
        let checks = vec![
            check(CheckKind::Mx, CheckState::Ok),
            check(CheckKind::Spf, CheckState::Unknown),
            check(CheckKind::Dkim, CheckState::Mismatch),
            check(CheckKind::MtaSts, CheckState::Invalid),
        ];

        apply_checks(&mut domain, checks, days(1));

        let condition = domain.conditions.last().unwrap();
        assert_eq!(condition.kind, "DnsInOrder");
        assert_eq!(condition.status, ConditionStatus::False);
        assert_eq!(condition.reason, "DkimMismatch");
        assert_eq!(condition.next_attempt_at, domain.next_check_at);
    }

    #[test]
    fn resolvers_that_disagree_for_a_day_need_attention() {
        let disagreement = || {
            let mut mx = check(CheckKind::Mx, CheckState::Unknown);
            Code::Propagating.name().clone_into(&mut mx.code);
            vec![mx]
        };
        let hours = |hours| clock::later(days(1), Duration::from_hours(hours));
        let mut domain = owned(DomainStatus::Verified);

        apply_checks(&mut domain, disagreement(), hours(0));
        // A failed lookup in between does not end the disagreement.
        let failed = vec![check(CheckKind::Mx, CheckState::Unknown)];
        apply_checks(&mut domain, failed, hours(22));
        apply_checks(&mut domain, disagreement(), hours(23));
        let condition = domain.conditions.last().unwrap();
        assert_eq!(domain.status, DomainStatus::Verified);
        assert_eq!(condition.status, ConditionStatus::Unknown);

        apply_checks(&mut domain, disagreement(), hours(24));
        let condition = domain.conditions.last().unwrap();
        assert_eq!(domain.status, DomainStatus::Attention);
        assert_eq!(condition.status, ConditionStatus::False);
        assert_eq!(condition.reason, "ResolversDisagree");
        let change = domain.history.last().unwrap();
        assert_eq!(change.code.as_deref(), Some("propagating"));

        let agreed = vec![check(CheckKind::Mx, CheckState::Ok)];
        apply_checks(&mut domain, agreed, hours(25));
        apply_checks(&mut domain, disagreement(), hours(26));
        assert_eq!(domain.status, DomainStatus::Verified);
    }

    proptest! {
        #[test]
        fn inconclusive_checks_never_degrade_a_domain(
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
