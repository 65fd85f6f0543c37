//! Group commit: one transaction for the inserts of commands that wait at the same time.
//!
//! The commands and the journal sync of a transaction cost about as much for the documents of one command as for those of
//! fifty. While transactions are in flight, further commands queue for the next one; on an idle service each commits at
//! once. Only inserts are grouped: they depend on no read, so a group has one outcome. If one document is refused, nothing
//! of the group is committed, and each command runs again in a transaction of its own, with a result of its own.

use std::{iter, sync::Arc, time::Duration};

use bson::RawDocumentBuf;
use futures::{FutureExt as _, future::join_all};
use mongodb::{ClientSession, Collection};
use serde::Serialize;

use super::{Store, StoreError, TransactionError};
use crate::platform::coalescer::{Coalescer, Limits};

/// Number of transactions in flight from which further commands share one.
const MAX_IN_FLIGHT: usize = 2;
/// Time after which a hanging transaction no longer delays others.
const SLOT_TIMEOUT: Duration = Duration::from_millis(100);
/// Maximum number of commands of one transaction.
const MAX_GROUP: usize = 64;

/// Documents to insert, by collection.
#[derive(Debug, Default)]
pub struct Inserts(Vec<(Collection<RawDocumentBuf>, Vec<RawDocumentBuf>)>);

/// Committer of inserts in groups.
#[derive(Debug)]
pub struct GroupCommit {
    store: Arc<Store>,
    queue: Coalescer<Vec<Inserts>, Outcomes>,
}

/// Outcome of a command's inserts: whether they are committed, or an error if that is unknown.
type Outcome = Result<bool, StoreError>;

/// Outcomes of queued inserts, in their order.
type Outcomes = Arc<Vec<Outcome>>;

/// The database refused a document of the group.
struct Refused;

impl GroupCommit {
    /// A committer to `store`.
    pub fn new(store: &Arc<Store>) -> Self {
        Self {
            store: store.clone(),
            queue: Coalescer::new(Limits {
                in_flight: MAX_IN_FLIGHT,
                slot_timeout: Some(SLOT_TIMEOUT),
                pause: |_, _| Duration::ZERO,
            }),
        }
    }

    /// Commits `inserts` together with those that wait at the same time. `false` if a document of the group was refused:
    /// nothing is committed then. An error as of a single transaction, whose commit may have been lost.
    pub async fn commit(&self, inserts: Inserts) -> Result<bool, StoreError> {
        let store = self.store.clone();
        let mut position = 0;
        let join = |queued: &mut Vec<Inserts>| {
            position = queued.len();
            queued.push(inserts);
        };
        let committed = self.queue.load(join, |queued| commit_all(store, queued));
        let outcomes = committed.await;
        outcomes[position].clone()
    }
}

impl Inserts {
    /// Adds a document.
    pub(super) fn add<T: Serialize + Send + Sync>(
        &mut self,
        collection: &Collection<T>,
        document: &T,
    ) -> Result<(), StoreError> {
        let document = bson::serialize_to_raw_document_buf(document)?;
        self.documents_of(collection.clone_with_type())
            .push(document);
        Ok(())
    }

    fn documents_of(&mut self, collection: Collection<RawDocumentBuf>) -> &mut Vec<RawDocumentBuf> {
        let mut known = self.0.iter();
        let position = known.position(|(known, _)| known.name() == collection.name());
        let position = position.unwrap_or_else(|| {
            self.0.push((collection, Vec::new()));
            self.0.len() - 1
        });
        &mut self.0[position].1
    }

    fn merged(group: Vec<Self>) -> Self {
        let mut merged = Self::default();
        for (collection, documents) in group.into_iter().flat_map(|inserts| inserts.0) {
            merged.documents_of(collection).extend(documents);
        }
        merged
    }

    /// Inserts the documents in a transaction.
    pub async fn write(&self, session: &mut ClientSession) -> Result<(), StoreError> {
        for (collection, documents) in &self.0 {
            let inserted = collection.insert_many(documents);
            inserted.session(&mut *session).await?;
        }
        Ok(())
    }
}

/// Commits the queued inserts, in as many groups as their number requires.
async fn commit_all(store: Arc<Store>, queued: Vec<Inserts>) -> Outcomes {
    let mut queued = queued.into_iter();
    let groups = iter::from_fn(|| {
        let group: Vec<Inserts> = queued.by_ref().take(MAX_GROUP).collect();
        (!group.is_empty()).then_some(group)
    });
    let commits: Vec<_> = groups
        .map(|group| {
            let size = group.len();
            // A task of its own: a dropped caller does not interrupt the commit of the others, nor does a panic.
            let commit = tokio::spawn(commit_group(store.clone(), group));
            async move {
                let outcome = commit.await.unwrap_or_else(|_| Err(interrupted()));
                vec![outcome; size]
            }
        })
        .collect();
    Arc::new(join_all(commits).await.concat())
}

async fn commit_group(store: Arc<Store>, group: Vec<Inserts>) -> Outcome {
    let inserts = Inserts::merged(group);
    let committed = store
        .transaction(&inserts, |session, inserts| {
            async move {
                let written = inserts.write(session).await;
                // Every error is a refusal: the driver would repeat a transient one for as long as it lasts.
                written.map_err(|_| TransactionError::Aborted(Refused))
            }
            .boxed()
        })
        .await;
    match committed {
        Ok(()) => Ok(true),
        Err(TransactionError::Aborted(Refused)) => Ok(false),
        Err(TransactionError::Store(error)) => Err(error),
    }
}

/// Error of a commit that panicked or was cut off by a shutdown.
fn interrupted() -> StoreError {
    StoreError::custom("the commit was interrupted".to_owned())
}
