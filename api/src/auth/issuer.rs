//! The keys of one issuer: asked for when first needed, again when a token names one that is not known, and kept
//! while the issuer is away. Only for a key that is not known does anybody wait; the others are refreshed meanwhile.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use dezky_shared::platform::{
    backoff::ReconnectBackoff,
    tls::{CONNECT_TIMEOUT, TrustRoots},
};
use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey,
    jwk::{Jwk, JwkSet, PublicKeyUse},
};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::sync::{Mutex, RwLock};

use crate::{
    config::IssuerConfig,
    error::{ApiError, ProblemCode},
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
    looks: Arc<Mutex<RefreshThrottle>>,
}

#[derive(Debug)]
struct Keys {
    by_id: HashMap<String, Key>,
    stale_at: Instant,
}

#[derive(Debug, Clone)]
struct Key {
    key: DecodingKey,
    algorithm: Option<String>,
}

/// A key, and whether it was withdrawn for all we know.
struct CachedKey {
    key: Key,
    is_stale: bool,
}

/// When the issuer may be asked again.
#[derive(Debug, Default)]
struct RefreshThrottle {
    not_before: Option<Instant>,
    pace: ReconnectBackoff,
    failed: bool,
}

impl RefreshThrottle {
    fn are_due(&self) -> bool {
        self.not_before
            .is_none_or(|not_before| not_before <= Instant::now())
    }
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
            looks: Arc::default(),
        })
    }

    /// The key of this id, if the issuer publishes it for this algorithm.
    pub(super) async fn key(
        self: &Arc<Self>,
        kid: &str,
        algorithm: Algorithm,
    ) -> Result<Option<DecodingKey>, ApiError> {
        let key = if let Some(known) = self.known(kid).await {
            if known.is_stale {
                self.refresh();
            }
            Some(known.key)
        } else {
            let failed = self.refresh_if_due(kid).await;
            let found = self.known(kid).await;
            if found.is_none() && failed {
                // It may well be a good token: a 401 would end its bearer's session.
                return Err(ProblemCode::IdentityUnavailable.into());
            }
            found.map(|known| known.key)
        };
        Ok(key.filter(|key| key.allows(algorithm)).map(|key| key.key))
    }

    async fn known(&self, kid: &str) -> Option<CachedKey> {
        let keys = self.keys.read().await;
        let keys = keys.as_ref()?;
        Some(CachedKey {
            key: keys.by_id.get(kid)?.clone(),
            is_stale: keys.stale_at <= Instant::now(),
        })
    }

    /// Asks for the keys while nobody waits, if it is time and nobody asks already.
    fn refresh(self: &Arc<Self>) {
        if let Ok(mut looks) = self.looks.clone().try_lock_owned()
            && looks.are_due()
        {
            let issuer = self.clone();
            tokio::spawn(async move { issuer.fetch_keys(&mut looks).await });
        }
    }

    /// Asks for the keys, if it is time and nobody else has found this one. Whether the last try failed.
    async fn refresh_if_due(&self, kid: &str) -> bool {
        let mut looks = self.looks.lock().await;
        if looks.are_due() && self.known(kid).await.is_none() {
            self.fetch_keys(&mut looks).await;
        }
        looks.failed
    }

    async fn fetch_keys(&self, looks: &mut RefreshThrottle) {
        match self.fetch().await {
            Ok(by_id) => {
                let fetched = Keys {
                    by_id,
                    stale_at: Instant::now() + FRESH_FOR,
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
                looks.not_before = Some(Instant::now() + looks.pace.next_delay());
                looks.failed = true;
            }
        }
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
mod tests {
    use futures::FutureExt as _;
    use tokio::{net::TcpListener, time::timeout};

    use super::*;

    #[tokio::test]
    async fn a_key_that_is_known_is_used_at_once_while_the_issuer_hangs() {
        let hung = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = IssuerConfig {
            name: "https://auth.dezky.test/portal/".to_owned(),
            jwks_url: Some(format!("http://{}/", hung.local_addr().unwrap())),
        };
        let issuer = Arc::new(Issuer::new(&config, &TrustRoots::default()).unwrap());
        let key = Key {
            key: DecodingKey::from_ed_components("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
                .unwrap(),
            algorithm: None,
        };
        let known = Keys {
            by_id: [("known".to_owned(), key)].into(),
            stale_at: Instant::now(),
        };
        *issuer.keys.write().await = Some(known);

        let first = issuer.key("known", Algorithm::EdDSA).now_or_never();
        let asked = timeout(ANSWER_TIMEOUT, hung.accept()).await;
        let second = issuer.key("known", Algorithm::EdDSA).now_or_never();

        for answer in [first, second] {
            assert!(matches!(answer, Some(Ok(Some(_)))), "it was waited for");
        }
        assert!(asked.is_ok(), "newer keys were not asked for");
        assert!(issuer.looks.try_lock().is_err(), "somebody still asks");
    }
}
