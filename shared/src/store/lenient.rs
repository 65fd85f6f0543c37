//! Lenient reads of many documents: a document that cannot be decoded, for example one of a newer build, is logged and
//! skipped, so that the others remain readable.

use std::any::type_name;

use bson::Document;
use futures::{Stream, TryStreamExt as _, future::ready};
use mongodb::Cursor;
use serde::de::DeserializeOwned;

use super::StoreError;

/// The documents of `found` that can be decoded.
pub(super) fn skip_undecodable<T: DeserializeOwned>(
    found: Cursor<Document>,
) -> impl Stream<Item = Result<T, StoreError>> {
    found.try_filter_map(|document| ready(Ok(read(document))))
}

fn read<T: DeserializeOwned>(document: Document) -> Option<T> {
    let id = document.get("_id").map(ToString::to_string);
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
