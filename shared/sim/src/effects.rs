//! What a simulator really did: one entry for each change of its state, so that a test can count them.

use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

/// One change of an upstream's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Effect {
    /// The operation, named as the client names it: `create_group`.
    pub operation: &'static str,
    /// What it concerned, by its natural key: the group's name, the domain's name, the drive's alias.
    pub key: String,
}

/// The record of all effects on one upstream, oldest first.
#[derive(Debug, Clone, Default)]
pub struct Effects(Arc<Mutex<Vec<Effect>>>);

impl Effects {
    /// Writes down that something changed.
    pub fn record(&self, operation: &'static str, key: impl Into<String>) {
        self.lock().push(Effect {
            operation,
            key: key.into(),
        });
    }

    /// Everything that happened so far.
    pub fn all(&self) -> Vec<Effect> {
        self.lock().clone()
    }

    /// How often `operation` changed something.
    pub fn count(&self, operation: &str) -> usize {
        self.lock()
            .iter()
            .filter(|effect| effect.operation == operation)
            .count()
    }

    /// How often `operation` changed `key`.
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
