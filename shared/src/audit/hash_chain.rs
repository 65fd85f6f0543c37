//! The chain of hashes that shows whether somebody changed or removed what was recorded.
//!
//! There is one chain for each tenant, and one for the platform, which is what belongs to no tenant. An event that is
//! sealed has the next number of its chain (`seq`, from 1), the hash of the event before it (`prevHash`; 64 zeros for
//! the first) and its own `hash`:
//!
//! > the SHA-256, in lower-case hexadecimal, of the event's BSON as it is stored, without `sealed` and `hash`, with the
//! > fields of every document in the order of their names' bytes.
//!
//! So the hash covers every field, `seq` and `prevHash` included, also those that this build does not know. Events are
//! in the order of their ids within what is sealed at one time; one that was committed late has a later number.
//!
//! A chain's document keeps its head, and the anchor: the last event that is not kept any more, or where the chain
//! began.
//!
//! What is found: an event that was changed, removed or put in another place, and the last ones missing. What is not:
//! events that somebody who may write to the database rewrote *all*, up to the head and in it. For that, each head is
//! logged as it is sealed, where whoever can write here has no hand; and what happened to an event in the second before
//! it was sealed.

use std::fmt::Write as _;

use bson::{Bson, Document};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::id::{AuditEventId, TenantId};

/// The name of the platform's chain.
const PLATFORM: &str = "platform";

/// A place in a chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The number of the event that is there.
    pub seq: i64,
    /// Its hash.
    pub hash: String,
}

impl Link {
    /// Before the first event.
    pub fn start() -> Self {
        Self {
            seq: 0,
            hash: "0".repeat(64),
        }
    }

    /// Seals `event`, which comes next: fills in what it is stored with, and says where the chain then is.
    #[must_use]
    pub fn seal(&self, event: &mut Document) -> Self {
        event.insert("seq", self.seq + 1);
        event.insert("prevHash", &self.hash);
        let next = Self {
            seq: self.seq + 1,
            hash: hash(event),
        };
        event.insert("hash", &next.hash);
        event.insert("sealed", true);
        next
    }

    /// Follows the chain to `event`, which should come next, or says what is wrong.
    pub fn verify_next(&self, event: &Document) -> Result<Self, ProblemKind> {
        if event.get_i64("seq").ok() != Some(self.seq + 1) {
            return Err(ProblemKind::Missing);
        }
        let stored = event.get_str("hash").unwrap_or_default();
        if hash(event) != stored {
            return Err(ProblemKind::Changed);
        }
        if event.get_str("prevHash").unwrap_or_default() != self.hash {
            return Err(ProblemKind::Unlinked);
        }
        Ok(Self {
            seq: self.seq + 1,
            hash: stored.to_owned(),
        })
    }
}

/// A chain, as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Chain {
    /// Its tenant's id, or `platform`.
    #[serde(rename = "_id")]
    pub id: String,
    /// Its tenant; the platform when missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<TenantId>,
    /// The last event that is sealed.
    pub head: Link,
    /// The last event that is not kept any more.
    pub anchor: Link,
}

impl Chain {
    /// A chain without events.
    pub fn new(tenant_id: Option<TenantId>) -> Self {
        Self {
            id: Self::id(tenant_id),
            tenant_id,
            head: Link::start(),
            anchor: Link::start(),
        }
    }

    /// The id of a tenant's chain, or of the platform's.
    pub(crate) fn id(tenant_id: Option<TenantId>) -> String {
        tenant_id.map_or_else(|| PLATFORM.to_owned(), |id| id.to_string())
    }
}

/// What can be wrong with a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ProblemKind {
    /// The event is not what was sealed.
    Changed,
    /// The event is not there, or several in a row are not.
    Missing,
    /// The event was sealed after another one than that which stands before it.
    Unlinked,
    /// What the chain says of its last event is not true.
    Head,
    /// An event is there that the anchor says is not kept any more.
    Anchor,
    /// An event is there that nobody sealed, and nobody will: it does not say that it waits for it.
    Stray,
}

/// Something wrong with a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainProblem {
    /// The number of the event; of the first, where several in a row are missing.
    pub seq: i64,
    /// The number of the last of them.
    pub last_seq: i64,
    /// What is wrong.
    pub kind: ProblemKind,
    /// The event, where there is one.
    pub event_id: Option<AuditEventId>,
}

fn hash(event: &Document) -> String {
    let mut event = event.clone();
    event.remove("sealed");
    event.remove("hash");
    let bytes = in_order(event).to_vec();
    let bytes = bytes.expect("what was read as BSON can be written as BSON");
    let mut hex = String::with_capacity(64);
    for byte in Sha256::digest(bytes) {
        write!(hex, "{byte:02x}").expect("a string takes any text");
    }
    hex
}

fn in_order(document: Document) -> Document {
    let mut fields: Vec<(String, Bson)> = document.into_iter().collect();
    fields.sort_by(|one, other| one.0.cmp(&other.0));
    let fields = fields.into_iter();
    fields
        .map(|(name, value)| (name, value_in_order(value)))
        .collect()
}

fn value_in_order(value: Bson) -> Bson {
    match value {
        Bson::Document(document) => in_order(document).into(),
        Bson::Array(items) => items.into_iter().map(value_in_order).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    fn event() -> Document {
        doc! {
            "_id": AuditEventId::from_bytes([7; 16]),
            "action": "tenant.update",
            "after": { "name": "Acme", "domains": [{ "b": 1, "a": 2 }] },
            "sealed": false,
        }
    }

    /// Whoever verifies an old event computes what was computed then.
    #[test]
    fn the_hash_of_an_event_is_this() {
        let mut event = event();

        let link = Link::start().seal(&mut event);

        insta::assert_snapshot!(link.hash, @"7b0d59b3a3fc284ad7572c93845d1a1f87cac784e27070361a3b6e44fc194273");
        assert_eq!(link.seq, 1);
        assert!(event.get_bool("sealed").unwrap());
    }

    #[test]
    fn the_order_of_fields_does_not_count_and_everything_else_does() {
        let mut sealed = event();
        let link = Link::start().seal(&mut sealed);
        let fields: Vec<(String, Bson)> = sealed.clone().into_iter().collect();
        let mut turned: Document = fields.into_iter().rev().collect();
        turned.insert(
            "after",
            doc! { "domains": [{ "a": 2, "b": 1 }], "name": "Acme" },
        );
        let mut renamed = sealed.clone();
        renamed.insert(
            "after",
            doc! { "name": "Acme", "domains": [{ "b": 1_i64, "a": 2 }] },
        );
        let mut added = sealed.clone();
        added.insert("more", Bson::Null);
        let mut renumbered = sealed.clone();
        renumbered.insert("seq", 2_i64);

        assert_eq!(Link::start().verify_next(&sealed), Ok(link.clone()));
        assert_eq!(Link::start().verify_next(&turned), Ok(link.clone()));
        for changed in [renamed, added] {
            assert_eq!(
                Link::start().verify_next(&changed),
                Err(ProblemKind::Changed)
            );
        }
        assert_eq!(link.verify_next(&sealed), Err(ProblemKind::Missing));
        assert_eq!(link.verify_next(&renumbered), Err(ProblemKind::Changed));
        let elsewhere = Link { seq: 0, ..link };
        assert_eq!(elsewhere.verify_next(&sealed), Err(ProblemKind::Unlinked));
    }
}
