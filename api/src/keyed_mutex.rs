//! Requests that change one tenant or one partner take turns, first come, first served.
//!
//! MongoDB would sort them out too, by aborting all but one and having the rest start over: with many on one tenant
//! that costs most of the throughput. Other processes are not asked; against them, the transaction decides.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Mutex as FairMutex, OwnedMutexGuard};

use crate::error::{ApiError, ProblemCode};

/// How many may wait for their turn on one of them.
const MAX_WAITERS: usize = 64;

/// The lines before all of them.
#[derive(Debug, Default)]
pub struct KeyedMutex(Mutex<HashMap<String, Line>>);

#[derive(Debug, Default)]
struct Line {
    turn: Arc<FairMutex<()>>,
    /// Those who wait, and the one whose turn it is.
    length: usize,
}

/// One's turn, until it is dropped.
#[derive(Debug)]
pub struct KeyedGuard<'a> {
    // In this order: whoever comes next finds the line shorter.
    place: Ticket<'a>,
    _lock: OwnedMutexGuard<()>,
    waited: bool,
}

#[derive(Debug)]
struct Ticket<'a> {
    turns: &'a KeyedMutex,
    slug: String,
}

impl KeyedGuard<'_> {
    /// Whether it was not one's turn at once.
    pub fn was_contended(&self) -> bool {
        self.waited
    }

    /// Whether somebody waits for this turn to end.
    pub fn has_waiters(&self) -> bool {
        let lines = self.place.turns.lines();
        lines
            .get(&self.place.slug)
            .is_some_and(|line| line.length > 1)
    }
}

impl KeyedMutex {
    /// Waits for one's turn on the tenant with this slug, or on the partner with `partner:` before its slug, unless the
    /// line is too long.
    pub async fn lock(&self, slug: &str) -> Result<KeyedGuard<'_>, ApiError> {
        let (place, turn) = self.line_up(slug)?;
        let (lock, waited) = match turn.clone().try_lock_owned() {
            Ok(lock) => (lock, false),
            Err(_) => (turn.lock_owned().await, true),
        };
        Ok(KeyedGuard {
            place,
            _lock: lock,
            waited,
        })
    }

    fn line_up(&self, slug: &str) -> Result<(Ticket<'_>, Arc<FairMutex<()>>), ApiError> {
        let mut lines = self.lines();
        let line = lines.entry(slug.to_owned()).or_default();
        if line.length > MAX_WAITERS {
            let detail = "Other requests for this tenant wait already.";
            return Err(ApiError::new(ProblemCode::TooManyRequests).with_detail(detail));
        }
        line.length += 1;
        let place = Ticket {
            turns: self,
            slug: slug.to_owned(),
        };
        Ok((place, line.turn.clone()))
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<String, Line>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut lines = self.turns.lines();
        if let Some(line) = lines.get_mut(&self.slug) {
            line.length -= 1;
            if line.length == 0 {
                lines.remove(&self.slug);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn turns_are_taken_in_the_order_of_asking() {
        let turns = KeyedMutex::default();
        let first = turns.lock("acme").await.unwrap();
        let mut second = Box::pin(turns.lock("acme"));
        let mut third = Box::pin(turns.lock("acme"));
        assert!(second.as_mut().now_or_never().is_none());
        assert!(third.as_mut().now_or_never().is_none());

        drop(first);

        assert!(third.as_mut().now_or_never().is_none());
        let second = second.now_or_never().unwrap().unwrap();
        assert!(second.was_contended());
    }

    #[tokio::test]
    async fn another_tenant_has_a_line_of_its_own() {
        let turns = KeyedMutex::default();

        let _acme = turns.lock("acme").await.unwrap();

        assert!(turns.lock("globex").now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_turn_knows_whether_somebody_waits_for_it() {
        let turns = KeyedMutex::default();
        let turn = turns.lock("acme").await.unwrap();
        assert!(!turn.was_contended());
        assert!(!turn.has_waiters());

        let mut next = Box::pin(turns.lock("acme"));
        assert!(next.as_mut().now_or_never().is_none());
        assert!(turn.has_waiters());

        drop(next);
        assert!(!turn.has_waiters());
    }

    #[tokio::test]
    async fn whoever_would_wait_in_too_long_a_line_is_sent_away() {
        let turns = KeyedMutex::default();
        let _first = turns.lock("acme").await.unwrap();
        let mut waiting: Vec<_> = (0..MAX_WAITERS)
            .map(|_| Box::pin(turns.lock("acme")))
            .collect();
        for place in &mut waiting {
            assert!(place.as_mut().now_or_never().is_none());
        }

        let refused = turns.lock("acme").await.unwrap_err();
        drop(waiting.pop());
        let mut admitted = Box::pin(turns.lock("acme"));

        assert_eq!(refused.code, ProblemCode::TooManyRequests);
        assert!(admitted.as_mut().now_or_never().is_none());
    }

    #[tokio::test]
    async fn a_line_without_anybody_is_forgotten() {
        let turns = KeyedMutex::default();

        drop(turns.lock("acme").await.unwrap());

        assert!(turns.lines().is_empty());
    }
}
