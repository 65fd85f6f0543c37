//! Index models.

use std::time::Duration;

use bson::{Document, doc};
use mongodb::{IndexModel, options::IndexOptions};

/// An index with the name that MongoDB derives from its keys.
pub(super) fn index(keys: Document) -> IndexModel {
    IndexModel::builder().keys(keys).build()
}

/// A unique index. A duplicate key error carries its name.
pub(super) fn unique(name: &str, keys: Document) -> IndexModel {
    let options = IndexOptions::builder()
        .name(name.to_owned())
        .unique(true)
        .build();
    IndexModel::builder().keys(keys).options(options).build()
}

/// A TTL index: MongoDB deletes a document `after` the time in its `field`.
pub(super) fn ttl(field: &str, after: Duration) -> IndexModel {
    let options = IndexOptions::builder().expire_after(after).build();
    IndexModel::builder()
        .keys(doc! { field: 1 })
        .options(options)
        .build()
}
