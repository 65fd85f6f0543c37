//! How often one process looks at the DNS: so many domains of one zone at once, and so many in all.
//!
//! The servers of a zone answer for all names below an organisational domain (`example.co.uk`), and a customer may
//! have thousands there; the resolvers answer for everybody. Both get a token bucket, here as the instant at which
//! the bucket is full again (GCRA).

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use dezky_shared::platform::clock;

/// A zone gets a look this often, after a burst.
const ZONE: Rate = Rate {
    every: Duration::from_millis(500),
    burst: 10,
};
/// The resolvers get a look this often: some fifteen questions to each of them.
const RESOLVERS: Rate = Rate {
    every: Duration::from_millis(10),
    burst: 100,
};
/// With more zones than this, those whose bucket is full are forgotten.
const REMEMBERED: usize = 10_000;

#[derive(Debug, Clone, Copy)]
struct Rate {
    every: Duration,
    burst: u32,
}

/// The buckets.
#[derive(Debug, Default)]
pub struct ZoneLimits(Mutex<Buckets>);

#[derive(Debug, Default)]
struct Buckets {
    resolvers: Duration,
    zones: HashMap<String, Duration>,
}

impl ZoneLimits {
    /// Takes a token for a look at `domain`, or says how long to wait before asking again.
    pub fn take(&self, domain: &str) -> Result<(), Duration> {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        buckets.take(organisational_domain(domain), clock::boot_time())
    }
}

impl Buckets {
    fn take(&mut self, zone: &str, now: Duration) -> Result<(), Duration> {
        if self.zones.len() >= REMEMBERED {
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
    /// When a bucket that is full again at `full_at` is so after one more token, or how long until there is one.
    fn spend(self, full_at: Duration, now: Duration) -> Result<Duration, Duration> {
        let after = full_at.max(now) + self.every;
        let latest = now + self.every * self.burst;
        if after > latest {
            return Err(after.saturating_sub(latest));
        }
        Ok(after)
    }
}

/// The part of a name that its owner registered; the name itself where nobody knows.
fn organisational_domain(domain: &str) -> &str {
    psl::domain_str(domain).unwrap_or(domain)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1_000);

    #[test]
    fn a_zone_gets_a_burst_and_then_one_look_at_a_time() {
        let mut buckets = Buckets::default();

        let burst = (0..ZONE.burst).filter(|_| buckets.take("acme.test", NOW).is_ok());

        assert_eq!(burst.count(), ZONE.burst as usize);
        assert_eq!(buckets.take("acme.test", NOW), Err(ZONE.every));
        assert_eq!(buckets.take("acme.test", NOW + ZONE.every), Ok(()));
        assert_eq!(buckets.take("acme.test", NOW + ZONE.every), Err(ZONE.every));
        assert_eq!(buckets.take("other.test", NOW), Ok(()));
    }

    #[test]
    fn all_zones_together_do_not_get_more_than_the_resolvers_bear() {
        let mut buckets = Buckets::default();

        let taken = (0..1_000).filter(|n| buckets.take(&format!("{n}.test"), NOW).is_ok());

        assert_eq!(taken.count(), RESOLVERS.burst as usize);
        assert_eq!(
            buckets.take("acme.test", NOW + RESOLVERS.every),
            Ok(()),
            "who was refused has spent nothing"
        );
    }

    #[test]
    fn zones_that_nobody_asked_for_long_are_forgotten() {
        let mut buckets = Buckets::default();
        for n in 0..3 * u32::try_from(REMEMBERED).unwrap() {
            buckets
                .take(&format!("{n}.test"), NOW + RESOLVERS.every * n)
                .unwrap();
        }

        assert!(buckets.zones.len() <= REMEMBERED, "{}", buckets.zones.len());
    }

    #[test]
    fn names_below_one_registered_domain_are_one_zone() {
        assert_eq!(organisational_domain("a.b.example.co.uk"), "example.co.uk");
        assert_eq!(organisational_domain("mail.acme.test"), "acme.test");
        assert_eq!(organisational_domain("co.uk"), "co.uk");
    }
}
