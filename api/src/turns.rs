//! Requests that change one tenant or one partner take turns, first come, first served.
//!
//! MongoDB would sort them out too, by aborting all but one and having the rest start over: with many on one tenant
//! that costs most of the throughput. Other processes are not asked; against them, the transaction decides.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Mutex as FairMutex, OwnedMutexGuard};

use crate::error::{ApiError, Code};

/// How many may wait for their turn on one of them.
const LONGEST_LINE: usize = 64;

/// The lines before all of them.
#[derive(Debug, Default)]
pub struct Turns(Mutex<HashMap<String, Line>>);

#[derive(Debug, Default)]
struct Line {
    turn: Arc<FairMutex<()>>,
    /// Those who wait, and the one whose turn it is.
    length: usize,
}

/// One's turn, until it is dropped.
#[derive(Debug)]
pub struct Turn<'a> {
    // In this order: whoever comes next finds the line shorter.
    place: Place<'a>,
    _lock: OwnedMutexGuard<()>,
    waited: bool,
}

#[derive(Debug)]
struct Place<'a> {
    turns: &'a Turns,
    slug: String,
}

impl Turn<'_> {
    /// Whether it was not one's turn at once.
    pub fn was_waited_for(&self) -> bool {
        self.waited
    }

    /// Whether somebody waits for this turn to end.
    pub fn is_waited_for(&self) -> bool {
        let lines = self.place.turns.lines();
        lines
            .get(&self.place.slug)
            .is_some_and(|line| line.length > 1)
    }
}

impl Turns {
    /// Waits for one's turn on the tenant with this slug, or on the partner with `partner:` before its slug, unless the
    /// line is too long.
    pub async fn take(&self, slug: &str) -> Result<Turn<'_>, ApiError> {
        let (place, turn) = self.line_up(slug)?;
        let (lock, waited) = match turn.clone().try_lock_owned() {
            Ok(lock) => (lock, false),
            Err(_) => (turn.lock_owned().await, true),
        };
        Ok(Turn {
            place,
            _lock: lock,
            waited,
        })
    }

    fn line_up(&self, slug: &str) -> Result<(Place<'_>, Arc<FairMutex<()>>), ApiError> {
        let mut lines = self.lines();
        let line = lines.entry(slug.to_owned()).or_default();
        if line.length > LONGEST_LINE {
            let detail = "Other requests for this tenant wait already.";
            return Err(ApiError::new(Code::TooManyRequests).with_detail(detail));
        }
        line.length += 1;
        let place = Place {
            turns: self,
            slug: slug.to_owned(),
        };
        Ok((place, line.turn.clone()))
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<String, Line>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
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
        let turns = Turns::default();
        let first = turns.take("acme").await.unwrap();
        let mut second = Box::pin(turns.take("acme"));
        let mut third = Box::pin(turns.take("acme"));
        assert!(second.as_mut().now_or_never().is_none());
        assert!(third.as_mut().now_or_never().is_none());

        drop(first);

        assert!(third.as_mut().now_or_never().is_none());
        let second = second.now_or_never().unwrap().unwrap();
        assert!(second.was_waited_for());
    }

    #[tokio::test]
    async fn another_tenant_has_a_line_of_its_own() {
        let turns = Turns::default();

        let _acme = turns.take("acme").await.unwrap();

        assert!(turns.take("globex").now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_turn_knows_whether_somebody_waits_for_it() {
        let turns = Turns::default();
        let turn = turns.take("acme").await.unwrap();
        assert!(!turn.was_waited_for());
        assert!(!turn.is_waited_for());

        let mut next = Box::pin(turns.take("acme"));
        assert!(next.as_mut().now_or_never().is_none());
        assert!(turn.is_waited_for());

        drop(next);
        assert!(!turn.is_waited_for());
    }

    #[tokio::test]
    async fn whoever_would_wait_in_too_long_a_line_is_sent_away() {
        let turns = Turns::default();
        let _first = turns.take("acme").await.unwrap();
        let mut waiting: Vec<_> = (0..LONGEST_LINE)
            .map(|_| Box::pin(turns.take("acme")))
            .collect();
        for place in &mut waiting {
            assert!(place.as_mut().now_or_never().is_none());
        }

        let refused = turns.take("acme").await.unwrap_err();
        drop(waiting.pop());
        let mut admitted = Box::pin(turns.take("acme"));

        assert_eq!(refused.code, Code::TooManyRequests);
        assert!(admitted.as_mut().now_or_never().is_none());
    }

    #[tokio::test]
    async fn a_line_without_anybody_is_forgotten() {
        let turns = Turns::default();

        drop(turns.take("acme").await.unwrap());

        assert!(turns.lines().is_empty());
    }
}
