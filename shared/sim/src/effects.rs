//! Effects: one record per change of a simulator's state, so that tests can count them.

use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

/// One change of an upstream's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Effect {
    /// Operation, by the client's name for it: `create_group`.
    pub operation: &'static str,
    /// Natural key of the changed object: group name, domain name or drive alias.
    pub key: String,
}

/// All effects on one upstream, oldest first.
#[derive(Debug, Clone, Default)]
pub struct Effects(Arc<Mutex<Vec<Effect>>>);

impl Effects {
    /// Records an effect.
    pub fn record(&self, operation: &'static str, key: impl Into<String>) {
        self.lock().push(Effect {
            operation,
            key: key.into(),
        });
    }

    /// All effects so far.
    pub fn all(&self) -> Vec<Effect> {
        self.lock().clone()
    }

    /// Number of effects of `operation`.
    pub fn count(&self, operation: &str) -> usize {
        self.lock()
            .iter()
            .filter(|effect| effect.operation == operation)
            .count()
    }

    /// Number of effects of `operation` on `key`.
    pub fn count_for(&self, operation: &str, key: &str) -> usize {
        self.lock()
            .iter()
            .filter(|effect| effect.operation == operation && effect.key == key)
            .count()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Effect>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
