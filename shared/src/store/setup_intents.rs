//! Setup intent repository.

use std::{sync::Arc, time::Duration};

use bson::{DateTime, doc};
use mongodb::{ClientSession, Collection};

use super::{
    Store, StoreError,
    index::{index, ttl},
    to_bson,
};
use crate::{
    id::{SetupIntentId, TenantId},
    platform::clock,
    queue::secret_box::EncryptedSecrets,
    setup_intent::{KEPT, SetupIntent},
};

/// Setup intents of the last hour.
#[derive(Debug, Clone)]
pub struct SetupIntentRepository {
    intents: Collection<SetupIntent>,
}

impl SetupIntentRepository {
    /// The repository in `store`.
    pub fn new(store: &Arc<Store>) -> Self {
        Self {
            intents: store.collection("setup_intents"),
        }
    }

    /// Creates the indexes.
    pub async fn ensure_indexes(&self) -> Result<(), StoreError> {
        let indexes = [
            ttl("expireAt", Duration::ZERO),
            index(doc! { "tenantId": 1, "createdAt": 1 }),
        ];
        self.intents.create_indexes(indexes).await?;
        Ok(())
    }

    /// The setup intent with this id.
    pub async fn find(&self, id: SetupIntentId) -> Result<Option<SetupIntent>, StoreError> {
        self.intents.find_one(doc! { "_id": id }).await
    }

    /// Number of a tenant's setup intents of the last hour.
    pub async fn count_recent(
        &self,
        session: &mut ClientSession,
        tenant: TenantId,
        now: DateTime,
    ) -> Result<u64, StoreError> {
        let since = clock::earlier(now, KEPT);
        let recent = doc! { "tenantId": tenant, "createdAt": { "$gt": since } };
        self.intents.count_documents(recent).session(session).await
    }

    /// Inserts a setup intent.
    pub async fn insert(
        &self,
        session: &mut ClientSession,
        intent: &SetupIntent,
    ) -> Result<(), StoreError> {
        self.intents.insert_one(intent).session(session).await?;
        Ok(())
    }

    /// Stores the setup intent that was created at Stripe.
    pub async fn set_created(
        &self,
        session: &mut ClientSession,
        id: SetupIntentId,
        stripe_id: &str,
        secret: &EncryptedSecrets,
    ) -> Result<(), StoreError> {
        let created = doc! { "stripeId": stripe_id, "secret": to_bson(secret)? };
        let stored = self
            .intents
            .update_one(doc! { "_id": id }, doc! { "$set": created });
        stored.session(session).await?;
        Ok(())
    }

    /// Takes the client secret out of a setup intent. Returns the setup intent as it was; `None` if it has no secret (any
    /// more).
    pub async fn hand_over(
        &self,
        id: SetupIntentId,
        now: DateTime,
    ) -> Result<Option<SetupIntent>, StoreError> {
        let ready = doc! { "_id": id, "secret": { "$exists": true } };
        let taken = doc! { "$set": { "handedOverAt": now }, "$unset": { "secret": "" } };
        self.intents.find_one_and_update(ready, taken).await
    }
}
