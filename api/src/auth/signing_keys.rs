//! Published signing keys (JWKS, RFC 7517).

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use anyhow::ensure;
use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey,
    jwk::{Jwk, JwkSet, PublicKeyUse},
};
use serde::Deserialize;

/// Age at which keys are refreshed in the background.
const REFRESH_AFTER: Duration = Duration::from_mins(10);
/// Age at which keys are expired: a withdrawn key is accepted no longer than this, unless its issuer is unavailable.
const EXPIRE_AFTER: Duration = Duration::from_mins(15);

/// The keys of an issuer, as it published them at one time.
#[derive(Debug)]
pub(super) struct SigningKeys {
    by_id: HashMap<String, Key>,
    requested_at: Instant,
    stale_at: Instant,
    expires_at: Instant,
}

#[derive(Debug, Clone)]
struct Key {
    key: DecodingKey,
    algorithm: Option<String>,
}

/// A JWKS document. Keys are read one by one, so that one of an unsupported type does not hide the others.
#[derive(Debug, Deserialize)]
pub(super) struct Published {
    keys: Vec<serde_json::Value>,
}

impl SigningKeys {
    /// The keys of a document that was requested at this time. A document without a usable key is an error: it would reject every
    /// token.
    pub(super) fn read(published: Published, requested_at: Instant) -> anyhow::Result<Self> {
        let keys = published.keys.into_iter();
        let keys = keys.filter_map(|key| serde_json::from_value(key).ok());
        let by_id = usable(&JwkSet {
            keys: keys.collect(),
        });
        ensure!(!by_id.is_empty(), "the issuer publishes no usable key");
        Ok(Self {
            requested_at,
            ..Self::aged(by_id, requested_at.elapsed())
        })
    }

    fn aged(by_id: HashMap<String, Key>, age: Duration) -> Self {
        let now = Instant::now();
        Self {
            by_id,
            requested_at: now,
            stale_at: now + REFRESH_AFTER.saturating_sub(age),
            expires_at: now + EXPIRE_AFTER.saturating_sub(age),
        }
    }

    pub(super) fn contains(&self, kid: &str) -> bool {
        self.by_id.contains_key(kid)
    }

    /// The key with this id, if it may verify signatures of this algorithm.
    pub(super) fn find(&self, kid: &str, algorithm: Algorithm) -> Option<DecodingKey> {
        let key = self.by_id.get(kid)?;
        key.allows(algorithm).then(|| key.key.clone())
    }

    /// Whether the keys are those that the issuer published at this time or later.
    pub(super) fn were_requested_after(&self, time: Instant) -> bool {
        self.requested_at >= time
    }

    /// Whether the keys should be fetched again.
    pub(super) fn is_stale(&self) -> bool {
        self.stale_at <= Instant::now()
    }

    /// Whether the keys are too old to be used without an attempt to fetch them.
    pub(super) fn is_expired(&self) -> bool {
        self.expires_at <= Instant::now()
    }
}

/// The signing keys that have an id.
fn usable(published: &JwkSet) -> HashMap<String, Key> {
    let usable = |jwk: &Jwk| {
        let for_signatures = matches!(
            jwk.common.public_key_use,
            None | Some(PublicKeyUse::Signature)
        );
        let id = jwk.common.key_id.clone().filter(|_| for_signatures)?;
        let key = Key {
            key: DecodingKey::from_jwk(jwk).ok()?,
            algorithm: jwk
                .common
                .key_algorithm
                .map(|algorithm| algorithm.to_string()),
        };
        Some((id, key))
    };
    published.keys.iter().filter_map(usable).collect()
}

impl Key {
    /// Whether the key may verify signatures of this algorithm. A symmetric key never may.
    fn allows(&self, algorithm: Algorithm) -> bool {
        let family = match algorithm {
            Algorithm::RS256 => AlgorithmFamily::Rsa,
            Algorithm::ES256 => AlgorithmFamily::Ec,
            Algorithm::EdDSA => AlgorithmFamily::Ed,
            _ => return false,
        };
        self.key.family() == family
            && self
                .algorithm
                .as_ref()
                .is_none_or(|only| *only == format!("{algorithm:?}"))
    }
}

#[cfg(test)]
impl SigningKeys {
    /// One key, fetched `age` ago.
    pub(super) fn one(kid: &str, key: DecodingKey, age: Duration) -> Self {
        let key = Key {
            key,
            algorithm: None,
        };
        Self::aged([(kid.to_owned(), key)].into(), age)
    }
}
