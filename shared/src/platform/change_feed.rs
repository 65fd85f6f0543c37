//! Telling whoever waits that a document changed, over Redis pub/sub.
//!
//! It is a hint and may be lost. Who waits subscribes, then looks, then waits, and looks once a second all the same.

use futures::{Stream, StreamExt as _};
use redis::{Client, RedisError, aio::ConnectionManager};

use crate::{
    id::{JobId, PartnerId, TenantId, UserId},
    platform::redis::{RedisConfig, shared_connection},
};

/// A document that changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DocumentChange {
    /// A tenant.
    Tenant(TenantId),
    /// A job.
    Job(JobId),
    /// A user, and with it perhaps what they may see.
    User(UserId),
    /// A partner, and with it perhaps what its staff may see.
    Partner(PartnerId),
}

impl DocumentChange {
    fn message(self) -> String {
        match self {
            Self::Tenant(id) => format!("tenant:{id}"),
            Self::Job(id) => format!("job:{id}"),
            Self::User(id) => format!("user:{id}"),
            Self::Partner(id) => format!("partner:{id}"),
        }
    }

    fn parse(message: &str) -> Option<Self> {
        let (kind, id) = message.split_once(':')?;
        match kind {
            "tenant" => id.parse().ok().map(Self::Tenant),
            "job" => id.parse().ok().map(Self::Job),
            "user" => id.parse().ok().map(Self::User),
            "partner" => id.parse().ok().map(Self::Partner),
            _ => None,
        }
    }
}

/// The channel on which changes are told.
#[derive(Clone)]
pub struct ChangeFeed {
    client: Client,
    connection: ConnectionManager,
    channel: String,
}

impl std::fmt::Debug for ChangeFeed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Changes")
            .field("channel", &self.channel)
            .finish_non_exhaustive()
    }
}

impl ChangeFeed {
    /// The channel below the configured prefix. Connects only when first used.
    pub fn new(config: &RedisConfig) -> anyhow::Result<Self> {
        let client = config.client()?;
        Ok(Self {
            connection: shared_connection(client.clone())?,
            client,
            channel: format!("{}:changes", config.prefix),
        })
    }

    /// Tells that these documents changed.
    pub async fn publish(&self, changes: &[DocumentChange]) {
        let mut publish = redis::pipe();
        for change in changes {
            publish.publish(&self.channel, change.message()).ignore();
        }
        if !changes.is_empty()
            && let Err(error) = publish
                .query_async::<()>(&mut self.connection.clone())
                .await
        {
            tracing::debug!(
                error = error.category(),
                "Redis did not take a change; who waits will look"
            );
        }
    }

    /// The changes told from now on, until the connection ends.
    pub async fn subscribe(
        &self,
    ) -> Result<impl Stream<Item = DocumentChange> + Send + use<>, RedisError> {
        let mut subscription = self.client.get_async_pubsub().await?;
        subscription.subscribe(&self.channel).await?;
        Ok(subscription.into_on_message().filter_map(async |message| {
            DocumentChange::parse(&message.get_payload::<String>().ok()?)
        }))
    }
}
