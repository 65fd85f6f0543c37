//! Lenient reads of many documents: a document that cannot be decoded, for example one of a newer build, is logged and
//! skipped, so that the others remain readable.

use std::{any::type_name, time::Duration};

use bson::{Bson, Document};
use futures::{Stream, StreamExt as _, TryStreamExt as _, future::ready};
use mongodb::{Cursor, action::Find};
use serde::de::DeserializeOwned;

use super::StoreError;

/// The documents of `found` that can be decoded.
pub fn skip_undecodable<T: DeserializeOwned>(
    found: Cursor<Document>,
) -> impl Stream<Item = Result<T, StoreError>> {
    found.try_filter_map(|document| ready(Ok(decode(document))))
}

/// Documents of a query, with those that cannot be decoded. For a caller that must not take one of those for missing.
#[derive(Debug)]
pub struct Decoded<T> {
    /// The documents that can be decoded.
    pub documents: Vec<T>,
    /// The others, as they are stored.
    pub undecodable: Vec<Document>,
}

impl<T> Decoded<T> {
    /// No documents.
    pub const fn empty() -> Self {
        Self {
            documents: Vec::new(),
            undecodable: Vec::new(),
        }
    }
}

/// All documents of `found`.
pub(super) async fn decode_all<T: DeserializeOwned>(
    mut found: Cursor<Document>,
) -> Result<Decoded<T>, StoreError> {
    let mut all = Decoded::empty();
    while let Some(document) = found.try_next().await? {
        if let Some(decoded) = decode(document.clone()) {
            all.documents.push(decoded);
        } else {
            all.undecodable.push(document);
        }
    }
    Ok(all)
}

/// Time limit of a list: MongoDB ends a query that its client no longer waits for only then.
pub(super) const LISTING: Duration = Duration::from_secs(5);

/// The first `limit` documents of a query that can be decoded. Fails with a timeout if the indexes do not narrow the query
/// enough.
pub(super) async fn take_decodable<T: DeserializeOwned>(
    query: Find<'_, Document>,
    limit: i64,
) -> Result<Vec<T>, StoreError> {
    // No `limit`, because undecodable documents do not count; by default a batch is filled up to 16 MiB.
    let found = query
        .batch_size(u32::try_from(limit).unwrap_or(u32::MAX))
        .max_time(LISTING);
    let limit = usize::try_from(limit).unwrap_or_default();
    let decodable = skip_undecodable(found.await?);
    decodable.take(limit).try_collect().await
}

/// An id as the API shows it, hyphenated if it is a UUID, so that a log entry can be searched for it.
pub fn id_text(id: &Bson) -> String {
    match id {
        Bson::Binary(binary) => binary
            .to_uuid()
            .map_or_else(|_| id.to_string(), |uuid| uuid.to_string()),
        Bson::String(text) => text.clone(),
        _ => id.to_string(),
    }
}

/// The document, if it can be decoded.
pub(super) fn decode<T: DeserializeOwned>(document: Document) -> Option<T> {
    let id = document.get("_id").map(id_text);
    bson::deserialize_from_document(document)
        .inspect_err(|error| {
            tracing::error!(
                document.id = id,
                document.kind = type_name::<T>(),
                %error,
                "Skipped a document that cannot be decoded"
            );
        })
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::JobId;

    #[test]
    fn an_id_is_logged_as_the_api_shows_it() {
        let id = JobId::new();
        let texts = [Bson::from(id), "slug".into(), Bson::Int32(7)].map(|id| id_text(&id));

        assert_eq!(texts, [id.to_string(), "slug".to_owned(), "7".to_owned()]);
    }
}
