//! Optimistic concurrency (a revision compared with `If-Match`) over documents that count their writes in `revision`.

use std::{fmt::Display, future::Future, sync::Arc};

use bson::{Bson, DateTime, doc};
use mongodb::{ClientSession, Collection, options::ReturnDocument};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    StoreError, TransactionError, bulk_update_in, group_commit::Inserts,
    known_fields::set_known_fields, linearizable::find_one_linearizable, page::page,
};

/// A document that counts its writes in `revision`.
pub trait Versioned:
    Clone + PartialEq + Serialize + DeserializeOwned + Unpin + Send + Sync + 'static
{
    /// The type of its `_id`.
    type Id: Clone + Display + Into<Bson> + Send + Sync;

    /// Its `_id`.
    fn id(&self) -> Self::Id;

    /// The number of writes so far.
    fn revision(&self) -> i64;

    /// Increments the revision and sets `updatedAt`.
    fn touch(&mut self, now: DateTime);
}

/// Implements [`Versioned`] for a document with the fields `id`, `revision` and `updated_at`, and
/// [`VersionedRepository`] for the repository that stores it. With the name of a collection, declares the repository, too.
macro_rules! versioned {
    (
        $(#[$doc:meta])*
        $repository:ident, $documents:ident = $collection:literal: $document:ident, $id:ty
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone)]
        pub struct $repository {
            $documents: mongodb::Collection<$document>,
        }

        impl $repository {
            /// The repository in `store`.
            pub fn new(store: &std::sync::Arc<$crate::store::Store>) -> Self {
                Self {
                    $documents: store.collection($collection),
                }
            }
        }

        versioned!($repository, $documents: $document, $id);
    };
    ($repository:ident, $documents:ident: $document:ident, $id:ty) => {
        impl $crate::store::Versioned for $document {
            type Id = $id;

            fn id(&self) -> $id {
                self.id.clone()
            }

            fn revision(&self) -> i64 {
                self.revision
            }

            fn touch(&mut self, now: bson::DateTime) {
                self.revision += 1;
                self.updated_at = now;
            }
        }

        impl $crate::store::VersionedRepository for $repository {
            type Document = $document;

            fn documents(&self) -> &mongodb::Collection<$document> {
                &self.$documents
            }
        }
    };
}

pub(super) use versioned;

/// A document before and after an update.
#[derive(Debug)]
pub struct Updated<D> {
    /// As it was read.
    pub before: D,
    /// As it is stored now.
    pub after: D,
}

impl<D: PartialEq> Updated<D> {
    /// Whether the update wrote anything.
    pub fn is_changed(&self) -> bool {
        self.before != self.after
    }
}

/// A repository of [`Versioned`] documents. All methods with a session run in its transaction.
pub trait VersionedRepository: Sync {
    /// The documents.
    type Document: Versioned;

    /// The collection that holds them.
    fn documents(&self) -> &Collection<Self::Document>;

    /// The document with this id.
    fn find(
        &self,
        id: <Self::Document as Versioned>::Id,
    ) -> impl Future<Output = Result<Option<Self::Document>, StoreError>> + Send {
        async move { find_one_linearizable(self.documents(), doc! { "_id": id }).await }
    }

    /// At most `limit` documents after `after`, by id.
    fn list_page(
        &self,
        after: Option<<Self::Document as Versioned>::Id>,
        limit: i64,
    ) -> impl Future<Output = Result<Vec<Self::Document>, StoreError>> + Send {
        page(self.documents(), doc! {}, after, limit)
    }

    /// The document as this transaction's snapshot has it.
    fn find_in_transaction(
        &self,
        session: &mut ClientSession,
        id: <Self::Document as Versioned>::Id,
    ) -> impl Future<Output = Result<Option<Self::Document>, StoreError>> + Send {
        async move {
            let found = self.documents().find_one(doc! { "_id": id });
            found.session(session).await
        }
    }

    /// Adds a document. A violated unique index is in the error: [`duplicate_key_index`](super::duplicate_key_index).
    fn insert(
        &self,
        session: &mut ClientSession,
        document: &Self::Document,
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
        async move {
            let inserted = self.documents().insert_one(document);
            inserted.session(session).await?;
            Ok(())
        }
    }

    /// Adds a document in a [group commit](super::group_commit).
    fn insert_in_group(
        &self,
        inserts: &mut Inserts,
        document: &Self::Document,
    ) -> Result<(), StoreError> {
        inserts.add(self.documents(), document)
    }

    /// Edits a document and stores it with the next revision. Writes nothing if `edit` changes nothing; an error of
    /// `edit` aborts the transaction. `None` if there is no such document.
    fn update<E: Send>(
        &self,
        session: &mut ClientSession,
        id: <Self::Document as Versioned>::Id,
        now: DateTime,
        edit: impl FnOnce(&mut Self::Document) -> Result<(), E> + Send,
    ) -> impl Future<Output = Result<Option<Updated<Self::Document>>, TransactionError<E>>> + Send
    {
        async move {
            let Some(before) = self.find_in_transaction(session, id).await? else {
                return Ok(None);
            };
            let mut after = before.clone();
            edit(&mut after).map_err(TransactionError::Aborted)?;
            self.save_changed(session, &before, &mut after, now).await?;
            Ok(Some(Updated { before, after }))
        }
    }

    /// Stores `after` with the next revision if it differs from `before`, which this transaction read. Returns whether
    /// it did. A concurrent write to the document aborts one of the two transactions, which is repeated.
    fn save_changed(
        &self,
        session: &mut ClientSession,
        before: &Self::Document,
        after: &mut Self::Document,
        now: DateTime,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send {
        async move {
            if after == before {
                return Ok(false);
            }
            after.touch(now);
            self.save(session, after).await?;
            Ok(true)
        }
    }

    /// The document with its revision incremented, so that concurrent transactions on it abort at once instead of at
    /// their last write.
    fn find_for_update(
        &self,
        session: &mut ClientSession,
        id: <Self::Document as Versioned>::Id,
    ) -> impl Future<Output = Result<Option<Self::Document>, StoreError>> + Send {
        self.find_for_update_where(session, doc! { "_id": id })
    }

    /// As [`find_for_update`](Self::find_for_update), by a filter.
    #[doc(hidden)]
    fn find_for_update_where(
        &self,
        session: &mut ClientSession,
        filter: bson::Document,
    ) -> impl Future<Output = Result<Option<Self::Document>, StoreError>> + Send {
        async move {
            self.documents()
                .find_one_and_update(filter, doc! { "$inc": { "revision": 1_i64 } })
                .return_document(ReturnDocument::After)
                .session(session)
                .await
        }
    }

    /// Takes back the increment of [`find_for_update`](Self::find_for_update).
    fn unlock(
        &self,
        session: &mut ClientSession,
        id: <Self::Document as Versioned>::Id,
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
        async move {
            let update = doc! { "$inc": { "revision": -1_i64 } };
            let unlocked = self.documents().update_one(doc! { "_id": id }, update);
            unlocked.session(session).await?;
            Ok(())
        }
    }

    /// Makes this transaction conflict with every other one that writes or materializes the document, and leaves the
    /// document as it is. Prevents write skew: a decision that rests on this document, or on what belongs to it, is
    /// then made by one transaction at a time. Returns the document.
    fn materialize_conflict(
        &self,
        session: &mut ClientSession,
        id: <Self::Document as Versioned>::Id,
    ) -> impl Future<Output = Result<Option<Self::Document>, StoreError>> + Send {
        self.materialize_conflict_where(session, doc! { "_id": id })
    }

    /// As [`materialize_conflict`](Self::materialize_conflict), by a filter.
    #[doc(hidden)]
    fn materialize_conflict_where(
        &self,
        session: &mut ClientSession,
        filter: bson::Document,
    ) -> impl Future<Output = Result<Option<Self::Document>, StoreError>> + Send {
        async move {
            // A write that changes nothing conflicts with nothing; so it is changed, and changed back.
            let increment = doc! { "$inc": { "revision": 1_i64 } };
            let document = self
                .documents()
                .find_one_and_update(filter, increment)
                .session(&mut *session)
                .await?;
            if let Some(document) = &document {
                self.unlock(session, document.id()).await?;
            }
            Ok(document)
        }
    }

    /// Applies an update whose fields do not depend on the document, as its next revision.
    fn update_fields(
        &self,
        session: &mut ClientSession,
        id: <Self::Document as Versioned>::Id,
        mut update: bson::Document,
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
        async move {
            update.insert("$inc", doc! { "revision": 1_i64 });
            let updated = self.documents().update_one(doc! { "_id": id }, update);
            updated.session(session).await?;
            Ok(())
        }
    }

    /// Stores a document as it is, with the revision that it has.
    fn save(
        &self,
        session: &mut ClientSession,
        document: &Self::Document,
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
        async move {
            let update = set_known_fields(document)?;
            let saved = self
                .documents()
                .update_one(doc! { "_id": document.id() }, update);
            saved.session(session).await?;
            Ok(())
        }
    }

    /// Stores documents that were not locked, with optimistic concurrency: their revisions are already incremented.
    /// `false` if one of them was written meanwhile; the transaction must then be aborted.
    fn compare_and_save_many(
        &self,
        session: &mut ClientSession,
        documents: &[Arc<Self::Document>],
    ) -> impl Future<Output = Result<bool, StoreError>> + Send {
        async move {
            let updates = documents.iter().map(|document| {
                let before = doc! { "_id": document.id(), "revision": document.revision() - 1 };
                Ok(doc! { "q": before, "u": set_known_fields(&**document)? })
            });
            let updates = updates.collect::<Result<Vec<_>, StoreError>>()?;
            Ok(bulk_update_in(self.documents(), session, updates).await? == documents.len())
        }
    }

    /// Deletes a document.
    fn delete(
        &self,
        session: &mut ClientSession,
        id: <Self::Document as Versioned>::Id,
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
        async move {
            let deleted = self.documents().delete_one(doc! { "_id": id });
            deleted.session(session).await?;
            Ok(())
        }
    }
}
