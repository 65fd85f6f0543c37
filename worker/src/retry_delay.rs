//! The delay of a retry: exponential backoff with full jitter.

use std::time::Duration;

/// A random share of `base` doubled with each consecutive failure, at most `cap`. `chance` is uniform over `0.0..1.0`.
///
/// See <https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>.
pub(crate) fn delay(failures: i32, base: Duration, cap: Duration, chance: f64) -> Duration {
    let doublings = failures.clamp(1, 30) - 1;
    let maximum = base.mul_f64(2_f64.powi(doublings)).min(cap);
    maximum.mul_f64(chance.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BASE: Duration = Duration::from_secs(2);
    const CAP: Duration = Duration::from_mins(15);

    #[test]
    fn the_maximum_delay_doubles_with_each_failure_up_to_the_cap() {
        let maxima: Vec<u64> = (1..=12)
            .map(|failures| delay(failures, BASE, CAP, 1.0).as_secs())
            .collect();

        assert_eq!(maxima, [2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900]);
    }

    #[test]
    fn the_delay_is_a_random_share_of_the_maximum() {
        assert_eq!(delay(3, BASE, CAP, 0.0), Duration::ZERO);
        assert_eq!(delay(3, BASE, CAP, 0.5), Duration::from_secs(4));
    }

    #[test]
    fn extreme_counts_stay_within_the_bounds() {
        assert_eq!(delay(i32::MAX, BASE, CAP, 1.0), CAP);
        assert_eq!(delay(i32::MIN, BASE, CAP, 1.0), BASE);
    }

    fn any_span() -> impl Strategy<Value = Duration> {
        (0_u64..100_000_000).prop_map(Duration::from_millis)
    }

    proptest! {
        #[test]
        fn no_delay_exceeds_the_cap_and_the_maximum_never_decreases_with_more_failures(
            failures: i32,
            base in any_span(),
            cap in any_span(),
            chance in 0.0..1.0,
        ) {
            let maximum = delay(failures, base, cap, 1.0);

            prop_assert!(maximum <= cap);
            prop_assert!(maximum >= base.min(cap), "the first maximum is the base");
            prop_assert!(delay(failures.saturating_add(1), base, cap, 1.0) >= maximum);
            prop_assert!(delay(failures, base, cap, chance) <= maximum);
        }

        #[test]
        fn the_delay_increases_with_the_chance(failures: i32, one in 0.0..1.0, other in 0.0..1.0) {
            let (smaller, larger) = if one < other { (one, other) } else { (other, one) };

            prop_assert!(delay(failures, BASE, CAP, smaller) <= delay(failures, BASE, CAP, larger));
        }
    }
}
