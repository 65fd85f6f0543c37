//! The feature flags as this process knows them: from memory, and never more than a few seconds behind.
//!
//! Every two seconds it looks whether any flag was written since; the process that wrote looks at once. While MongoDB is
//! away, what was known last goes on.

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

/// How often it is looked whether a flag was written.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long a look may take that nobody depends on.
const LOOK_LIMIT: Duration = Duration::from_secs(1);

/// The flags, kept up to date.
#[derive(Debug, Clone)]
pub struct FlagCache {
    stored: FlagRepository,
    known: Arc<RwLock<Option<Cached>>>,
    /// Held by the one who looks: who looks later never knows less.
    looking: Arc<Mutex<()>>,
}

#[derive(Debug, Clone)]
struct Cached {
    revision: i64,
    flags: Arc<FlagSet>,
}

impl FlagCache {
    /// Begins to follow what is stored, until `shutdown`.
    pub fn start(stored: FlagRepository, shutdown: &CancellationToken) -> Self {
        let flags = Self {
            stored,
            known: Arc::default(),
            looking: Arc::default(),
        };
        let follow = flags.clone().refresh_loop();
        tokio::spawn(shutdown.clone().run_until_cancelled_owned(follow));
        flags
    }

    /// The flags as they are known.
    pub async fn current(&self) -> Result<Arc<FlagSet>, StoreError> {
        match self.known() {
            Some(known) => Ok(known.flags),
            None => self.look().await,
        }
    }

    /// Looks at once, and gives up soon: what was written is found by a later look.
    pub async fn refresh(&self) {
        match timeout(LOOK_LIMIT, self.look()).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "Cannot look at the feature flags; trying again");
            }
            Err(_) => tracing::warn!("Looking at the feature flags takes too long; trying again"),
        }
    }

    /// Looks whether any flag was written since the last look.
    async fn look(&self) -> Result<Arc<FlagSet>, StoreError> {
        let _looking = self.looking.lock().await;
        // Before the flags: what is written in between is found by the next look.
        let revision = self.stored.revision().await?;
        if let Some(known) = self.known().filter(|known| known.revision == revision) {
            return Ok(known.flags);
        }
        let flags = Arc::new(FlagSet::new(self.stored.all().await?));
        let known = Cached {
            revision,
            flags: flags.clone(),
        };
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Some(known);
        Ok(flags)
    }

    fn known(&self) -> Option<Cached> {
        let known = self.known.read();
        known.unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn refresh_loop(self) {
        loop {
            sleep(LOOK_EVERY).await;
            self.refresh().await;
        }
    }
}
