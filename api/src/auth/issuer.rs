//! An issuer of tokens and its signing keys (JWKS), cached.
//!
//! Keys are fetched on first use, at once for an unknown key id (limited by a token bucket), in the background when they
//! are stale, and for the request that finds them expired. A fetch continues when its request is cancelled. Cached keys
//! stay in use while the issuer is unavailable.

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
use tokio::sync::{Mutex, OwnedMutexGuard, RwLock};

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
        let token = self.unknown_keys.take(UNKNOWN_KEYS, clock::boot_time());
        token.granted > 0
    }
}

/// Cache entry of a key id.
enum Cached {
    Missing,
    Fresh,
    Stale,
    Expired,
}

/// HTTP client for requests to issuers.
pub(crate) fn http_client(trust_roots: &TrustRoots) -> anyhow::Result<reqwest::Client> {
    Ok(trust_roots
        .client_builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(REQUEST_TIMEOUT)
        .build()?)
}

impl Issuer {
    pub(super) fn new(config: &IssuerConfig, trust_roots: &TrustRoots) -> anyhow::Result<Self> {
        Ok(Self {
            name: config.name.clone(),
            audiences: config.audiences.clone(),
            subjects: Subjects::default(),
            jwks_url: config.jwks_url.clone(),
            http: http_client(trust_roots)?,
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
            Cached::Missing => self.refresh_for(kid).await?,
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
        let Ok(throttle) = self.throttle.clone().try_lock_owned() else {
            drop(self.throttle.lock().await);
            return;
        };
        if throttle.failed {
            drop(throttle);
            self.refresh();
        } else {
            self.fetch_detached(throttle).await;
        }
    }

    /// Fetches the keys for an unknown key id, unless a concurrent fetch has found it.
    ///
    /// 503 unless the key is known not to be published, because the keys were requested after the token came: the token may be valid, and a 401 would end the session of the user.
    async fn refresh_for(self: &Arc<Self>, kid: &str) -> Result<(), ApiError> {
        let came_at = Instant::now();
        let mut throttle = self.throttle.clone().lock_owned().await;
        if self.is_decided(kid, came_at).await {
            return Ok(());
        }
        let is_first = self.keys.read().await.is_none();
        if !throttle.is_in_backoff() && (is_first || throttle.allows_unknown_key()) {
            self.fetch_detached(throttle).await;
        }
        if self.is_decided(kid, came_at).await {
            Ok(())
        } else {
            Err(ProblemCode::IdentityUnavailable.into())
        }
    }

    /// Whether the keys contain this one, or were requested after this time.
    async fn is_decided(&self, kid: &str, since: Instant) -> bool {
        let keys = self.keys.read().await;
        let keys = keys.as_ref();
        keys.is_some_and(|keys| keys.contains(kid) || keys.were_requested_after(since))
    }

    /// Fetches the keys, also if the request that waits for them is cancelled: its client may have disconnected, and
    /// others wait.
    async fn fetch_detached(self: &Arc<Self>, mut throttle: OwnedMutexGuard<RefreshThrottle>) {
        let issuer = self.clone();
        let fetch = tokio::spawn(async move { issuer.fetch_keys(&mut throttle).await });
        if let Err(error) = fetch.await {
            tracing::error!(%error, "The fetch of an issuer's signing keys failed");
        }
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
        let requested_at = Instant::now();
        let jwks_url = match &self.jwks_url {
            Some(url) => url.clone(),
            None => self.discover().await?,
        };
        SigningKeys::read(self.read(&jwks_url).await?, requested_at)
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
        let response = self.http.get(url).send().await?;
        read_document(response)
            .await
            .with_context(|| format!("{url} cannot be read"))
    }
}

/// Reads a JSON document of an issuer, up to a limit.
pub(crate) async fn read_document<T: DeserializeOwned>(
    response: reqwest::Response,
) -> anyhow::Result<T> {
    let response = response.error_for_status()?;
    let body = Limited::new(reqwest::Body::from(response), DOCUMENT_LIMIT);
    let body = body.collect().await.map_err(anyhow::Error::from_boxed)?;
    Ok(serde_json::from_slice(&body.to_bytes())?)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
        time::timeout,
    };

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

    /// A key set with the key `next` alone.
    const NEXT: &str = r#"{"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "next", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

    /// Responds to one request with this key set, as far as the client reads it.
    async fn publish(listener: &TcpListener, key_set: &str) {
        let accepted = timeout(REQUEST_TIMEOUT, listener.accept()).await;
        let (mut stream, _) = accepted.unwrap().unwrap();
        assert!(stream.read(&mut [0; 4_096]).await.unwrap() > 0);
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n",
            key_set.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let _ = stream.write_all(key_set.as_bytes()).await;
    }

    #[tokio::test]
    async fn a_withdrawn_key_is_accepted_no_longer_than_15_minutes() {
        let (issuer, listener) = hanging(Duration::from_mins(15)).await;

        let ((), key) = tokio::join!(
            publish(&listener, NEXT),
            issuer.key("known", Algorithm::EdDSA)
        );

        assert!(matches!(key, Ok(None)));
    }

    #[tokio::test]
    async fn a_key_set_that_is_too_large_is_not_read() {
        let (issuer, listener) = hanging(Duration::ZERO).await;
        let at_limit = format!("{NEXT}{}", " ".repeat(DOCUMENT_LIMIT - NEXT.len()));
        let above = format!("{at_limit} ");

        let ((), of_too_large) = tokio::join!(
            publish(&listener, &above),
            issuer.key("next", Algorithm::EdDSA)
        );
        issuer.throttle.lock().await.retry_at = None;
        let ((), of_largest) = tokio::join!(
            publish(&listener, &at_limit),
            issuer.key("next", Algorithm::EdDSA)
        );

        let code = of_too_large.map(drop).unwrap_err().code;
        assert_eq!(code, ProblemCode::IdentityUnavailable);
        assert!(matches!(of_largest, Ok(Some(_))));
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
    async fn an_unknown_key_is_unavailable_while_fetches_for_unknown_keys_are_exhausted() {
        let (issuer, _hung) = hanging(Duration::ZERO).await;
        let mut throttle = issuer.throttle.lock().await;
        while throttle.allows_unknown_key() {}
        drop(throttle);

        let unknown = issuer.key("unknown", Algorithm::EdDSA).await;
        let known = issuer.key("known", Algorithm::EdDSA).await;

        let code = unknown.map(drop).unwrap_err().code;
        assert_eq!(code, ProblemCode::IdentityUnavailable);
        assert!(matches!(known, Ok(Some(_))));
    }

    #[tokio::test]
    async fn a_fetch_continues_when_its_request_is_cancelled() {
        let (issuer, hung) = hanging(Duration::ZERO).await;

        let request = tokio::spawn({
            let issuer = issuer.clone();
            async move { issuer.key("unknown", Algorithm::EdDSA).await.is_ok() }
        });
        let fetch = timeout(REQUEST_TIMEOUT, hung.accept()).await.unwrap();
        request.abort();
        assert!(request.await.unwrap_err().is_cancelled());

        assert!(
            issuer.throttle.try_lock().is_err(),
            "the fetch was cancelled"
        );
        drop(fetch);
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
