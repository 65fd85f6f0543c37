//! Idempotency keys: the first result of a key is replayed for a day, and another request with it is refused.

use std::collections::BTreeMap;

use serde_json::Value;

use super::refusal::Refusal;

/// Seconds after which a key is forgotten.
const KEPT: i64 = 24 * 60 * 60;

/// Result of a request.
pub(super) type Answer = Result<Value, Refusal>;

#[derive(Debug)]
struct Stored {
    request: String,
    answer: Answer,
    at: i64,
}

/// Used keys.
#[derive(Debug, Default)]
pub(super) struct IdempotencyKeys(BTreeMap<String, Stored>);

impl IdempotencyKeys {
    /// The answer to replay for `key`, if it was used within a day. Another `request` is refused.
    pub(super) fn find(&self, key: &str, request: &str, now: i64) -> Option<Answer> {
        let stored = self.0.get(key).filter(|stored| now - stored.at < KEPT)?;
        if stored.request != request {
            return Some(Err(Refusal::key_reused()));
        }
        Some(stored.answer.clone())
    }

    /// Stores the answer, unless the request was refused before it began to run.
    pub(super) fn store(&mut self, key: &str, request: String, answer: &Answer, now: i64) {
        let is_result = match answer {
            Ok(_) => true,
            Err(refusal) => refusal.is_result(),
        };
        if is_result {
            let stored = Stored {
                request,
                answer: answer.clone(),
                at: now,
            };
            self.0.insert(key.to_owned(), stored);
        }
    }
}
