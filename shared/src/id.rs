//! A type for each kind of id, so that they cannot be swapped.
//!
//! All are `UUIDv7`: unique without asking anyone, and sorted by the time they were made. Stored as BSON binary
//! subtype 4, written with hyphens everywhere else.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A text that is not an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a UUID in its hyphenated form")]
pub struct InvalidId;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(bson::Uuid);

        impl $name {
            /// A new id, later than all made before it.
            #[expect(clippy::new_without_default, reason = "an id is never a default")]
            pub fn new() -> Self {
                Self(uuid::Uuid::now_v7().into())
            }

            /// The id with exactly these bytes.
            pub fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bson::Uuid::from_bytes(bytes))
            }

            /// The bytes of the id.
            pub fn bytes(self) -> [u8; 16] {
                self.0.bytes()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", uuid::Uuid::from_bytes(self.0.bytes()).hyphenated())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let id = uuid::Uuid::try_parse(text).map_err(|_| InvalidId)?;
                // Only the form we write is read: one id, one spelling.
                if text.len() == 36 { Ok(Self(id.into())) } else { Err(InvalidId) }
            }
        }

        impl From<$name> for bson::Bson {
            fn from(id: $name) -> Self {
                id.0.into()
            }
        }
    )*};
}

ids! {
    /// A job.
    JobId;
    /// Something to be done to many jobs.
    JobOperationId;
    /// A tenant's claim to a mail domain.
    DomainId;
    /// A tenant.
    TenantId;
    /// A user of ours, known to the identity provider by another id.
    UserId;
    /// A partner that sells workspaces.
    PartnerId;
    /// An invitation to a partner's team.
    InvitationId;
    /// A subscription.
    SubscriptionId;
    /// The price of a plan.
    PriceId;
    /// How a tenant stood at the end of a month.
    SnapshotId;
    /// An entry of the audit trail.
    AuditEventId;
    /// A worker process, from its start to its end.
    WorkerId;
    /// The right to settle a job, or to lead: whoever has another token has lost it.
    LeaseToken;
}

impl JobId {
    /// The id of the job that `maker` makes for `subject`: always the same, and sorted beside the maker's.
    pub fn deterministic(maker: Self, subject: &str) -> Self {
        Self::from_bytes(deterministic(maker.bytes(), subject))
    }
}

impl SnapshotId {
    /// The id of what `tenant` was in `month`: always the same, and sorted by when the tenant was made.
    pub fn deterministic(tenant: TenantId, month: &str) -> Self {
        Self::from_bytes(deterministic(tenant.bytes(), month))
    }
}

/// What an id and a name make together, with the id's time.
fn deterministic(from: [u8; 16], name: &str) -> [u8; 16] {
    let hashed = uuid::Uuid::new_v5(&uuid::Uuid::from_bytes(from), name.as_bytes());
    let mut bytes = *hashed.as_bytes();
    // The time and the version of the first; the variant is the same in both.
    bytes[..6].copy_from_slice(&from[..6]);
    bytes[6] = bytes[6] & 0x0f | from[6] & 0xf0;
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_stored_as_a_uuid_and_written_with_hyphens() {
        let id = JobId::new();

        let stored = bson::serialize_to_bson(&id).unwrap();
        let written = serde_json::to_string(&id).unwrap();

        assert!(
            matches!(&stored, bson::Bson::Binary(binary) if binary.subtype == bson::spec::BinarySubtype::Uuid)
        );
        assert_eq!(bson::deserialize_from_bson::<JobId>(stored).unwrap(), id);
        assert_eq!(written, format!("\"{id}\""));
        assert_eq!(serde_json::from_str::<JobId>(&written).unwrap(), id);
    }

    #[test]
    fn a_derived_id_is_the_same_each_time_and_sorted_beside_its_makers() {
        let (maker, later) = (JobId::new(), JobId::from_bytes([0xff; 16]));

        let derived = JobId::deterministic(maker, "acme");

        assert_eq!(JobId::deterministic(maker, "acme"), derived);
        assert_ne!(JobId::deterministic(maker, "other"), derived);
        assert_ne!(JobId::deterministic(later, "acme"), derived);
        assert_eq!(derived.bytes()[..6], maker.bytes()[..6]);
        assert_eq!(derived.to_string().as_bytes()[14], b'7');
        assert!(derived < later);
    }

    #[test]
    fn only_the_hyphenated_form_is_an_id() {
        let id = JobId::new().to_string();

        assert!(id.parse::<JobId>().is_ok());
        assert_eq!(id.replace('-', "").parse::<JobId>(), Err(InvalidId));
        assert_eq!(format!("{{{id}}}").parse::<JobId>(), Err(InvalidId));
        assert_eq!("".parse::<JobId>(), Err(InvalidId));
    }
}
