//! Request coalescing: callers that arrive while reads are in flight share the next read.
//!
//! Unlike a usual single flight, a caller never joins a read that has begun, so every result reflects the caller's own
//! earlier writes: only the waiting is shared. Each caller may add to the input of the shared read, which makes this a
//! batch loader.

use std::{
    fmt,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep_until, timeout},
};

/// Coalescer of reads with input `I` and result `T`. Clones share the reads.
pub struct Coalescer<I, T: Clone>(Arc<Inner<I, T>>);

/// Limits of a [`Coalescer`].
#[derive(Debug, Clone, Copy)]
pub struct Limits<T> {
    /// Number of reads in flight from which further callers share one read.
    pub in_flight: usize,
    /// Time after which a hanging read no longer counts as in flight; `None` is never.
    pub slot_timeout: Option<Duration>,
    /// Pause between a read and the next one, by the result of the read and its duration.
    pub pause: fn(&T, Duration) -> Duration,
}

struct Inner<I, T: Clone> {
    limits: Limits<T>,
    slots: Semaphore,
    /// The read that has not begun, which callers can still join.
    next: Mutex<Option<Next<I, T>>>,
    /// Earliest begin of the next read.
    paused_until: Mutex<Option<Instant>>,
}

struct Next<I, T: Clone> {
    input: I,
    read: Shared<BoxFuture<'static, T>>,
}

/// A caller in [`load`](Coalescer::load). The last one of a read that has not begun removes it.
struct Caller<'a, I, T: Clone>(&'a Inner<I, T>);

impl<I, T> Coalescer<I, T>
where
    I: Default + Send + 'static,
    T: Clone + Send + Sync + 'static,
{
    /// A coalescer with these limits.
    pub fn new(limits: Limits<T>) -> Self {
        Self(Arc::new(Inner {
            slots: Semaphore::new(limits.in_flight),
            limits,
            next: Mutex::default(),
            paused_until: Mutex::default(),
        }))
    }

    /// Joins the next read, or starts it with `read`. `join` adds to its input.
    ///
    /// The callers drive the read: it is cancelled when all of them are dropped. If it has not begun by then, its input is
    /// dropped, too: a later caller's read does not have it.
    pub async fn load<F>(
        &self,
        join: impl FnOnce(&mut I),
        read: impl FnOnce(I) -> F + Send + 'static,
    ) -> T
    where
        F: Future<Output = T> + Send + 'static,
    {
        // Dropped after its share of the read.
        let _caller = Caller(&self.0);
        let shared = {
            let mut next = lock(&self.0.next);
            let next = next.get_or_insert_with(|| Next {
                input: I::default(),
                read: self.0.clone().run(read).boxed().shared(),
            });
            join(&mut next.input);
            next.read.clone()
        };
        shared.await
    }
}

impl<I, T: Clone> Inner<I, T> {
    async fn run<F>(self: Arc<Self>, read: impl FnOnce(I) -> F) -> T
    where
        F: Future<Output = T>,
    {
        let slot = self.slots.acquire().await;
        let slot = slot.expect("the semaphore is never closed");
        let paused_until = *lock(&self.paused_until);
        if let Some(instant) = paused_until {
            sleep_until(instant).await;
        }
        // Callers that arrive from here on need a later read.
        let next = lock(&self.next).take().map(|next| next.input);
        let input = next.expect("a read stays the next one until it begins");

        let began = Instant::now();
        let mut reading = pin!(read(input));
        let in_time = match self.limits.slot_timeout {
            None => Some(reading.as_mut().await),
            Some(slot_timeout) => timeout(slot_timeout, &mut reading).await.ok(),
        };
        let result = if let Some(result) = in_time {
            result
        } else {
            drop(slot);
            reading.await
        };
        let pause = (self.limits.pause)(&result, began.elapsed());
        *lock(&self.paused_until) = (!pause.is_zero()).then(|| Instant::now() + pause);
        result
    }
}

impl<I, T: Clone> Drop for Caller<'_, I, T> {
    fn drop(&mut self) {
        let is_abandoned = |next: &mut Next<I, T>| next.read.strong_count() == Some(1);
        let abandoned = lock(&self.0.next).take_if(is_abandoned);
        // After the lock was released: this drops the caller's input.
        drop(abandoned);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<I, T: Clone> Clone for Coalescer<I, T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<I, T: Clone> fmt::Debug for Coalescer<I, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Coalescer").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::future::{join_all, pending};
    use tokio::sync::Notify;

    use super::*;

    const SINGLE: Limits<()> = Limits {
        in_flight: 1,
        slot_timeout: None,
        pause: |(), _| Duration::ZERO,
    };

    async fn load<F>(coalescer: &Coalescer<(), ()>, read: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        coalescer.load(|()| (), |()| read).await;
    }

    /// A coalescer whose reads return their input.
    fn numbers() -> Coalescer<Vec<u8>, Vec<u8>> {
        Coalescer::new(Limits {
            in_flight: 1,
            slot_timeout: None,
            pause: |_, _| Duration::ZERO,
        })
    }

    fn count(reads: &Arc<AtomicUsize>) -> impl Future<Output = ()> + use<> {
        let reads = reads.clone();
        async move {
            reads.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[tokio::test]
    async fn callers_that_arrive_during_a_read_share_the_next_one() {
        let coalescer = Coalescer::new(SINGLE);
        let reads = Arc::new(AtomicUsize::new(0));
        let release = Arc::new(Notify::new());
        let first = tokio::spawn({
            let (coalescer, release, counted) = (coalescer.clone(), release.clone(), count(&reads));
            async move {
                let slow = async move {
                    counted.await;
                    release.notified().await;
                };
                load(&coalescer, slow).await;
            }
        });
        while reads.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }

        let others = (0..10).map(|_| load(&coalescer, count(&reads)));
        tokio::join!(join_all(others), async { release.notify_one() });

        first.await.unwrap();
        assert_eq!(reads.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn the_next_read_waits_for_the_pause_after_the_last_one() {
        let coalescer = Coalescer::new(Limits {
            pause: |(), took| took,
            ..SINGLE
        });
        let took = Duration::from_millis(50);
        let slow = || async move { tokio::time::sleep(took).await };
        let began = Instant::now();

        load(&coalescer, slow()).await;
        load(&coalescer, slow()).await;

        assert!(began.elapsed() >= took * 3);
    }

    #[tokio::test]
    async fn dropped_callers_do_not_delay_later_ones() {
        let coalescer = Coalescer::new(SINGLE);
        let reads = Arc::new(AtomicUsize::new(0));
        {
            let in_flight = load(&coalescer, pending());
            let queued = load(&coalescer, count(&reads));
            futures::pin_mut!(in_flight, queued);
            assert!(futures::poll!(in_flight.as_mut()).is_pending());
            assert!(futures::poll!(queued.as_mut()).is_pending());
        }

        load(&coalescer, count(&reads)).await;

        assert_eq!(reads.load(Ordering::SeqCst), 1);
    }

    /// Otherwise a group commit would carry out a request long after its client has given up.
    #[tokio::test]
    async fn a_later_read_does_not_have_the_input_of_dropped_callers() {
        let coalescer = numbers();
        let load = |n| coalescer.load(move |input| input.push(n), |input| async { input });
        {
            let in_flight = coalescer.load(|input| input.push(0), |_| pending());
            let queued = load(1);
            futures::pin_mut!(in_flight, queued);
            assert!(futures::poll!(in_flight.as_mut()).is_pending());
            assert!(futures::poll!(queued.as_mut()).is_pending());
        }

        assert_eq!(load(2).await, [2]);
    }

    #[tokio::test]
    async fn a_read_is_kept_while_one_of_its_callers_waits() {
        let coalescer = numbers();
        let load = |n| coalescer.load(move |input| input.push(n), |input| async { input });
        let release = Arc::new(Notify::new());
        let released = release.clone();
        let slow = coalescer.load(
            |input| input.push(0),
            |input| async move {
                released.notified().await;
                input
            },
        );
        let staying = load(2);
        futures::pin_mut!(slow, staying);
        assert!(futures::poll!(slow.as_mut()).is_pending());
        {
            let leaving = load(1);
            futures::pin_mut!(leaving);
            assert!(futures::poll!(leaving.as_mut()).is_pending());
            assert!(futures::poll!(staying.as_mut()).is_pending());
        }

        release.notify_one();

        assert_eq!(slow.await, [0]);
        assert_eq!(staying.await, [1, 2]);
    }
}
