//! Quota: an amount that all clients share, and of which each client may use a part.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// A quota, shared by its clones.
#[derive(Debug, Clone)]
pub(super) struct Quota {
    total: usize,
    per_client: usize,
    used: Arc<Mutex<Used>>,
}

#[derive(Debug, Default)]
struct Used {
    total: usize,
    by_client: HashMap<String, usize>,
}

/// An acquired part of a quota, returned when it is dropped.
#[derive(Debug)]
pub(super) struct QuotaPermit {
    amount: usize,
    client: Option<String>,
    used: Arc<Mutex<Used>>,
}

/// Which part of a quota is exhausted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exhausted {
    /// The amount that all clients share.
    Total,
    /// The client's part.
    Client,
}

impl Quota {
    /// A quota of `total`, of which one client may use `per_client`.
    pub(super) fn new(total: usize, per_client: usize) -> Self {
        Self {
            total,
            per_client,
            used: Arc::default(),
        }
    }

    /// A permit for `amount`. A client that uses nothing gets one of any size, and no client has the limit of the total
    /// only.
    pub(super) fn try_acquire(
        &self,
        client: Option<&str>,
        amount: usize,
    ) -> Result<QuotaPermit, Exhausted> {
        let mut used = lock(&self.used);
        let by_client = client.map_or(0, |client| used.of(client));
        if by_client > 0 && by_client + amount > self.per_client {
            return Err(Exhausted::Client);
        }
        if used.total + amount > self.total {
            return Err(Exhausted::Total);
        }
        Ok(self.permit(&mut used, client, amount))
    }

    /// A permit for `amount`, even if the quota is exhausted.
    pub(super) fn acquire_anyway(&self, client: Option<&str>, amount: usize) -> QuotaPermit {
        self.permit(&mut lock(&self.used), client, amount)
    }

    fn permit(&self, used: &mut Used, client: Option<&str>, amount: usize) -> QuotaPermit {
        used.total += amount;
        if let Some(client) = client {
            *used.by_client.entry(client.to_owned()).or_default() += amount;
        }
        QuotaPermit {
            amount,
            client: client.map(str::to_owned),
            used: self.used.clone(),
        }
    }
}

impl Used {
    fn of(&self, client: &str) -> usize {
        self.by_client.get(client).copied().unwrap_or_default()
    }
}

impl Drop for QuotaPermit {
    fn drop(&mut self) {
        let mut used = lock(&self.used);
        used.total -= self.amount;
        let Some(client) = &self.client else {
            return;
        };
        if let Some(amount) = used.by_client.get_mut(client) {
            *amount -= self.amount;
            if *amount == 0 {
                used.by_client.remove(client);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_limited_in_total_and_for_each_client() {
        let quota = Quota::new(10, 4);
        let acquire = |client, amount| quota.try_acquire(client, amount);

        let held = acquire(Some("a"), 3).unwrap();
        assert_eq!(acquire(Some("a"), 2).unwrap_err(), Exhausted::Client);
        let one_more = acquire(Some("a"), 1).unwrap();
        let oversized = acquire(Some("b"), 6).unwrap();
        assert_eq!(acquire(Some("c"), 1).unwrap_err(), Exhausted::Total);
        assert_eq!(acquire(None, 1).unwrap_err(), Exhausted::Total);
        let anyway = quota.acquire_anyway(Some("c"), 1);

        drop((held, one_more, oversized, anyway));
        assert!(acquire(None, 10).is_ok());
        assert!(lock(&quota.used).by_client.is_empty());
    }
}
