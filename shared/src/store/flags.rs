//! The feature flags.

use std::sync::Arc;

use bson::{Document, doc};
use futures::TryStreamExt as _;
use mongodb::{ClientSession, Collection};
use serde::Deserialize;

use super::{
    Store, StoreError, known_fields, lenient::skip_undecodable, linearizable::find_one_linearizable,
};
use crate::feature_flag::Flag;

/// The document that every write of a flag writes too.
const SET: &str = "flags";

/// The flags.
#[derive(Debug, Clone)]
pub struct FlagRepository {
    flags: Collection<Flag>,
    sets: Collection<Document>,
}

impl FlagRepository {
    /// The flags in `store`.
    pub fn new(store: &Arc<Store>) -> Self {
        Self {
            flags: store.collection("flags"),
            sets: store.collection("flag_sets"),
        }
    }

    /// Another one after every write of any flag.
    pub async fn revision(&self) -> Result<i64, StoreError> {
        #[derive(Deserialize)]
        struct Set {
            revision: i64,
        }
        let sets = self.sets.clone_with_type::<Set>();
        let set = sets.find_one(doc! { "_id": SET }).await?;
        Ok(set.map_or(0, |set| set.revision))
    }

    /// All of them that can be read. One that cannot is as good as none, which is off.
    pub async fn all(&self) -> Result<Vec<Flag>, StoreError> {
        let stored = self.flags.clone_with_type::<Document>();
        skip_undecodable(stored.find(doc! {}).await?)
            .try_collect()
            .await
    }

    /// At most `limit` flags, by key.
    pub async fn list(&self, after: Option<&str>, limit: i64) -> Result<Vec<Flag>, StoreError> {
        let filter = match after {
            Some(after) => doc! { "_id": { "$gt": after } },
            None => doc! {},
        };
        self.flags
            .find(filter)
            .sort(doc! { "_id": 1 })
            .limit(limit)
            .await?
            .try_collect()
            .await
    }

    /// The flag with this key.
    pub async fn find(&self, key: &str) -> Result<Option<Flag>, StoreError> {
        find_one_linearizable(&self.flags, doc! { "_id": key }).await
    }

    /// Says that a flag is written in this transaction. Two that do so at the same time are in each other's way, and
    /// one of them starts over with what the other has left.
    pub async fn bump_revision(&self, session: &mut ClientSession) -> Result<(), StoreError> {
        self.sets
            .update_one(doc! { "_id": SET }, doc! { "$inc": { "revision": 1_i64 } })
            .upsert(true)
            .session(session)
            .await?;
        Ok(())
    }

    /// The flag with this key, as this transaction sees it.
    pub async fn find_in(
        &self,
        session: &mut ClientSession,
        key: &str,
    ) -> Result<Option<Flag>, StoreError> {
        let found = self.flags.find_one(doc! { "_id": key });
        found.session(session).await
    }

    /// How many there are.
    pub async fn count_in(&self, session: &mut ClientSession) -> Result<u64, StoreError> {
        self.flags.count_documents(doc! {}).session(session).await
    }

    /// Adds a flag.
    pub async fn insert(&self, session: &mut ClientSession, flag: &Flag) -> Result<(), StoreError> {
        self.flags.insert_one(flag).session(session).await?;
        Ok(())
    }

    /// Writes a flag that is there.
    pub async fn save(&self, session: &mut ClientSession, flag: &Flag) -> Result<(), StoreError> {
        self.flags
            .update_one(
                doc! { "_id": &flag.key },
                known_fields::set_known_fields(flag)?,
            )
            .session(session)
            .await?;
        Ok(())
    }

    /// Removes a flag.
    pub async fn delete(&self, session: &mut ClientSession, key: &str) -> Result<(), StoreError> {
        self.flags
            .delete_one(doc! { "_id": key })
            .session(session)
            .await?;
        Ok(())
    }
}
