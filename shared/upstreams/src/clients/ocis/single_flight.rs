//! The list of all spaces, read once for everybody who asks while another reading is under way.
//!
//! oCIS cannot be asked for the spaces with a marker, so each tenant's step reads them all. With many steps at work
//! that list would be most of what oCIS sends. Whoever asks is given a list that was asked for *after* they did, so
//! it holds whatever they wrote before: only the waiting is shared. Between two readings oCIS is left in peace for as long
//! as the first one took, so that with many spaces it has time for something else.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use tokio::{
    sync::Mutex as FairMutex,
    time::{Instant, sleep_until},
};

use super::drives::Drive;
use crate::clients::ClientError;

/// For how long oCIS is left in peace at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

type Reading = Shared<BoxFuture<'static, SpaceList>>;

/// What came of one reading.
#[derive(Debug, Clone)]
pub(super) struct SpaceList {
    /// All spaces.
    pub(super) spaces: Result<Arc<[Drive]>, ClientError>,
    /// The ids by which oCIS knows its requests.
    pub(super) request_ids: Vec<String>,
}

/// Readings of all spaces, one at a time.
#[derive(Clone, Default)]
pub(super) struct SpaceListSingleFlight(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// Held by the reading under way; from when on the next may begin.
    turn: FairMutex<Option<Instant>>,
    /// The reading that has not been sent, which everybody who asks now can share.
    next: Mutex<Option<Reading>>,
}

impl SpaceListSingleFlight {
    /// All spaces, as `ask` reads them from now on at the earliest.
    pub(super) async fn read(
        &self,
        ask: impl Future<Output = SpaceList> + Send + 'static,
    ) -> SpaceList {
        let inner = self.0.clone();
        let reading = self
            .next()
            .get_or_insert_with(|| {
                async move {
                    let mut turn = inner.turn.lock().await;
                    if let Some(next) = *turn {
                        sleep_until(next).await;
                    }
                    // Whoever asks from here on needs a later one.
                    inner
                        .next
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .take();
                    let began = Instant::now();
                    let listed = ask.await;
                    let pause = match &listed.spaces {
                        Ok(_) => began.elapsed().min(LONGEST_PAUSE),
                        Err(_) => Duration::ZERO,
                    };
                    *turn = Some(Instant::now() + pause);
                    listed
                }
                .boxed()
                .shared()
            })
            .clone();
        reading.await
    }

    fn next(&self) -> std::sync::MutexGuard<'_, Option<Reading>> {
        self.0.next.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for SpaceListSingleFlight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Listing")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::future::{join_all, pending};
    use tokio::sync::Notify;

    use super::*;

    fn nothing() -> SpaceList {
        SpaceList {
            spaces: Ok([].into()),
            request_ids: Vec::new(),
        }
    }

    fn count(readings: &Arc<AtomicUsize>) -> impl Future<Output = SpaceList> + use<> {
        let readings = readings.clone();
        async move {
            readings.fetch_add(1, Ordering::SeqCst);
            nothing()
        }
    }

    #[tokio::test]
    async fn those_who_ask_during_a_reading_share_the_next_one() {
        let listing = SpaceListSingleFlight::default();
        let readings = Arc::new(AtomicUsize::new(0));
        let release = Arc::new(Notify::new());
        let (released, counted) = (release.clone(), readings.clone());
        let first = tokio::spawn({
            let listing = listing.clone();
            async move {
                let slow = async move {
                    counted.fetch_add(1, Ordering::SeqCst);
                    released.notified().await;
                    nothing()
                };
                listing.read(slow).await
            }
        });
        while readings.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }

        let others = (0..10).map(|_| listing.read(count(&readings)));
        let (answers, ()) = tokio::join!(join_all(others), async { release.notify_one() });

        assert!(answers.iter().all(|listed| listed.spaces.is_ok()));
        assert!(first.await.unwrap().spaces.is_ok());
        assert_eq!(readings.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_long_list_is_not_read_all_the_time() {
        let listing = SpaceListSingleFlight::default();
        let took = Duration::from_millis(50);
        let began = Instant::now();
        let slow = || async move {
            tokio::time::sleep(took).await;
            nothing()
        };

        listing.read(slow()).await;
        listing.read(slow()).await;

        assert!(began.elapsed() >= took * 3);
    }

    #[tokio::test]
    async fn who_gives_up_keeps_nobody_waiting() {
        let listing = SpaceListSingleFlight::default();
        let readings = Arc::new(AtomicUsize::new(0));
        {
            let under_way = listing.read(pending());
            let queued = listing.read(count(&readings));
            futures::pin_mut!(under_way, queued);
            assert!(futures::poll!(under_way.as_mut()).is_pending());
            assert!(futures::poll!(queued.as_mut()).is_pending());
        }

        let answer = listing.read(count(&readings)).await;

        assert!(answer.spaces.is_ok());
        assert_eq!(readings.load(Ordering::SeqCst), 1);
    }
}
