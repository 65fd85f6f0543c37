//! Reading many documents of which one may be unreadable, as after a fault or from a newer build: it is logged and left
//! out, and costs nobody the others.

use std::any::type_name;

use bson::Document;
use futures::{Stream, TryStreamExt as _, future::ready};
use mongodb::Cursor;
use serde::de::DeserializeOwned;

use super::StoreError;

/// Those of `found` that can be read.
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
                "A document cannot be read, and is left out"
            );
        })
        .ok()
}
