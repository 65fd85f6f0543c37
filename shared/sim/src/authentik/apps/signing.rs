//! Signing key of all apps, as providers share it in a real installation. Generated when it is first used.

use std::sync::OnceLock;

use serde_json::Value;

use crate::issuer::{KeySet, SigningAlgorithm};

/// The signing key.
#[derive(Debug, Default)]
pub(super) struct Signer(OnceLock<KeySet>);

impl Signer {
    fn keys(&self) -> &KeySet {
        self.0
            .get_or_init(|| KeySet::of(SigningAlgorithm::Rs256).expect("RSA keys can be generated"))
    }

    /// The JWKS document.
    pub(super) fn published(&self) -> Value {
        self.keys().published()
    }

    /// A signed JWT with these claims.
    pub(super) fn sign(&self, claims: &Value) -> anyhow::Result<String> {
        let key = self.keys().current(SigningAlgorithm::Rs256)?;
        let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::RS256);
        header.kid = key.id();
        Ok(jsonwebtoken::encode(&header, claims, &key.encoding_key()?)?)
    }
}
