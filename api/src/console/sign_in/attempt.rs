//! Attempt to sign in: kept in a cookie of the browser that began it, encrypted, so that strangers store nothing here.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bson::{DateTime, spec::BinarySubtype};
use dezky_shared::{
    id::JobId,
    platform::clock,
    queue::secret_box::{EncryptedSecrets, EncryptionKeys},
};
use jsonwebtoken::dangerous;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::super::session::random;
use crate::error::ApiError;

/// Time in which a sign-in has to be completed.
pub(super) const MAX_AGE: Duration = Duration::from_mins(10);
/// Purpose that the cookie is encrypted for: no other secret decrypts as an attempt.
const PURPOSE: [u8; 16] = *b"console sign-in\0";

/// An attempt to sign in.
#[derive(Serialize, Deserialize)]
pub(super) struct Attempt {
    /// Value that the issuer returns, which ties its answer to this browser.
    pub(super) state: String,
    /// Value that the id token must have.
    pub(super) nonce: String,
    /// PKCE verifier.
    pub(super) verifier: String,
    /// Page to show afterwards.
    pub(super) return_to: String,
    /// End, in milliseconds since 1970.
    ends_at: i64,
}

impl Attempt {
    pub(super) fn new(return_to: &str, now: DateTime) -> Result<Self, ApiError> {
        Ok(Self {
            state: random()?,
            nonce: random()?,
            verifier: random()?,
            return_to: return_to.to_owned(),
            ends_at: clock::later(now, MAX_AGE).timestamp_millis(),
        })
    }

    /// PKCE challenge, by the method S256.
    pub(super) fn challenge(&self) -> String {
        URL_SAFE_NO_PAD.encode(Sha256::digest(&self.verifier))
    }

    /// Whether a verified id token answers this attempt.
    pub(super) fn has_nonce_of(&self, id_token: &str) -> bool {
        #[derive(Deserialize)]
        struct Nonce {
            nonce: Option<String>,
        }
        let read: Result<Nonce, _> = dangerous::insecure_decode_claims(id_token);
        read.is_ok_and(|claims| claims.nonce.as_ref() == Some(&self.nonce))
    }

    /// The value of the cookie.
    pub(super) fn seal(&self, keys: &EncryptionKeys) -> Result<String, ApiError> {
        let sealed = keys.encrypt(JobId::from_bytes(PURPOSE), self);
        let sealed = sealed.map_err(|error| ApiError::internal(error.into()))?;
        let parts = [sealed.key_id.into_bytes(), sealed.data.bytes];
        Ok(parts.map(|part| URL_SAFE_NO_PAD.encode(part)).join("."))
    }

    /// The attempt in a cookie, unless it has ended.
    pub(super) fn open(cookie: &str, keys: &EncryptionKeys, now: DateTime) -> Option<Self> {
        let (key_id, bytes) = cookie.split_once('.')?;
        let sealed = EncryptedSecrets {
            key_id: String::from_utf8(URL_SAFE_NO_PAD.decode(key_id).ok()?).ok()?,
            data: bson::Binary {
                subtype: BinarySubtype::Generic,
                bytes: URL_SAFE_NO_PAD.decode(bytes).ok()?,
            },
        };
        let attempt: Self = keys.decrypt(JobId::from_bytes(PURPOSE), &sealed).ok()?;
        (attempt.ends_at > now.timestamp_millis()).then_some(attempt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_is_opened_unchanged_and_in_time() {
        let keys =
            EncryptionKeys::parse(["k:QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE="]).unwrap();
        let now = clock::now();
        let attempt = Attempt::new("/console/jobs", now).unwrap();

        let cookie = attempt.seal(&keys).unwrap();

        let opened = Attempt::open(&cookie, &keys, now).unwrap();
        assert_eq!(opened.return_to, "/console/jobs");
        assert_eq!(opened.challenge(), attempt.challenge());
        assert!(Attempt::open(&cookie, &keys, clock::later(now, MAX_AGE)).is_none());
        assert!(Attempt::open(&format!("{cookie}A"), &keys, now).is_none());
        assert!(Attempt::open("", &keys, now).is_none());
        assert!(!cookie.contains("console"));
    }
}
