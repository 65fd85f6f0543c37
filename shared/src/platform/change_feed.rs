//! Change feed: notifies long-polling clients of changed documents, over Redis pub/sub.
//!
//! Delivery is best effort. A subscriber subscribes first, then reads, then waits, and polls as a fallback. Documents have
//! a channel for each [partition](crate::partition). The control state has one of its own: workers follow it, and would
//! otherwise receive the changes of all tenants.

use futures::{Stream, StreamExt as _};
use redis::{Client, RedisError, aio::ConnectionManager};

use crate::{
    id::{DomainId, JobId, PartnerId, TenantId, UserId},
    partition::{PARTITIONS, partition_of},
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
    /// The control state: the pause of a queue or an upstream, or refused credentials.
    Control,
}

impl DocumentChange {
    fn message(self) -> String {
        match self {
            Self::Tenant(id) | Self::TenantResources(id) => format!("tenant:{id}"),
            Self::Job(id) => format!("job:{id}"),
            Self::Domain(id) => format!("domain:{id}"),
            Self::User(id) => format!("user:{id}"),
            Self::Partner(id) => format!("partner:{id}"),
            Self::Control => "control".to_owned(),
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
    prefix: String,
}

impl std::fmt::Debug for ChangeFeed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChangeFeed")
            .field("prefix", &self.prefix)
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
            prefix: config.prefix.clone(),
        })
    }

    /// Publishes that these documents changed.
    pub async fn publish(&self, changes: &[DocumentChange]) {
        let mut publish = redis::pipe();
        for change in changes {
            let message = change.message();
            let channel = match change {
                DocumentChange::Control => self.control_channel(),
                _ => self.channel(partition_of(&message, PARTITIONS)),
            };
            publish.publish(channel, message).ignore();
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

    /// Subscribes to changes of documents published from now on, until the connection ends.
    pub async fn subscribe(
        &self,
    ) -> Result<impl Stream<Item = DocumentChange> + Send + use<>, RedisError> {
        let mut subscription = self.client.get_async_pubsub().await?;
        let channels: Vec<String> = (0..PARTITIONS).map(|it| self.channel(it)).collect();
        subscription.subscribe(channels).await?;
        Ok(subscription.into_on_message().filter_map(async |message| {
            DocumentChange::parse(&message.get_payload::<String>().ok()?)
        }))
    }

    /// Subscribes to changes of the control state announced from now on, until the connection ends.
    pub async fn subscribe_to_control(
        &self,
    ) -> Result<impl Stream<Item = ()> + Send + use<>, RedisError> {
        let mut subscription = self.client.get_async_pubsub().await?;
        subscription.subscribe(self.control_channel()).await?;
        Ok(subscription.into_on_message().map(|_| ()))
    }

    /// Channel of a partition. Earlier builds know only the first.
    fn channel(&self, partition: u64) -> String {
        match partition {
            0 => format!("{}:changes", self.prefix),
            _ => format!("{}:changes:{partition}", self.prefix),
        }
    }

    fn control_channel(&self) -> String {
        format!("{}:control", self.prefix)
    }
}
