//! Hash chain: makes changes to and removals of recorded audit events detectable.
//!
//! There is one chain for each tenant, and one for the platform, which holds the events that belong to no tenant. A
//! sealed event carries the next sequence number of its chain (`seq`, from 1), the hash of the preceding event
//! (`prevHash`; 64 zeros for the first), and its own `hash`:
//!
//! > the SHA-256, in lower-case hexadecimal, of the event's BSON as stored, without `sealed` and `hash`, with the
//! > fields of every document sorted by the bytes of their names.
//!
//! The hash covers every field, including `seq`, `prevHash` and fields unknown to this build. Events sealed together
//! are ordered by id; an event committed late gets a later number.
//!
//! The chain document stores the head and the anchor: the last event deleted by retention, or the start of the chain.
//!
//! Detected: changed, removed and reordered events, and missing events at the end. Not detected: a writer with database
//! access who rewrites *all* events up to and including the head, which is why every head is also logged when sealed,
//! outside the reach of such a writer; and changes made in the second before an event is sealed.

use std::fmt::Write as _;

use bson::{Bson, Document};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;

use crate::id::{AuditEventId, TenantId};

/// Name of the platform's chain.
const PLATFORM: &str = "platform";

/// Position in a chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Sequence number of the event.
    pub seq: i64,
    /// Hash of the event.
    pub hash: String,
}

impl Link {
    /// The position before the first event.
    pub fn start() -> Self {
        Self {
            seq: 0,
            hash: "0".repeat(64),
        }
    }

    /// Seals `event` as the next one: fills in its chain fields and returns the new position.
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

    /// Verifies that `event` is the next one and returns its position, or the problem found.
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

/// Hash chain, as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Chain {
    /// Tenant id, or `platform`.
    #[serde(rename = "_id")]
    pub id: String,
    /// Tenant; missing for the platform's chain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<TenantId>,
    /// Last sealed event.
    pub head: Link,
    /// Last event deleted by retention.
    pub anchor: Link,
}

impl Chain {
    /// An empty chain.
    pub fn new(tenant_id: Option<TenantId>) -> Self {
        Self {
            id: Self::id(tenant_id),
            tenant_id,
            head: Link::start(),
            anchor: Link::start(),
        }
    }

    /// Id of a tenant's chain, or of the platform's.
    pub fn id(tenant_id: Option<TenantId>) -> String {
        tenant_id.map_or_else(|| PLATFORM.to_owned(), |id| id.to_string())
    }
}

/// Kind of inconsistency in a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AuditProblemKind)]
pub enum ProblemKind {
    /// The event differs from its seal.
    Changed,
    /// One or more consecutive events are missing.
    Missing,
    /// The event's `prevHash` does not match the preceding event.
    Unlinked,
    /// The stored head does not match the last event.
    Head,
    /// An event exists that, according to the anchor, retention deleted.
    Anchor,
    /// An event is neither sealed nor flagged for sealing.
    Stray,
}

/// Inconsistency found in a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainProblem {
    /// Sequence number of the event; of the first for a range of missing events.
    pub seq: i64,
    /// Sequence number of the last event of the range.
    pub last_seq: i64,
    /// Kind of problem.
    pub kind: ProblemKind,
    /// The event, if present.
    pub event_id: Option<AuditEventId>,
}

fn hash(event: &Document) -> String {
    let mut event = event.clone();
    event.remove("sealed");
    event.remove("hash");
    let bytes = in_order(event).to_vec();
    let bytes = bytes.expect("a document read from BSON serialises to BSON");
    let mut hex = String::with_capacity(64);
    for byte in Sha256::digest(bytes) {
        write!(hex, "{byte:02x}").expect("writing to a String cannot fail");
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

    /// Pins the hash format: old events must verify with newer builds.
    #[test]
    fn the_hash_format_is_stable() {
        let mut event = event();

        let link = Link::start().seal(&mut event);

        insta::assert_snapshot!(link.hash, @"7b0d59b3a3fc284ad7572c93845d1a1f87cac784e27070361a3b6e44fc194273");
        assert_eq!(link.seq, 1);
        assert!(event.get_bool("sealed").unwrap());
    }

    #[test]
    fn the_hash_ignores_the_order_of_fields_and_nothing_else() {
        let mut sealed = event();
        let link = Link::start().seal(&mut sealed);
        let fields: Vec<(String, Bson)> = sealed.clone().into_iter().collect();
        let mut reversed: Document = fields.into_iter().rev().collect();
        reversed.insert(
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
        assert_eq!(Link::start().verify_next(&reversed), Ok(link.clone()));
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
