//! The keys of one issuer: asked for when first needed, again when a token names one that is not known, and kept
//! while the issuer is away.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use dezky_shared::{
    clients::{CONNECT_TIMEOUT, TrustRoots},
    reconnect::Pace,
};
use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey,
    jwk::{Jwk, JwkSet, PublicKeyUse},
};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::sync::{Mutex, RwLock};

use crate::{
    config::IssuerConfig,
    error::{ApiError, Code},
};

/// How long the issuer may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long after one look for unknown keys there is no other.
const BETWEEN_LOOKS: Duration = Duration::from_secs(30);
/// How long keys are believed without looking again: one that was withdrawn must not stay good for ever.
const FRESH_FOR: Duration = Duration::from_mins(15);

/// An issuer and its keys.
#[derive(Debug)]
pub(super) struct Issuer {
    pub(super) name: String,
    jwks_url: Option<String>,
    http: reqwest::Client,
    keys: RwLock<Option<Keys>>,
    /// Whoever has this asks; the others wait for what was found.
    looks: Mutex<Looks>,
}

#[derive(Debug)]
struct Keys {
    by_id: HashMap<String, Key>,
    fetched_at: Instant,
}

#[derive(Debug, Clone)]
struct Key {
    key: DecodingKey,
    algorithm: Option<String>,
}

/// When the issuer may be asked again.
#[derive(Debug, Default)]
struct Looks {
    not_before: Option<Instant>,
    pace: Pace,
    failed: bool,
}

impl Issuer {
    pub(super) fn new(config: &IssuerConfig, trust_roots: &TrustRoots) -> anyhow::Result<Self> {
        Ok(Self {
            name: config.name.clone(),
            jwks_url: config.jwks_url.clone(),
            http: trust_roots
                .client_builder()
                .connect_timeout(CONNECT_TIMEOUT)
                .timeout(ANSWER_TIMEOUT)
                .build()?,
            keys: RwLock::default(),
            looks: Mutex::default(),
        })
    }

    /// The key of this id, if the issuer publishes it for this algorithm.
    pub(super) async fn key(
        &self,
        kid: &str,
        algorithm: Algorithm,
    ) -> Result<Option<DecodingKey>, ApiError> {
        let (known, asked_for) = self.known(kid).await;
        let key = match known {
            Some(key) if !asked_for => Some(key),
            known => {
                let failed = self.look(kid).await;
                let key = self.known(kid).await.0.or(known);
                if key.is_none() && failed {
                    // It may well be a good token: a 401 would end its bearer's session.
                    return Err(Code::IdentityUnavailable.into());
                }
                key
            }
        };
        Ok(key.filter(|key| key.suits(algorithm)).map(|key| key.key))
    }

    /// The key as far as known, and whether the issuer should be asked.
    async fn known(&self, kid: &str) -> (Option<Key>, bool) {
        let keys = self.keys.read().await;
        let Some(keys) = keys.as_ref() else {
            return (None, true);
        };
        let key = keys.by_id.get(kid).cloned();
        let ask = key.is_none() || keys.fetched_at.elapsed() > FRESH_FOR;
        (key, ask)
    }

    /// Asks the issuer for its keys, if it is time. Whether the last try failed.
    async fn look(&self, kid: &str) -> bool {
        let mut looks = self.looks.lock().await;
        let (_, ask) = self.known(kid).await;
        let too_soon = looks
            .not_before
            .is_some_and(|not_before| Instant::now() < not_before);
        if !ask || too_soon {
            return looks.failed;
        }
        match self.fetch().await {
            Ok(by_id) => {
                let fetched = Keys {
                    by_id,
                    fetched_at: Instant::now(),
                };
                let before = self.keys.write().await.replace(fetched);
                // The first look is not one for an unknown key.
                looks.not_before = before.map(|_| Instant::now() + BETWEEN_LOOKS);
                looks.pace.reset();
                looks.failed = false;
            }
            Err(error) => {
                let cause = format!("{error:#}");
                tracing::warn!(issuer = self.name, cause, "An issuer's keys cannot be read");
                looks.not_before = Some(Instant::now() + looks.pace.delay());
                looks.failed = true;
            }
        }
        looks.failed
    }

    async fn fetch(&self) -> anyhow::Result<HashMap<String, Key>> {
        // One key of a kind that we do not know must not hide the others.
        #[derive(Deserialize)]
        struct Published {
            keys: Vec<serde_json::Value>,
        }
        let jwks_url = match &self.jwks_url {
            Some(url) => url.clone(),
            None => self.discover().await?,
        };
        let published: Published = self.read(&jwks_url).await?;
        let keys = published
            .keys
            .into_iter()
            .filter_map(|key| serde_json::from_value(key).ok())
            .collect();
        Ok(usable(&JwkSet { keys }))
    }

    /// Where the issuer says that its keys are (`OpenID` Connect Discovery 1.0, section 4).
    async fn discover(&self) -> anyhow::Result<String> {
        #[derive(Deserialize)]
        struct Discovery {
            issuer: String,
            jwks_uri: String,
        }
        let base = self.name.trim_end_matches('/');
        let discovery: Discovery = self
            .read(&format!("{base}/.well-known/openid-configuration"))
            .await?;
        ensure!(
            discovery.issuer == self.name,
            "the discovery document is of issuer {:?}",
            discovery.issuer
        );
        Ok(discovery.jwks_uri)
    }

    async fn read<T: DeserializeOwned>(&self, url: &str) -> anyhow::Result<T> {
        let response = self.http.get(url).send().await?.error_for_status()?;
        response
            .json()
            .await
            .with_context(|| format!("{url} cannot be read"))
    }
}

/// The keys that are for signatures and have a name.
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
    /// Whether signatures of this algorithm may be verified with the key. A secret never may.
    fn suits(&self, algorithm: Algorithm) -> bool {
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
