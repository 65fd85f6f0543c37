//! Per-check lookup cache: all queries of one check share a deadline, and equal queries are sent once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    sync::OnceCell,
    time::{Instant, timeout_at},
};

use super::resolver::{Answer, Failure, RecordType, Resolver, normalise};

type Lookup = Arc<OnceCell<Result<Answer, Failure>>>;

/// A resolver that caches answers for the duration of one check.
pub(super) struct CachedResolver<'a, R> {
    resolver: &'a R,
    deadline: Instant,
    lookups: Mutex<HashMap<(String, RecordType), Lookup>>,
}

impl<'a, R> CachedResolver<'a, R> {
    /// Lookups that have no answer by `deadline` time out.
    pub(super) fn new(resolver: &'a R, deadline: Instant) -> Self {
        Self {
            resolver,
            deadline,
            lookups: Mutex::default(),
        }
    }
}

impl<R: Resolver> Resolver for CachedResolver<'_, R> {
    async fn lookup(&self, name: &str, kind: RecordType) -> Result<Answer, Failure> {
        let name = normalise(name);
        let lookup = {
            let mut lookups = self.lookups.lock().unwrap_or_else(PoisonError::into_inner);
            lookups.entry((name.clone(), kind)).or_default().clone()
        };
        let send = async || {
            // Boxed, so that the futures of nested evaluations stay small.
            let answer = Box::pin(self.resolver.lookup(&name, kind));
            timeout_at(self.deadline, answer)
                .await
                .unwrap_or(Err(Failure::Timeout))
        };
        lookup.get_or_init(send).await.clone()
    }
}
