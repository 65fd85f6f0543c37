//! Rate limiter for DNS checks: a token bucket per zone, and one for the resolvers.
//!
//! The name servers of an organizational domain (`example.co.uk`) serve all names below it, and a customer may have
//! thousands of them; the resolvers serve every domain. A bucket is stored as the instant at which it is full again (GCRA).

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use dezky_shared::platform::clock;

/// Checks of domains in one zone.
const ZONE: Rate = Rate {
    interval: Duration::from_millis(500),
    burst: 10,
};
/// Checks in all. Each sends about fifteen queries to every resolver.
const RESOLVERS: Rate = Rate {
    interval: Duration::from_millis(10),
    burst: 100,
};
/// Above this many zones, full buckets are evicted.
const MAX_ZONES: usize = 10_000;

#[derive(Debug, Clone, Copy)]
struct Rate {
    interval: Duration,
    burst: u32,
}

/// The rate limiter of one process.
#[derive(Debug, Default)]
pub struct ZoneRateLimiter(Mutex<Buckets>);

#[derive(Debug, Default)]
struct Buckets {
    resolvers: Duration,
    zones: HashMap<String, Duration>,
}

impl ZoneRateLimiter {
    /// Takes a token for one check of `domain`, or returns how long to wait before the next attempt.
    pub fn acquire(&self, domain: &str) -> Result<(), Duration> {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        buckets.acquire(organizational_domain(domain), clock::boot_time())
    }
}

impl Buckets {
    fn acquire(&mut self, zone: &str, now: Duration) -> Result<(), Duration> {
        if self.zones.len() >= MAX_ZONES {
            self.zones.retain(|_, full_at| *full_at > now);
        }
        let zone_full = self.zones.get(zone).copied().unwrap_or_default();
        let zone_after = ZONE.spend(zone_full, now)?;
        self.resolvers = RESOLVERS.spend(self.resolvers, now)?;
        self.zones.insert(zone.to_owned(), zone_after);
        Ok(())
    }
}

impl Rate {
    /// Takes a token from a bucket that is full again at `full_at`. Returns its new time, or how long until a token is
    /// available.
    fn spend(self, full_at: Duration, now: Duration) -> Result<Duration, Duration> {
        let after = full_at.max(now) + self.interval;
        let latest = now + self.interval * self.burst;
        if after > latest {
            return Err(after.saturating_sub(latest));
        }
        Ok(after)
    }
}

/// The registered part of a name, or the name itself if it has none.
fn organizational_domain(domain: &str) -> &str {
    psl::domain_str(domain).unwrap_or(domain)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1_000);

    #[test]
    fn a_zone_allows_a_burst_and_then_one_check_per_interval() {
        let mut buckets = Buckets::default();

        let burst = (0..ZONE.burst).filter(|_| buckets.acquire("acme.test", NOW).is_ok());

        assert_eq!(burst.count(), ZONE.burst as usize);
        assert_eq!(buckets.acquire("acme.test", NOW), Err(ZONE.interval));
        assert_eq!(buckets.acquire("acme.test", NOW + ZONE.interval), Ok(()));
        assert_eq!(
            buckets.acquire("acme.test", NOW + ZONE.interval),
            Err(ZONE.interval)
        );
        assert_eq!(buckets.acquire("other.test", NOW), Ok(()));
    }

    #[test]
    fn all_zones_together_are_limited_by_the_bucket_of_the_resolvers() {
        let mut buckets = Buckets::default();

        let taken = (0..1_000).filter(|n| buckets.acquire(&format!("{n}.test"), NOW).is_ok());

        assert_eq!(taken.count(), RESOLVERS.burst as usize);
        assert_eq!(
            buckets.acquire("acme.test", NOW + RESOLVERS.interval),
            Ok(()),
            "a rejected check does not take a token"
        );
    }

    #[test]
    fn full_buckets_are_evicted() {
        let mut buckets = Buckets::default();
        for n in 0..3 * u32::try_from(MAX_ZONES).unwrap() {
            buckets
                .acquire(&format!("{n}.test"), NOW + RESOLVERS.interval * n)
                .unwrap();
        }

        assert!(buckets.zones.len() <= MAX_ZONES, "{}", buckets.zones.len());
    }

    #[test]
    fn names_below_a_registered_domain_share_its_zone() {
        assert_eq!(organizational_domain("a.b.example.co.uk"), "example.co.uk");
        assert_eq!(organizational_domain("mail.acme.test"), "acme.test");
        assert_eq!(organizational_domain("co.uk"), "co.uk");
    }
}
