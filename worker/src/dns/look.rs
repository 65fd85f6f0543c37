//! One look at a domain through one resolver: everything within one time limit, and no question asked twice.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    sync::OnceCell,
    time::{Instant, timeout_at},
};

use super::resolver::{Answer, Failure, RecordType, Resolver, normalise};

type Asked = Arc<OnceCell<Result<Answer, Failure>>>;

pub(super) struct Look<'a, R> {
    resolver: &'a R,
    until: Instant,
    asked: Mutex<HashMap<(String, RecordType), Asked>>,
}

impl<'a, R> Look<'a, R> {
    pub(super) fn new(resolver: &'a R, until: Instant) -> Self {
        Self {
            resolver,
            until,
            asked: Mutex::default(),
        }
    }
}

impl<R: Resolver> Resolver for Look<'_, R> {
    async fn lookup(&self, name: &str, kind: RecordType) -> Result<Answer, Failure> {
        let name = normalise(name);
        let asked = {
            let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            asked.entry((name.clone(), kind)).or_default().clone()
        };
        let ask = async || {
            timeout_at(self.until, self.resolver.lookup(&name, kind))
                .await
                .unwrap_or(Err(Failure::Timeout))
        };
        asked.get_or_init(ask).await.clone()
    }
}
