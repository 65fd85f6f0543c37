//! Cache of the feature flags, at most a few seconds stale.
//!
//! Polls the revision of the flags every two seconds. The process that writes a flag refreshes at once. While MongoDB is
//! unavailable, the last known flags stay in use.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use dezky_shared::{
    feature_flag::FlagSet,
    store::{StoreError, flags::FlagRepository},
};
use tokio::{
    sync::Mutex,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// Poll interval.
const REFRESH_INTERVAL: Duration = Duration::from_secs(2);
/// Timeout of a refresh.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(1);

/// Cache of all feature flags.
#[derive(Debug, Clone)]
pub struct FlagCache {
    repository: FlagRepository,
    cached: Arc<RwLock<Option<Cached>>>,
    /// Held during a load, so that a later load never stores an older set.
    load_lock: Arc<Mutex<()>>,
}

#[derive(Debug, Clone)]
struct Cached {
    revision: i64,
    flags: Arc<FlagSet>,
}

impl FlagCache {
    /// Starts the cache. It is refreshed until `shutdown`.
    pub fn start(repository: FlagRepository, shutdown: &CancellationToken) -> Self {
        let flags = Self {
            repository,
            cached: Arc::default(),
            load_lock: Arc::default(),
        };
        let refresh = flags.clone().refresh_loop();
        tokio::spawn(shutdown.clone().run_until_cancelled_owned(refresh));
        flags
    }

    /// The cached flags. Loads them on first use.
    pub async fn current(&self) -> Result<Arc<FlagSet>, StoreError> {
        match self.cached() {
            Some(cached) => Ok(cached.flags),
            None => self.load().await,
        }
    }

    /// Refreshes now. On an error or timeout, the next poll tries again.
    pub async fn refresh(&self) {
        match timeout(REFRESH_TIMEOUT, self.load()).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "Cannot load the feature flags; trying again");
            }
            Err(_) => tracing::warn!("Timeout while loading the feature flags; trying again"),
        }
    }

    /// Loads the flags if their revision changed.
    async fn load(&self) -> Result<Arc<FlagSet>, StoreError> {
        let _guard = self.load_lock.lock().await;
        // The revision first: a write between the two reads is found by the next load.
        let revision = self.repository.revision().await?;
        if let Some(cached) = self.cached().filter(|cached| cached.revision == revision) {
            return Ok(cached.flags);
        }
        let flags = Arc::new(FlagSet::new(self.repository.all().await?));
        let cached = Cached {
            revision,
            flags: flags.clone(),
        };
        *self.cached.write().unwrap_or_else(PoisonError::into_inner) = Some(cached);
        Ok(flags)
    }

    fn cached(&self) -> Option<Cached> {
        let cached = self.cached.read();
        cached.unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn refresh_loop(self) {
        loop {
            sleep(REFRESH_INTERVAL).await;
            self.refresh().await;
        }
    }
}
