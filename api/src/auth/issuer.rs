//! An issuer of tokens and its signing keys (JWKS), cached.
//!
//! Keys are fetched on first use, at once for an unknown key id (limited by a token bucket), in the background when they
//! are stale, and by the request that finds them expired. Cached keys stay in use while the issuer is unavailable.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use dezky_shared::platform::{
    backoff::ReconnectBackoff,
    clock,
    tls::{CONNECT_TIMEOUT, TrustRoots},
};
use http_body_util::{BodyExt as _, Limited};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::sync::{Mutex, RwLock};

use super::{signing_keys::SigningKeys, subject::Subjects};
use crate::{
    config::{IssuerConfig, Limit},
    error::{ApiError, ProblemCode},
    rate_limits::Bucket,
};

/// Timeout of a request to the issuer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum size of a document of the issuer, in bytes. A key set with certificates has some ten thousand.
const DOCUMENT_LIMIT: usize = 512 * 1024;
/// Fetches for unknown key ids, which any client can send.
const UNKNOWN_KEYS: Limit = Limit {
    per_second: 0.1,
    burst: 5,
};

/// An issuer with its keys.
#[derive(Debug)]
pub(super) struct Issuer {
    pub(super) name: String,
    /// Audiences that it may issue tokens for.
    pub(super) audiences: Vec<String>,
    pub(super) subjects: Subjects,
    jwks_url: Option<String>,
    http: reqwest::Client,
    keys: RwLock<Option<SigningKeys>>,
    /// Held during a fetch (single flight).
    throttle: Arc<Mutex<RefreshThrottle>>,
}

/// Limits how often keys are fetched.
#[derive(Debug, Default)]
struct RefreshThrottle {
    unknown_keys: Bucket,
    /// End of the backoff after a failed fetch.
    retry_at: Option<Instant>,
    backoff: ReconnectBackoff,
    failed: bool,
}

impl RefreshThrottle {
    fn is_in_backoff(&self) -> bool {
        self.retry_at.is_some_and(|at| at > Instant::now())
    }

    fn allows_unknown_key(&mut self) -> bool {
        let token = self.unknown_keys.lease(UNKNOWN_KEYS, clock::boot_time());
        token.granted > 0
    }
}

/// What the cache knows about a key id.
enum Cached {
    Missing,
    Fresh,
    Stale,
    Expired,
}

impl Issuer {
    pub(super) fn new(config: &IssuerConfig, trust_roots: &TrustRoots) -> anyhow::Result<Self> {
        Ok(Self {
            name: config.name.clone(),
            audiences: config.audiences.clone(),
            subjects: Subjects::default(),
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
        match self.cached(kid).await {
            Cached::Fresh => {}
            Cached::Stale => self.refresh(),
            Cached::Expired => self.refresh_expired().await,
            Cached::Missing => {
                let failed = self.refresh_for(kid).await;
                if failed && matches!(self.cached(kid).await, Cached::Missing) {
                    // The token may be valid; a 401 would end the session of the user.
                    return Err(ProblemCode::IdentityUnavailable.into());
                }
            }
        }
        let keys = self.keys.read().await;
        Ok(keys.as_ref().and_then(|keys| keys.find(kid, algorithm)))
    }

    async fn cached(&self, kid: &str) -> Cached {
        match self.keys.read().await.as_ref() {
            Some(keys) if !keys.contains(kid) => Cached::Missing,
            Some(keys) if keys.is_expired() => Cached::Expired,
            Some(keys) if keys.is_stale() => Cached::Stale,
            Some(_) => Cached::Fresh,
            None => Cached::Missing,
        }
    }

    /// Starts a background fetch, unless one is running or has just failed.
    fn refresh(self: &Arc<Self>) {
        if let Ok(mut throttle) = self.throttle.clone().try_lock_owned()
            && !throttle.is_in_backoff()
        {
            let issuer = self.clone();
            tokio::spawn(async move { issuer.fetch_keys(&mut throttle).await });
        }
    }

    /// Fetches expired keys, or waits for the fetch that is running. After a failure, the issuer is unavailable:
    /// requests no longer wait for it.
    async fn refresh_expired(self: &Arc<Self>) {
        let Ok(mut throttle) = self.throttle.try_lock() else {
            drop(self.throttle.lock().await);
            return;
        };
        if throttle.failed {
            drop(throttle);
            self.refresh();
        } else {
            self.fetch_keys(&mut throttle).await;
        }
    }

    /// Fetches the keys for an unknown key id, unless a concurrent fetch has found it. Returns whether the last fetch
    /// failed.
    async fn refresh_for(&self, kid: &str) -> bool {
        let mut throttle = self.throttle.lock().await;
        let is_missing = matches!(self.cached(kid).await, Cached::Missing);
        if is_missing && !throttle.is_in_backoff() {
            let is_first = self.keys.read().await.is_none();
            if is_first || throttle.allows_unknown_key() {
                self.fetch_keys(&mut throttle).await;
            }
        }
        throttle.failed
    }

    async fn fetch_keys(&self, throttle: &mut RefreshThrottle) {
        match self.fetch().await {
            Ok(keys) => {
                *self.keys.write().await = Some(keys);
                throttle.retry_at = None;
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
                throttle.retry_at = Some(Instant::now() + throttle.backoff.next_delay());
                throttle.failed = true;
            }
        }
    }

    async fn fetch(&self) -> anyhow::Result<SigningKeys> {
        let jwks_url = match &self.jwks_url {
            Some(url) => url.clone(),
            None => self.discover().await?,
        };
        SigningKeys::read(self.read(&jwks_url).await?)
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
        let body = Limited::new(reqwest::Body::from(response), DOCUMENT_LIMIT);
        let body = body.collect().await.map_err(anyhow::Error::from_boxed);
        let bytes = body
            .with_context(|| format!("{url} cannot be read"))?
            .to_bytes();
        serde_json::from_slice(&bytes).with_context(|| format!("{url} cannot be read"))
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use tokio::{net::TcpListener, time::timeout};

    use super::*;

    /// An issuer that accepts connections and never responds, with one key fetched `age` ago.
    async fn hanging(age: Duration) -> (Arc<Issuer>, TcpListener) {
        let hung = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = IssuerConfig {
            name: "https://auth.dezky.test/portal/".to_owned(),
            jwks_url: Some(format!("http://{}/", hung.local_addr().unwrap())),
            audiences: vec!["dezky-portal".to_owned()],
        };
        let issuer = Arc::new(Issuer::new(&config, &TrustRoots::default()).unwrap());
        let key = DecodingKey::from_ed_components("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
        let keys = SigningKeys::one("known", key.unwrap(), age);
        *issuer.keys.write().await = Some(keys);
        (issuer, hung)
    }

    #[tokio::test]
    async fn a_stale_key_is_returned_without_waiting_for_a_hanging_issuer() {
        let (issuer, hung) = hanging(Duration::from_mins(12)).await;

        let first = issuer.key("known", Algorithm::EdDSA).now_or_never();
        let fetched = timeout(REQUEST_TIMEOUT, hung.accept()).await;
        let second = issuer.key("known", Algorithm::EdDSA).now_or_never();

        for key in [first, second] {
            assert!(matches!(key, Some(Ok(Some(_)))), "waited for the issuer");
        }
        assert!(fetched.is_ok(), "no fetch was started");
        assert!(issuer.throttle.try_lock().is_err(), "no fetch is running");
    }

    #[tokio::test]
    async fn an_expired_key_is_used_only_after_an_attempt_to_fetch_the_keys() {
        let (issuer, hung) = hanging(Duration::from_mins(15)).await;

        let waiting = tokio::spawn({
            let issuer = issuer.clone();
            async move { issuer.key("known", Algorithm::EdDSA).await }
        });
        // Refuses the fetch: the issuer is unavailable.
        drop(timeout(REQUEST_TIMEOUT, hung.accept()).await.unwrap());
        let first = waiting.await.unwrap();
        let second = issuer.key("known", Algorithm::EdDSA).now_or_never();

        assert!(matches!(first, Ok(Some(_))));
        assert!(matches!(second, Some(Ok(Some(_)))), "waited for the issuer");
    }
}
