//! Secret box: encrypts the secrets of a job, or of a step's result, with XChaCha20-Poly1305.
//!
//! `SEALING_KEYS` lists the keys, `<id>:<32 bytes in base64>`, separated by commas. The first key encrypts; all keys
//! decrypt, so that a key can be rotated while jobs are queued. The ciphertext is bound to its job id: copied into
//! another document, it does not decrypt.

use std::fmt;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bson::spec::BinarySubtype;
use chacha20poly1305::{
    KeyInit as _, XChaCha20Poly1305, XNonce,
    aead::{Aead as _, Generate as _, Payload},
};
use secrecy::zeroize::Zeroizing;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{id::JobId, platform::config};

/// Length of the nonce that precedes the ciphertext.
const NONCE: usize = 24;
/// Length of a key.
const KEY: usize = 32;

/// Encrypted secrets (XChaCha20-Poly1305) with the id of their key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EncryptedSecrets {
    /// Id of the encryption key.
    pub key_id: String,
    /// Nonce and ciphertext.
    pub data: bson::Binary,
}

/// Encryption keys.
#[derive(Clone, Default)]
pub struct EncryptionKeys(Vec<(String, XChaCha20Poly1305)>);

/// Encryption or decryption failure. No variant contains the secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncryptionError {
    /// No key is configured.
    #[error("SEALING_KEYS is not set")]
    NoKey,
    /// The key with this id is not configured.
    #[error("SEALING_KEYS has no key `{0}`")]
    UnknownKey(String),
    /// Authentication failed: the data was changed, belongs to another job, or the key's value differs.
    #[error("cannot be decrypted with key `{0}`")]
    Undecryptable(String),
    /// The decrypted data has an unexpected format.
    #[error("the decrypted data has an unexpected format")]
    Form,
}

impl EncryptionKeys {
    /// Reads `SEALING_KEYS`; no keys if unset.
    pub fn from_env() -> anyhow::Result<Self> {
        let listed = config::list("SEALING_KEYS")?;
        Self::parse(listed.iter().map(String::as_str))
    }

    /// Parses keys written as `<id>:<32 bytes in base64>`. The first key encrypts.
    pub fn parse<'a>(listed: impl IntoIterator<Item = &'a str>) -> anyhow::Result<Self> {
        let mut keys: Vec<(String, XChaCha20Poly1305)> = Vec::new();
        for (position, text) in listed.into_iter().enumerate() {
            // The text is a secret, so an error names only its position.
            let position = position + 1;
            let (id, key) = text
                .split_once(':')
                .filter(|(id, _)| !id.is_empty())
                .ok_or_else(|| {
                    anyhow::anyhow!("SEALING_KEYS: key {position} is not written `<id>:<base64>`")
                })?;
            let key = BASE64_STANDARD
                .decode(key)
                .ok()
                .map(Zeroizing::new)
                .and_then(|bytes| XChaCha20Poly1305::new_from_slice(&bytes).ok())
                .ok_or_else(|| {
                    anyhow::anyhow!("SEALING_KEYS: key {position} is not {KEY} bytes in base64")
                })?;
            anyhow::ensure!(
                keys.iter().all(|(known, _)| known != id),
                "SEALING_KEYS: key {position} has the id of an earlier one"
            );
            keys.push((id.to_owned(), key));
        }
        Ok(Self(keys))
    }

    /// Whether a key for encryption is configured.
    pub fn can_encrypt(&self) -> bool {
        !self.0.is_empty()
    }

    /// Encrypts `secrets` for this job.
    pub fn encrypt(
        &self,
        job: JobId,
        secrets: &impl Serialize,
    ) -> Result<EncryptedSecrets, EncryptionError> {
        let (id, key) = self.0.first().ok_or(EncryptionError::NoKey)?;
        let plain = Zeroizing::new(serde_json::to_vec(secrets).map_err(|_| EncryptionError::Form)?);
        let nonce = XNonce::generate();
        let payload = Payload {
            msg: &plain,
            aad: &job.bytes(),
        };
        let ciphertext = key
            .encrypt(&nonce, payload)
            .map_err(|_| EncryptionError::Form)?;
        Ok(EncryptedSecrets {
            key_id: id.clone(),
            data: bson::Binary {
                subtype: BinarySubtype::Generic,
                bytes: [nonce.as_slice(), &ciphertext].concat(),
            },
        })
    }

    /// Decrypts the secrets of this job.
    pub fn decrypt<T: DeserializeOwned>(
        &self,
        job: JobId,
        encrypted: &EncryptedSecrets,
    ) -> Result<T, EncryptionError> {
        let key = self.0.iter().find(|(id, _)| *id == encrypted.key_id);
        let (id, key) = key.ok_or_else(|| EncryptionError::UnknownKey(encrypted.key_id.clone()))?;
        let undecryptable = || EncryptionError::Undecryptable(id.clone());
        let (nonce, ciphertext) = encrypted
            .data
            .bytes
            .split_at_checked(NONCE)
            .ok_or_else(undecryptable)?;
        let nonce = XNonce::try_from(nonce).map_err(|_| undecryptable())?;
        let payload = Payload {
            msg: ciphertext,
            aad: &job.bytes(),
        };
        let plain = key.decrypt(&nonce, payload).map_err(|_| undecryptable())?;
        serde_json::from_slice(&Zeroizing::new(plain)).map_err(|_| EncryptionError::Form)
    }
}

impl fmt::Debug for EncryptionKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|(id, _)| id))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: &str, byte: u8) -> String {
        format!("{id}:{}", BASE64_STANDARD.encode([byte; KEY]))
    }

    fn keys(listed: &[String]) -> EncryptionKeys {
        EncryptionKeys::parse(listed.iter().map(String::as_str)).unwrap()
    }

    #[test]
    fn old_keys_decrypt_and_the_first_key_encrypts() {
        let job = JobId::new();
        let before = keys(&[key("old", 1)]).encrypt(job, &"hunter2").unwrap();
        let rotated = keys(&[key("new", 2), key("old", 1)]);

        let after = rotated.encrypt(job, &"hunter3").unwrap();

        assert_eq!((&*before.key_id, &*after.key_id), ("old", "new"));
        assert_eq!(rotated.decrypt(job, &before), Ok("hunter2".to_owned()));
        assert_eq!(rotated.decrypt(job, &after), Ok("hunter3".to_owned()));
    }

    #[test]
    fn a_secret_cannot_be_decrypted_without_its_key() {
        let job = JobId::new();
        let encrypted = keys(&[key("old", 1)]).encrypt(job, &"hunter2").unwrap();

        let gone = keys(&[key("new", 2)]).decrypt::<String>(job, &encrypted);
        let renamed = keys(&[key("old", 3)]).decrypt::<String>(job, &encrypted);
        let none = EncryptionKeys::default().encrypt(job, &"hunter2");

        assert_eq!(gone, Err(EncryptionError::UnknownKey("old".to_owned())));
        assert_eq!(
            renamed,
            Err(EncryptionError::Undecryptable("old".to_owned()))
        );
        assert_eq!(none, Err(EncryptionError::NoKey));
    }

    #[test]
    fn a_secret_decrypts_only_unchanged_and_for_its_own_job() {
        let keys = keys(&[key("k", 1)]);
        let job = JobId::new();
        let encrypted = keys.encrypt(job, &"hunter2").unwrap();
        let changed = |at: usize| {
            let mut other = encrypted.clone();
            other.data.bytes[at] ^= 1;
            other
        };
        let mut cut = encrypted.clone();
        cut.data.bytes.truncate(NONCE - 1);

        let refused = [
            keys.decrypt::<String>(JobId::new(), &encrypted),
            keys.decrypt(job, &changed(0)),
            keys.decrypt(job, &changed(NONCE)),
            keys.decrypt(job, &cut),
        ];

        for opened in refused {
            assert_eq!(opened, Err(EncryptionError::Undecryptable("k".to_owned())));
        }
    }

    #[test]
    fn each_encryption_has_its_own_nonce() {
        let keys = keys(&[key("k", 1)]);
        let job = JobId::new();

        let encrypted = [0, 1].map(|_| keys.encrypt(job, &"hunter2").unwrap().data.bytes);

        assert_ne!(encrypted[0], encrypted[1]);
    }

    #[test]
    fn an_invalid_key_is_identified_by_its_position_and_never_shown() {
        for bad in ["no-colon-here", ":AAAA", "k:short", "k:!!!!"] {
            let good = key("good", 1);

            let error = EncryptionKeys::parse([&*good, bad])
                .unwrap_err()
                .to_string();

            assert!(error.contains("key 2"), "{error}");
            assert!(!error.contains(bad.rsplit(':').next().unwrap()), "{error}");
        }
        let twice = EncryptionKeys::parse([&*key("k", 1), &*key("k", 2)]);

        assert!(twice.is_err());
    }

    #[test]
    fn debug_shows_only_the_ids_of_keys() {
        assert_eq!(format!("{:?}", keys(&[key("k", 65)])), r#"["k"]"#);
    }
}
