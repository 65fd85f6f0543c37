//! Reads of open pages. Pages that only keep themselves up to date share responses of the API for a few seconds: fifty open
//! pages cost MongoDB about as much as one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::body::Bytes;
use dezky_shared::user::PlatformRole;
use tokio::sync::OnceCell;

use super::{failure::Failure, routes::Routes, session::Session};

/// Time for which a response is shared. Shorter than the period in which an open page is read again, so that no page shows
/// an earlier state than before.
const SHARED_FOR: Duration = Duration::from_secs(5);
/// Maximum number of shared responses. Further ones are read for one page only.
const MAX_SHARED: usize = 128;

/// Role and path of a response. A response depends on nothing else of the operator who asks.
type Key = (PlatformRole, String);

/// A response, once it is read.
type Shared = Arc<OnceCell<Bytes>>;

/// The shared responses.
#[derive(Debug, Default)]
pub(super) struct SharedReads(Mutex<HashMap<Key, (Instant, Shared)>>);

impl SharedReads {
    /// Reads a resource, unless another page did so within the last seconds. A failure is not shared.
    pub(super) async fn get(
        &self,
        routes: &Routes,
        session: &Session,
        path: &str,
    ) -> Result<Bytes, Failure> {
        let key = (session.role, path.to_owned());
        let Some(shared) = self.entry(key, Instant::now()) else {
            return routes.read(session, path).await;
        };
        let response = shared
            .get_or_try_init(|| routes.read(session, path))
            .await?;
        Ok(response.clone())
    }

    /// The response to share. `None` if there are too many.
    fn entry(&self, key: Key, now: Instant) -> Option<Shared> {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|_, (since, _)| now.saturating_duration_since(*since) < SHARED_FOR);
        if let Some((_, shared)) = entries.get(&key) {
            return Some(shared.clone());
        }
        if entries.len() >= MAX_SHARED {
            return None;
        }
        let shared = Shared::default();
        entries.insert(key, (now, shared.clone()));
        Some(shared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_shared_for_some_seconds_by_operators_of_one_role() {
        let reads = SharedReads::default();
        let start = Instant::now();
        let entry = |role, path: &str, now| reads.entry((role, path.to_owned()), now).unwrap();
        let admin = |now| entry(PlatformRole::Admin, "/jobs", now);

        let first = admin(start);

        assert!(Arc::ptr_eq(&first, &admin(start + SHARED_FOR / 2)));
        assert!(!Arc::ptr_eq(
            &first,
            &entry(PlatformRole::Viewer, "/jobs", start)
        ));
        assert!(!Arc::ptr_eq(
            &first,
            &entry(PlatformRole::Admin, "/queues", start)
        ));
        assert!(!Arc::ptr_eq(&first, &admin(start + SHARED_FOR)));
    }

    #[test]
    fn the_number_of_shared_responses_is_limited() {
        let reads = SharedReads::default();
        let start = Instant::now();
        let entry = |n: usize, now| reads.entry((PlatformRole::Admin, n.to_string()), now);

        let all = (0..MAX_SHARED).all(|n| entry(n, start).is_some());

        assert!(all);
        assert!(entry(MAX_SHARED, start).is_none());
        assert!(entry(0, start).is_some());
        assert!(entry(MAX_SHARED, start + SHARED_FOR).is_some());
    }
}
