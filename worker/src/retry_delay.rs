//! How long a failed step waits.

use std::time::Duration;

/// Full jitter: a random share of `base` doubled with each failure in a row, at most `cap`. `chance` is uniform
/// over `0.0..1.0`.
///
/// See <https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>.
pub(crate) fn delay(failures: i32, base: Duration, cap: Duration, chance: f64) -> Duration {
    let doublings = failures.clamp(1, 30) - 1;
    let longest = base.mul_f64(2_f64.powi(doublings)).min(cap);
    longest.mul_f64(chance.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BASE: Duration = Duration::from_secs(2);
    const CAP: Duration = Duration::from_mins(15);

    #[test]
    fn the_longest_delay_doubles_with_each_failure_up_to_the_cap() {
        let longest: Vec<u64> = (1..=12)
            .map(|failures| delay(failures, BASE, CAP, 1.0).as_secs())
            .collect();

        assert_eq!(longest, [2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900]);
    }

    #[test]
    fn the_delay_is_a_random_share_of_the_longest() {
        assert_eq!(delay(3, BASE, CAP, 0.0), Duration::ZERO);
        assert_eq!(delay(3, BASE, CAP, 0.5), Duration::from_secs(4));
    }

    #[test]
    fn absurd_counts_do_no_harm() {
        assert_eq!(delay(i32::MAX, BASE, CAP, 1.0), CAP);
        assert_eq!(delay(i32::MIN, BASE, CAP, 1.0), BASE);
    }

    fn any_span() -> impl Strategy<Value = Duration> {
        (0_u64..100_000_000).prop_map(Duration::from_millis)
    }

    proptest! {
        #[test]
        fn no_delay_is_longer_than_the_cap_and_more_failures_never_shorten_the_longest(
            failures: i32,
            base in any_span(),
            cap in any_span(),
            chance in 0.0..1.0,
        ) {
            let longest = delay(failures, base, cap, 1.0);

            prop_assert!(longest <= cap);
            prop_assert!(longest >= base.min(cap), "the first delay's longest is the base");
            prop_assert!(delay(failures.saturating_add(1), base, cap, 1.0) >= longest);
            prop_assert!(delay(failures, base, cap, chance) <= longest);
        }

        #[test]
        fn a_larger_chance_is_a_longer_delay(failures: i32, one in 0.0..1.0, other in 0.0..1.0) {
            let (smaller, larger) = if one < other { (one, other) } else { (other, one) };

            prop_assert!(delay(failures, BASE, CAP, smaller) <= delay(failures, BASE, CAP, larger));
        }
    }
}
