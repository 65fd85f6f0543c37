//! Several upserts in one command, outside of a transaction: the driver's bulk write requires MongoDB 8.0.

use bson::{Bson, Document, doc};

use super::{Store, StoreError};

/// MongoDB's error code of a duplicate key.
const DUPLICATE_KEY: i32 = 11_000;

/// Runs upserts (`q` and `u`) on a collection. One whose filter does not match an existing document, which it would
/// insert again, changes nothing.
pub(super) async fn bulk_upsert(
    store: &Store,
    collection: &str,
    upserts: Vec<Document>,
) -> Result<(), StoreError> {
    if upserts.is_empty() {
        return Ok(());
    }
    let upsert = |mut upsert: Document| {
        upsert.insert("upsert", true);
        upsert
    };
    let command = doc! {
        "update": collection,
        "updates": upserts.into_iter().map(upsert).collect::<Vec<_>>(),
        "ordered": false,
        "writeConcern": { "w": "majority", "j": true },
    };
    let answer = store.database().run_command(command).await?;
    if let Some(why) = answer.get("writeConcernError") {
        return Err(StoreError::custom(format!("writeConcernError: {why}")));
    }
    let is_duplicate = |error: &Bson| {
        let error = error.as_document();
        error.is_some_and(|error| error.get_i32("code").ok() == Some(DUPLICATE_KEY))
    };
    let mut errors = answer.get_array("writeErrors").into_iter().flatten();
    match errors.find(|error| !is_duplicate(error)) {
        Some(why) => Err(StoreError::custom(format!("writeErrors: {why}"))),
        None => Ok(()),
    }
}
