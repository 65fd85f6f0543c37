//! Signing keys of an application, and their storage.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    rsa,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use jsonwebtoken::{
    Algorithm, EncodingKey,
    jwk::{Jwk, KeyAlgorithm, ThumbprintHash},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Rotation, SigningAlgorithm};

/// All keys of an application, newest first.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct KeySet(Vec<SigningKey>);

impl KeySet {
    /// Loads the keys from `directory`. Generates and saves new ones if there are none.
    pub(super) fn open(directory: Option<&Path>, application: &str) -> anyhow::Result<Self> {
        let Some(directory) = directory else {
            return Self::generate();
        };
        let file = file(directory, application);
        if !file.exists() {
            let keys = Self::generate()?;
            keys.save(directory, application)?;
            return Ok(keys);
        }
        let stored =
            fs::read(&file).with_context(|| format!("{} cannot be read", file.display()))?;
        serde_json::from_slice(&stored)
            .with_context(|| format!("{} contains no valid keys", file.display()))
    }

    /// One key of this algorithm.
    pub(crate) fn of(algorithm: SigningAlgorithm) -> anyhow::Result<Self> {
        Ok(Self(vec![SigningKey::generate(algorithm)?]))
    }

    fn generate() -> anyhow::Result<Self> {
        let algorithms = [
            SigningAlgorithm::Rs256,
            SigningAlgorithm::Es256,
            SigningAlgorithm::EdDsa,
        ];
        let keys: anyhow::Result<_> = algorithms.map(SigningKey::generate).into_iter().collect();
        Ok(Self(keys?))
    }

    pub(super) fn save(&self, directory: &Path, application: &str) -> anyhow::Result<()> {
        fs::create_dir_all(directory)?;
        let mut scratch = tempfile::NamedTempFile::new_in(directory)?;
        scratch.write_all(&serde_json::to_vec_pretty(self)?)?;
        scratch
            .as_file()
            .set_permissions(fs::Permissions::from_mode(0o600))?;
        scratch.persist(file(directory, application))?;
        Ok(())
    }

    pub(super) fn rotate(&mut self, rotation: Rotation) -> anyhow::Result<()> {
        let Self(new) = Self::generate()?;
        match rotation {
            Rotation::KeepOld => self.0.splice(..0, new).for_each(drop),
            Rotation::DropOld => self.0 = new,
        }
        Ok(())
    }

    /// Removes all keys.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Publishes `others` as well.
    pub(super) fn add(&mut self, Self(others): Self) {
        self.0.extend(others);
    }

    /// The newest key of an algorithm.
    pub(crate) fn current(&self, algorithm: SigningAlgorithm) -> anyhow::Result<&SigningKey> {
        self.0
            .iter()
            .find(|key| key.algorithm == algorithm.key())
            .with_context(|| format!("no key for {algorithm:?}"))
    }

    /// The JWKS document.
    pub(crate) fn published(&self) -> Value {
        let keys: Vec<&Jwk> = self.0.iter().map(|key| &key.public).collect();
        json!({ "keys": keys })
    }
}

fn file(directory: &Path, application: &str) -> PathBuf {
    directory.join(format!("{application}.json"))
}

/// A private key and its published form.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SigningKey {
    /// Algorithm of the key.
    algorithm: SigningAlgorithm,
    /// PKCS #8.
    private_pem: String,
    /// SPKI, also used as an HMAC secret by a forgery.
    pub(super) public_pem: String,
    public: Jwk,
}

impl SigningKey {
    pub(super) fn generate(algorithm: SigningAlgorithm) -> anyhow::Result<Self> {
        let (private, public) =
            key_pair(algorithm).context("the key pair could not be generated")?;
        let private_pem = pem("PRIVATE KEY", &private);
        let key = encoding_key(algorithm, &private_pem)?;
        let mut public_jwk = Jwk::from_encoding_key(&key, algorithm.header())?;
        let thumbprint = public_jwk.thumbprint(ThumbprintHash::SHA256)?;
        public_jwk.common.key_id = Some(thumbprint);
        public_jwk.common.key_algorithm = Some(match algorithm.key() {
            SigningAlgorithm::Es256 => KeyAlgorithm::ES256,
            SigningAlgorithm::EdDsa => KeyAlgorithm::EdDSA,
            SigningAlgorithm::Rs256 | SigningAlgorithm::Rs512 => KeyAlgorithm::RS256,
        });
        Ok(Self {
            algorithm: algorithm.key(),
            private_pem,
            public_pem: pem("PUBLIC KEY", &public),
            public: public_jwk,
        })
    }

    pub(crate) fn id(&self) -> Option<String> {
        self.public.common.key_id.clone()
    }

    pub(crate) fn encoding_key(&self) -> anyhow::Result<EncodingKey> {
        encoding_key(self.algorithm, &self.private_pem)
    }
}

impl SigningAlgorithm {
    /// The algorithm that the key is generated for.
    fn key(self) -> Self {
        match self {
            Self::Rs512 => Self::Rs256,
            other => other,
        }
    }

    pub(super) fn header(self) -> Algorithm {
        match self {
            Self::Rs256 => Algorithm::RS256,
            Self::Es256 => Algorithm::ES256,
            Self::EdDsa => Algorithm::EdDSA,
            Self::Rs512 => Algorithm::RS512,
        }
    }
}

fn encoding_key(algorithm: SigningAlgorithm, pem: &str) -> anyhow::Result<EncodingKey> {
    let key = match algorithm.key() {
        SigningAlgorithm::Es256 => EncodingKey::from_ec_pem(pem.as_bytes()),
        SigningAlgorithm::EdDsa => EncodingKey::from_ed_pem(pem.as_bytes()),
        SigningAlgorithm::Rs256 | SigningAlgorithm::Rs512 => {
            EncodingKey::from_rsa_pem(pem.as_bytes())
        }
    };
    Ok(key?)
}

/// Generates a key pair, both halves as DER.
fn key_pair(
    algorithm: SigningAlgorithm,
) -> Result<(Vec<u8>, Vec<u8>), aws_lc_rs::error::Unspecified> {
    let private_and_public = match algorithm.key() {
        SigningAlgorithm::Es256 => {
            let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?;
            let public: PublicKeyX509Der<'_> = pair.public_key().as_der()?;
            (
                pair.to_pkcs8v1()?.as_ref().to_vec(),
                public.as_ref().to_vec(),
            )
        }
        SigningAlgorithm::EdDsa => {
            let pair = Ed25519KeyPair::generate()?;
            let public: PublicKeyX509Der<'_> = pair.public_key().as_der()?;
            (
                pair.to_pkcs8v1()?.as_ref().to_vec(),
                public.as_ref().to_vec(),
            )
        }
        SigningAlgorithm::Rs256 | SigningAlgorithm::Rs512 => {
            let pair = rsa::KeyPair::generate(rsa::KeySize::Rsa2048)?;
            let private: aws_lc_rs::encoding::Pkcs8V1Der<'_> = pair.as_der()?;
            let public: PublicKeyX509Der<'_> = pair.public_key().as_der()?;
            (private.as_ref().to_vec(), public.as_ref().to_vec())
        }
    };
    Ok(private_and_public)
}

fn pem(label: &str, der: &[u8]) -> String {
    // 48 bytes fill a line of 64 characters.
    let lines: Vec<String> = der.chunks(48).map(|line| STANDARD.encode(line)).collect();
    let lines = lines.join("\n");
    format!("-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n")
}
