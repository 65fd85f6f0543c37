//! Feature flag repository.

use std::sync::Arc;

use bson::{DateTime, Document, doc};
use futures::TryStreamExt as _;
use mongodb::{ClientSession, Collection};
use serde::Deserialize;

use super::{Store, StoreError, Versioned, VersionedRepository, lenient::skip_undecodable};
use crate::feature_flag::Flag;

/// Id of the document that every write of a flag updates.
const SET: &str = "flags";

/// Feature flags.
#[derive(Debug, Clone)]
pub struct FlagRepository {
    flags: Collection<Flag>,
    sets: Collection<Document>,
}

impl Versioned for Flag {
    type Id = String;

    fn id(&self) -> String {
        self.key.clone()
    }

    fn revision(&self) -> i64 {
        self.revision
    }

    fn touch(&mut self, now: DateTime) {
        self.revision += 1;
        self.updated_at = now;
    }
}

impl VersionedRepository for FlagRepository {
    type Document = Flag;

    fn documents(&self) -> &Collection<Flag> {
        &self.flags
    }
}

impl FlagRepository {
    /// The repository in `store`.
    pub fn new(store: &Arc<Store>) -> Self {
        Self {
            flags: store.collection("flags"),
            sets: store.collection("flag_sets"),
        }
    }

    /// Revision of the flag set, which changes with every write of any flag.
    pub async fn revision(&self) -> Result<i64, StoreError> {
        #[derive(Deserialize)]
        struct Set {
            revision: i64,
        }
        let sets = self.sets.clone_with_type::<Set>();
        let set = sets.find_one(doc! { "_id": SET }).await?;
        Ok(set.map_or(0, |set| set.revision))
    }

    /// All readable flags. An unreadable one is omitted, which evaluates to off.
    pub async fn all(&self) -> Result<Vec<Flag>, StoreError> {
        let stored = self.flags.clone_with_type::<Document>();
        skip_undecodable(stored.find(doc! {}).await?)
            .try_collect()
            .await
    }

    /// Increments the revision of the flag set. Two concurrent writers conflict on it, so one of them is repeated and
    /// sees the other's flags.
    pub async fn bump_revision(&self, session: &mut ClientSession) -> Result<(), StoreError> {
        self.sets
            .update_one(doc! { "_id": SET }, doc! { "$inc": { "revision": 1_i64 } })
            .upsert(true)
            .session(session)
            .await?;
        Ok(())
    }

    /// Number of flags.
    pub async fn count_in(&self, session: &mut ClientSession) -> Result<u64, StoreError> {
        self.flags.count_documents(doc! {}).session(session).await
    }
}
