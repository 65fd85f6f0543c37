//! Change feed: notifies long-polling clients of changed documents, over Redis pub/sub.
//!
//! Delivery is best effort. A subscriber subscribes first, then reads, then waits, and polls once a second as a
//! fallback.

use futures::{Stream, StreamExt as _};
use redis::{Client, RedisError, aio::ConnectionManager};

use crate::{
    id::{DomainId, JobId, PartnerId, TenantId, UserId},
    platform::redis::{RedisConfig, shared_connection},
};

/// A changed document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DocumentChange {
    /// A tenant, or one of its resources.
    Tenant(TenantId),
    /// The members, apps, domains and invoices of a tenant. Announced as a change of the tenant.
    TenantResources(TenantId),
    /// A job.
    Job(JobId),
    /// A domain of a tenant.
    Domain(DomainId),
    /// A user, and possibly their permissions.
    User(UserId),
    /// A partner, and possibly the permissions of its team.
    Partner(PartnerId),
}

impl DocumentChange {
    fn message(self) -> String {
        match self {
            Self::Tenant(id) | Self::TenantResources(id) => format!("tenant:{id}"),
            Self::Job(id) => format!("job:{id}"),
            Self::Domain(id) => format!("domain:{id}"),
            Self::User(id) => format!("user:{id}"),
            Self::Partner(id) => format!("partner:{id}"),
        }
    }

    fn parse(message: &str) -> Option<Self> {
        let (kind, id) = message.split_once(':')?;
        match kind {
            "tenant" => id.parse().ok().map(Self::Tenant),
            "job" => id.parse().ok().map(Self::Job),
            "domain" => id.parse().ok().map(Self::Domain),
            "user" => id.parse().ok().map(Self::User),
            "partner" => id.parse().ok().map(Self::Partner),
            _ => None,
        }
    }
}

/// Change feed of all processes.
#[derive(Clone)]
pub struct ChangeFeed {
    client: Client,
    connection: ConnectionManager,
    channel: String,
}

impl std::fmt::Debug for ChangeFeed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChangeFeed")
            .field("channel", &self.channel)
            .finish_non_exhaustive()
    }
}

impl ChangeFeed {
    /// The feed below the configured prefix. Connects on first use.
    pub fn new(config: &RedisConfig) -> anyhow::Result<Self> {
        let client = config.client()?;
        Ok(Self {
            connection: shared_connection(client.clone())?,
            client,
            channel: format!("{}:changes", config.prefix),
        })
    }

    /// Publishes that these documents changed.
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
                "Cannot publish a change to Redis; subscribers fall back to polling"
            );
        }
    }

    /// Subscribes to changes published from now on, until the connection ends.
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
