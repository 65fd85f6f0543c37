//! Keyed mutex: serializes the commands on one tenant or one partner, first in, first out.
//!
//! MongoDB would abort and retry all but one of the conflicting transactions, which costs most of the throughput under
//! contention. The mutex is local to the process; conflicts between processes are left to the transactions.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use dezky_shared::id::PartnerId;
use tokio::sync::{Mutex as FairMutex, OwnedMutexGuard};

use crate::error::{ApiError, ProblemCode};

/// Maximum number of waiting requests per key.
const MAX_WAITERS: usize = 64;

/// A fair mutex per key.
#[derive(Debug, Default)]
pub struct KeyedMutex(Mutex<HashMap<String, Entry>>);

#[derive(Debug, Default)]
struct Entry {
    mutex: Arc<FairMutex<()>>,
    /// Waiting requests and the holder.
    tickets: usize,
}

/// Exclusive access to a key. Released on drop.
#[derive(Debug)]
pub struct KeyedGuard<'a> {
    // Dropped before the lock, so that the next holder does not count this ticket.
    ticket: Ticket<'a>,
    _lock: OwnedMutexGuard<()>,
    contended: bool,
}

/// A place in the queue of a key.
#[derive(Debug)]
struct Ticket<'a> {
    mutex: &'a KeyedMutex,
    key: String,
}

impl KeyedGuard<'_> {
    /// Whether the lock was held by another request at first.
    pub fn was_contended(&self) -> bool {
        self.contended
    }

    /// Whether another request is queued for this key.
    pub fn has_waiters(&self) -> bool {
        let entries = self.ticket.mutex.entries();
        entries
            .get(&self.ticket.key)
            .is_some_and(|entry| entry.tickets > 1)
    }
}

/// The key of a partner. That of a tenant is its slug, which has no colon.
pub fn partner_key(id: PartnerId) -> String {
    format!("partner:{id}")
}

impl KeyedMutex {
    /// Locks a key. 429 if too many requests wait.
    pub async fn lock(&self, key: &str) -> Result<KeyedGuard<'_>, ApiError> {
        let (ticket, mutex) = self.enqueue(key)?;
        let (lock, contended) = match mutex.clone().try_lock_owned() {
            Ok(lock) => (lock, false),
            Err(_) => (mutex.lock_owned().await, true),
        };
        Ok(KeyedGuard {
            ticket,
            _lock: lock,
            contended,
        })
    }

    fn enqueue(&self, key: &str) -> Result<(Ticket<'_>, Arc<FairMutex<()>>), ApiError> {
        let mut entries = self.entries();
        let entry = entries.entry(key.to_owned()).or_default();
        if entry.tickets > MAX_WAITERS {
            let detail = "Too many concurrent requests for this tenant or partner.";
            return Err(ApiError::new(ProblemCode::TooManyRequests).with_detail(detail));
        }
        entry.tickets += 1;
        let ticket = Ticket {
            mutex: self,
            key: key.to_owned(),
        };
        Ok((ticket, entry.mutex.clone()))
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut entries = self.mutex.entries();
        if let Some(entry) = entries.get_mut(&self.key) {
            entry.tickets -= 1;
            if entry.tickets == 0 {
                entries.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn locks_are_granted_in_order() {
        let mutex = KeyedMutex::default();
        let first = mutex.lock("acme").await.unwrap();
        let mut second = Box::pin(mutex.lock("acme"));
        let mut third = Box::pin(mutex.lock("acme"));
        assert!(second.as_mut().now_or_never().is_none());
        assert!(third.as_mut().now_or_never().is_none());

        drop(first);

        assert!(third.as_mut().now_or_never().is_none());
        let second = second.now_or_never().unwrap().unwrap();
        assert!(second.was_contended());
    }

    #[tokio::test]
    async fn keys_are_independent() {
        let mutex = KeyedMutex::default();

        let _acme = mutex.lock("acme").await.unwrap();

        assert!(mutex.lock("globex").now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_guard_reports_waiting_requests() {
        let mutex = KeyedMutex::default();
        let guard = mutex.lock("acme").await.unwrap();
        assert!(!guard.was_contended());
        assert!(!guard.has_waiters());

        let mut next = Box::pin(mutex.lock("acme"));
        assert!(next.as_mut().now_or_never().is_none());
        assert!(guard.has_waiters());

        drop(next);
        assert!(!guard.has_waiters());
    }

    #[tokio::test]
    async fn a_request_is_rejected_if_too_many_wait() {
        let mutex = KeyedMutex::default();
        let _first = mutex.lock("acme").await.unwrap();
        let mut waiting: Vec<_> = (0..MAX_WAITERS)
            .map(|_| Box::pin(mutex.lock("acme")))
            .collect();
        for lock in &mut waiting {
            assert!(lock.as_mut().now_or_never().is_none());
        }

        let rejected = mutex.lock("acme").await.unwrap_err();
        drop(waiting.pop());
        let mut admitted = Box::pin(mutex.lock("acme"));

        assert_eq!(rejected.code, ProblemCode::TooManyRequests);
        assert!(admitted.as_mut().now_or_never().is_none());
    }

    #[tokio::test]
    async fn unused_keys_are_removed() {
        let mutex = KeyedMutex::default();

        drop(mutex.lock("acme").await.unwrap());

        assert!(mutex.entries().is_empty());
    }
}
