//! Calls that create or change an object at Stripe, each with an idempotency key that is stored before the call.
//!
//! A call whose answer was lost is repeated with its key, which has no second effect. Stripe keeps keys for a day, and
//! replays refusals, too: a key that is older, was refused, or belongs to another request is replaced by that of the next
//! generation, once a look-up has shown that the call had no effect.

use std::time::Duration;

use bson::DateTime;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::platform::clock;

/// Age at which a key is not used any more. Stripe keeps keys for 24 hours.
const KEY_LIFETIME: Duration = Duration::from_hours(23);

/// State of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StripeCallState {
    /// Its result is unknown.
    Open,
    /// It had its effect.
    Done,
    /// It was refused.
    Refused,
}

/// The last call of an operation on an entity, as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StripeCall {
    /// Operation and entity: `customer.create:<tenantId>`.
    #[serde(rename = "_id")]
    pub id: String,
    /// Number of the key among those of this operation and entity.
    pub generation: i64,
    /// Hash of the parameters.
    pub request_hash: String,
    /// Parameters of a request that is repeated as it was made, also if its entity has changed since. Empty for others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub request: Vec<String>,
    /// Time at which the key was stored.
    pub started_at: DateTime,
    /// State.
    pub state: StripeCallState,
    /// Id of the object, once it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result_id: Option<String>,
}

/// Next action for a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NextCall {
    /// Repeat this call with its key.
    Repeat(StripeCall),
    /// Look for the effect of the call before, if there was one. If there is none, store this call and make it.
    Begin {
        /// The call to make.
        next: StripeCall,
        /// The call before.
        before: Option<StripeCall>,
    },
}

impl StripeCall {
    /// The id of the calls of `operation` on `entity`.
    pub fn id_of(operation: &str, entity: impl std::fmt::Display) -> String {
        format!("{operation}:{entity}")
    }

    /// The idempotency key.
    pub fn key(&self) -> String {
        format!("{}:{}", self.id, self.generation)
    }

    /// The call to make for a request, after `before`.
    pub fn next(before: Option<Self>, id: String, request_hash: String, now: DateTime) -> NextCall {
        if let Some(before) = &before
            && before.request_hash == request_hash
            && before.is_in_doubt(now)
        {
            return NextCall::Repeat(before.clone());
        }
        let next = Self {
            id,
            generation: before.as_ref().map_or(0, |before| before.generation) + 1,
            request_hash,
            request: Vec::new(),
            started_at: now,
            state: StripeCallState::Open,
            result_id: None,
        };
        NextCall::Begin { next, before }
    }

    /// The stored parameters of a call whose effect is not known, and may still happen.
    pub fn unresolved(&self, now: DateTime) -> Option<&[String]> {
        let parameters: Vec<&str> = self.request.iter().map(String::as_str).collect();
        // A build without the field has left those of the call before.
        let is_own = !parameters.is_empty() && request_hash(&parameters) == self.request_hash;
        (is_own && self.is_in_doubt(now)).then_some(self.request.as_slice())
    }

    /// Whether its effect is not known, and may still happen: it is repeated with its key.
    pub fn is_in_doubt(&self, now: DateTime) -> bool {
        let is_open = self.state == StripeCallState::Open;
        is_open && now < clock::later(self.started_at, KEY_LIFETIME)
    }
}

/// Hash of a request's parameters. A call with other parameters may not use the key of the one before.
pub fn request_hash(parameters: &[&str]) -> String {
    let mut hash = Sha256::new();
    for parameter in parameters {
        hash.update(parameter.len().to_be_bytes());
        hash.update(parameter);
    }
    let digest = hash.finalize();
    let hex = digest[..16].iter().map(|byte| format!("{byte:02x}"));
    hex.collect::<Vec<_>>().concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "customer.create:acme";

    fn begun(before: Option<StripeCall>, hash: &str, now: DateTime) -> StripeCall {
        match StripeCall::next(before, ID.to_owned(), hash.to_owned(), now) {
            NextCall::Begin { next, .. } => next,
            NextCall::Repeat(call) => panic!("repeats {call:?}"),
        }
    }

    fn is_repeated(before: &StripeCall, hash: &str, now: DateTime) -> bool {
        let next = StripeCall::next(Some(before.clone()), ID.to_owned(), hash.to_owned(), now);
        next == NextCall::Repeat(before.clone())
    }

    #[test]
    fn only_an_open_call_with_the_same_request_is_repeated_and_for_23_hours_only() {
        let start = DateTime::from_millis(1_795_339_800_000);
        let first = begun(None, "a", start);
        let expiry = clock::later(start, KEY_LIFETIME);
        let last_moment = clock::earlier(expiry, Duration::from_millis(1));

        assert_eq!(first.key(), "customer.create:acme:1");
        assert!(is_repeated(&first, "a", last_moment));
        assert!(!is_repeated(&first, "b", last_moment));
        assert!(!is_repeated(&first, "a", expiry));
        for state in [StripeCallState::Done, StripeCallState::Refused] {
            let ended = StripeCall {
                state,
                ..first.clone()
            };
            assert!(!is_repeated(&ended, "a", start));
            assert_eq!(
                begun(Some(ended), "a", start).key(),
                "customer.create:acme:2"
            );
        }
    }

    #[test]
    fn the_parameters_of_an_open_call_are_its_own_and_known_for_23_hours_only() {
        let start = DateTime::from_millis(1_795_339_800_000);
        let hash = request_hash(&["cus_1", "price_1", ""]);
        let request = ["cus_1", "price_1", ""].map(str::to_owned).to_vec();
        let open = StripeCall {
            request: request.clone(),
            ..begun(None, &hash, start)
        };
        let with_hash_of_an_older_build = StripeCall {
            request_hash: "another".to_owned(),
            ..open.clone()
        };
        let done = StripeCall {
            state: StripeCallState::Done,
            ..open.clone()
        };

        assert!(open.is_in_doubt(start) && !done.is_in_doubt(start));
        assert!(!open.is_in_doubt(clock::later(start, KEY_LIFETIME)));
        assert_eq!(open.unresolved(start), Some(request.as_slice()));
        assert_eq!(open.unresolved(clock::later(start, KEY_LIFETIME)), None);
        assert_eq!(with_hash_of_an_older_build.unresolved(start), None);
        assert_eq!(done.unresolved(start), None);
        assert_eq!(begun(None, &hash, start).unresolved(start), None);
    }

    #[test]
    fn the_hash_separates_parameters() {
        assert_ne!(request_hash(&["ab", "c"]), request_hash(&["a", "bc"]));
        assert_eq!(request_hash(&["ab"]), request_hash(&["ab"]));
        assert_eq!(request_hash(&[]).len(), 32);
    }
}
