//! Signing keys of an issuer (JWKS), cached. Fetched on first use, for an unknown key id, and in the background once
//! stale. Cached keys stay in use while the issuer is unavailable. Only requests with an unknown key id wait for a fetch.

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

/// Timeout of a request to the issuer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Minimum time between two fetches for unknown keys.
const REFRESH_INTERVAL: Duration = Duration::from_secs(30);
/// Time after which cached keys are stale. Bounds how long a withdrawn key is accepted.
const FRESH_FOR: Duration = Duration::from_mins(15);

/// An issuer with its keys.
#[derive(Debug)]
pub(super) struct Issuer {
    pub(super) name: String,
    jwks_url: Option<String>,
    http: reqwest::Client,
    keys: RwLock<Option<Keys>>,
    /// Held during a fetch (single flight).
    throttle: Arc<Mutex<RefreshThrottle>>,
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

/// A cached key, and whether it is due for a refresh.
struct CachedKey {
    key: Key,
    is_stale: bool,
}

/// Limits how often keys are fetched.
#[derive(Debug, Default)]
struct RefreshThrottle {
    not_before: Option<Instant>,
    backoff: ReconnectBackoff,
    failed: bool,
}

impl RefreshThrottle {
    fn is_due(&self) -> bool {
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
                .timeout(REQUEST_TIMEOUT)
                .build()?,
            keys: RwLock::default(),
            throttle: Arc::default(),
        })
    }

    /// The key with this id, if the issuer publishes it for this algorithm.
    pub(super) async fn key(
        self: &Arc<Self>,
        kid: &str,
        algorithm: Algorithm,
    ) -> Result<Option<DecodingKey>, ApiError> {
        let key = if let Some(cached) = self.cached(kid).await {
            if cached.is_stale {
                self.refresh();
            }
            Some(cached.key)
        } else {
            let failed = self.refresh_if_due(kid).await;
            let found = self.cached(kid).await;
            if found.is_none() && failed {
                // The token may be valid; a 401 would end the session of the user.
                return Err(ProblemCode::IdentityUnavailable.into());
            }
            found.map(|cached| cached.key)
        };
        Ok(key.filter(|key| key.allows(algorithm)).map(|key| key.key))
    }

    async fn cached(&self, kid: &str) -> Option<CachedKey> {
        let keys = self.keys.read().await;
        let keys = keys.as_ref()?;
        Some(CachedKey {
            key: keys.by_id.get(kid)?.clone(),
            is_stale: keys.stale_at <= Instant::now(),
        })
    }

    /// Starts a background fetch if one is due and none is running.
    fn refresh(self: &Arc<Self>) {
        if let Ok(mut throttle) = self.throttle.clone().try_lock_owned()
            && throttle.is_due()
        {
            let issuer = self.clone();
            tokio::spawn(async move { issuer.fetch_keys(&mut throttle).await });
        }
    }

    /// Fetches the keys if a fetch is due and a concurrent one has not found this key. Returns whether the last fetch failed.
    async fn refresh_if_due(&self, kid: &str) -> bool {
        let mut throttle = self.throttle.lock().await;
        if throttle.is_due() && self.cached(kid).await.is_none() {
            self.fetch_keys(&mut throttle).await;
        }
        throttle.failed
    }

    async fn fetch_keys(&self, throttle: &mut RefreshThrottle) {
        match self.fetch().await {
            Ok(by_id) => {
                let fetched = Keys {
                    by_id,
                    stale_at: Instant::now() + FRESH_FOR,
                };
                let before = self.keys.write().await.replace(fetched);
                // The first fetch does not count as one for an unknown key.
                throttle.not_before = before.map(|_| Instant::now() + REFRESH_INTERVAL);
                throttle.backoff.reset();
                throttle.failed = false;
            }
            Err(error) => {
                let cause = format!("{error:#}");
                tracing::warn!(
                    issuer = self.name,
                    cause,
                    "Cannot fetch the signing keys of an issuer"
                );
                throttle.not_before = Some(Instant::now() + throttle.backoff.next_delay());
                throttle.failed = true;
            }
        }
    }

    async fn fetch(&self) -> anyhow::Result<HashMap<String, Key>> {
        // A key of an unsupported type must not hide the others.
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

    /// The `jwks_uri` of the discovery document (`OpenID` Connect Discovery 1.0, section 4).
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
mod tests {
    use futures::FutureExt as _;
    use tokio::{net::TcpListener, time::timeout};

    use super::*;

    #[tokio::test]
    async fn a_cached_key_is_returned_without_waiting_for_a_hanging_issuer() {
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
        let cached = Keys {
            by_id: [("known".to_owned(), key)].into(),
            stale_at: Instant::now(),
        };
        *issuer.keys.write().await = Some(cached);

        let first = issuer.key("known", Algorithm::EdDSA).now_or_never();
        let fetched = timeout(REQUEST_TIMEOUT, hung.accept()).await;
        let second = issuer.key("known", Algorithm::EdDSA).now_or_never();

        for key in [first, second] {
            assert!(matches!(key, Some(Ok(Some(_)))), "waited for the issuer");
        }
        assert!(fetched.is_ok(), "no fetch was started");
        assert!(issuer.throttle.try_lock().is_err(), "no fetch is running");
    }
}
