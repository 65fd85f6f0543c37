//! What all repositories have whose documents count their versions in `revision`.

/// Gives `$repository`, which keeps its documents in the collection `$documents`, the methods that change one of them in
/// a transaction.
macro_rules! versioned {
    ($repository:ident, $documents:ident: $document:ident, $id:ident) => {
        impl $repository {
            /// The document with this id, as this transaction sees it.
            pub async fn find_in_transaction(
                &self,
                session: &mut mongodb::ClientSession,
                id: $id,
            ) -> Result<Option<$document>, $crate::store::StoreError> {
                let found = self.$documents.find_one(bson::doc! { "_id": id });
                found.session(session).await
            }

            /// Adds a document. Where a unique index forbids it, the error says [which](crate::store::violated_index).
            pub async fn insert(
                &self,
                session: &mut mongodb::ClientSession,
                document: &$document,
            ) -> Result<(), $crate::store::StoreError> {
                let inserted = self.$documents.insert_one(document);
                inserted.session(session).await?;
                Ok(())
            }

            /// The document with this id, to be written in this transaction: its revision is already one more.
            pub async fn find_for_update(
                &self,
                session: &mut mongodb::ClientSession,
                id: $id,
            ) -> Result<Option<$document>, $crate::store::StoreError> {
                self.find_for_update_where(session, bson::doc! { "_id": id })
                    .await
            }

            async fn find_for_update_where(
                &self,
                session: &mut mongodb::ClientSession,
                filter: bson::Document,
            ) -> Result<Option<$document>, $crate::store::StoreError> {
                // A write, not a read: whoever comes second waits for nothing and is repeated at once.
                self.$documents
                    .find_one_and_update(filter, bson::doc! { "$inc": { "revision": 1_i64 } })
                    .return_document(mongodb::options::ReturnDocument::After)
                    .session(session)
                    .await
            }

            /// Leaves a document that was locked in this transaction as it was before.
            pub async fn unlock(
                &self,
                session: &mut mongodb::ClientSession,
                id: $id,
            ) -> Result<(), $crate::store::StoreError> {
                let update = bson::doc! { "$inc": { "revision": -1_i64 } };
                let unlocked = self.$documents.update_one(bson::doc! { "_id": id }, update);
                unlocked.session(session).await?;
                Ok(())
            }

            /// Writes a document that was locked or read in this transaction.
            pub async fn save(
                &self,
                session: &mut mongodb::ClientSession,
                document: &$document,
            ) -> Result<(), $crate::store::StoreError> {
                let update = $crate::store::known_fields::set_known_fields(document)?;
                let saved = self
                    .$documents
                    .update_one(bson::doc! { "_id": document.id }, update);
                saved.session(session).await?;
                Ok(())
            }
        }
    };
}

pub(super) use versioned;
