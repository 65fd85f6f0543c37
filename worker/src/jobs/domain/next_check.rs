//! Schedule of DNS checks: frequent while setup is in progress, daily afterwards.

use std::time::Duration;

use bson::DateTime;
use dezky_shared::{
    domain::{
        Domain, DomainStatus,
        check::{Check, CheckState},
    },
    id::DomainId,
    platform::clock,
};

/// Delays after a new claim or changed records, while the customer edits the DNS.
const INITIAL: [Duration; 4] = [
    Duration::from_mins(1),
    Duration::from_mins(2),
    Duration::from_mins(5),
    Duration::from_mins(15),
];
const HOURLY: Duration = Duration::from_hours(1);
/// Duration of the hourly phase.
const HOURLY_FOR: Duration = Duration::from_hours(48);
const DAILY: Duration = Duration::from_hours(24);
/// Interval for a claim that was not proven in time.
const WEEKLY: Duration = Duration::from_hours(7 * 24);
/// First delay after an inconclusive check. Doubles on each repetition, up to an hour.
const UNKNOWN: Duration = Duration::from_mins(2);

/// Time of the next check of `domain`, given the results of the current one.
pub(super) fn next(domain: &Domain, checks: &[Check], now: DateTime) -> DateTime {
    let regular = regular(domain, now);
    if !any_unknown(checks) {
        return regular;
    }
    let unknown_for = match domain.checked_at {
        Some(last) if any_unknown(&domain.checks) => 2 * clock::until(last, now),
        _ => UNKNOWN,
    };
    clock::later(now, unknown_for.clamp(UNKNOWN, HOURLY)).min(regular)
}

fn regular(domain: &Domain, now: DateTime) -> DateTime {
    if domain.status == DomainStatus::Failed {
        return clock::later(now, WEEKLY);
    }
    let since = domain.expected_since;
    if let Some(soon) = INITIAL
        .into_iter()
        .map(|after| clock::later(since, after))
        .find(|at| *at > now)
    {
        return soon;
    }
    if clock::until(since, now) < HOURLY_FOR {
        return clock::later(now, HOURLY);
    }
    daily(domain.id, now)
}

/// The domain's own time of day, at least a quarter of a day from now. This spreads the load evenly, however many domains
/// were added in the same minute.
fn daily(id: DomainId, now: DateTime) -> DateTime {
    let day = i64::try_from(DAILY.as_millis()).unwrap_or(i64::MAX);
    let own_time = spread(id, DAILY);
    let earliest = clock::later(now, DAILY / 4).timestamp_millis();
    let wait = (i64::try_from(own_time.as_millis()).unwrap_or(0) - earliest).rem_euclid(day);
    DateTime::from_millis(earliest + wait)
}

/// A fixed offset of the domain within `window`, from the last bytes of its id, which are random.
pub(super) fn spread(id: DomainId, window: Duration) -> Duration {
    let [.., a, b, c, d] = id.bytes();
    window.mul_f64(f64::from(u32::from_be_bytes([a, b, c, d])) / (f64::from(u32::MAX) + 1.0))
}

fn any_unknown(checks: &[Check]) -> bool {
    checks
        .iter()
        .any(|check| check.state == CheckState::Unknown)
}

#[cfg(test)]
mod tests {
    use dezky_shared::{
        domain::{Dmarc, check::CheckKind},
        id::TenantId,
    };
    use proptest::prelude::*;

    use super::*;
    use crate::jobs::domain::status::tests::check;

    const START: i64 = 1_800_000_000_000;

    fn claim() -> Domain {
        Domain::claim(
            TenantId::new(),
            "acme.test",
            Dmarc::default(),
            DateTime::from_millis(START),
        )
    }

    fn after(wait: Duration) -> DateTime {
        clock::later(DateTime::from_millis(START), wait)
    }

    /// Check times in the first `span`, each check taking a second.
    fn checks(domain: &Domain, span: Duration) -> Vec<Duration> {
        let mut times = Vec::new();
        let mut now = after(Duration::ZERO);
        loop {
            now = next(domain, &[], clock::later(now, Duration::from_secs(1)));
            let passed = clock::until(after(Duration::ZERO), now);
            if passed > span {
                return times;
            }
            times.push(passed);
        }
    }

    #[test]
    fn a_new_claim_is_checked_within_minutes_then_hourly_then_daily() {
        let times = checks(&claim(), Duration::from_hours(10 * 24));

        assert_eq!(times[..4], INITIAL);
        let hourly = times[4..].iter().filter(|at| **at < HOURLY_FOR).count();
        assert!((46..=48).contains(&hourly), "{hourly}");
        let daily = times.iter().filter(|at| **at > HOURLY_FOR + HOURLY).count();
        assert!((7..=8).contains(&daily), "{daily}");
    }

    #[test]
    fn a_failed_claim_is_checked_weekly() {
        let mut domain = claim();
        domain.status = DomainStatus::Failed;

        assert_eq!(next(&domain, &[], after(HOURLY)), after(HOURLY + WEEKLY));
    }

    #[test]
    fn inconclusive_checks_are_repeated_with_exponential_backoff() {
        let mut domain = claim();
        let unknown = [check(CheckKind::Mx, CheckState::Unknown)];
        let mut now = after(Duration::from_hours(100));
        let mut waits = Vec::new();
        for _ in 0..8 {
            let at = next(&domain, &unknown, now);
            waits.push(clock::until(now, at).as_secs() / 60);
            domain.checked_at = Some(now);
            domain.checks = unknown.to_vec();
            now = at;
        }

        assert_eq!(waits, [2, 4, 8, 16, 32, 60, 60, 60]);
    }

    #[test]
    fn daily_checks_are_spread_over_the_day() {
        let now = after(Duration::from_hours(100));
        let mut by_hour = [0_u32; 24];
        for _ in 0..24_000 {
            let at = next(&claim(), &[], now);
            let hour = at.timestamp_millis().rem_euclid(86_400_000) / 3_600_000;
            by_hour[usize::try_from(hour).unwrap()] += 1;
        }

        assert!(
            by_hour.iter().all(|count| (700..1_300).contains(count)),
            "{by_hour:?}"
        );
    }

    proptest! {
        #[test]
        fn every_domain_is_checked_again_within_a_week(
            age in 0_u64..100 * 24 * 3_600,
            status in 0_usize..4,
            unknown: bool,
        ) {
            let mut domain = claim();
            domain.status = DomainStatus::ALL[status];
            let state = if unknown { CheckState::Unknown } else { CheckState::Ok };
            let now = after(Duration::from_secs(age));

            let at = next(&domain, &[check(CheckKind::Mx, state)], now);

            prop_assert!(at > now && at <= clock::later(now, WEEKLY));
        }
    }
}
