//! Typed ids: one newtype for each kind, so that they cannot be swapped.
//!
//! All are `UUIDv7`: unique without coordination, and sorted by creation time. Stored as BSON binary subtype 4;
//! hyphenated everywhere else.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Error: the text is not a valid id.
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
            /// A new id, later than all created before.
            #[expect(clippy::new_without_default, reason = "an id is never a default")]
            pub fn new() -> Self {
                Self(uuid::Uuid::now_v7().into())
            }

            /// The first id of those that are created at this time, as a bound of a search.
            pub fn first_of(time: bson::DateTime) -> Self {
                let millis = time.timestamp_millis().clamp(0, (1 << 48) - 1);
                let mut bytes = [0; 16];
                bytes[..6].copy_from_slice(&millis.to_be_bytes()[2..]);
                Self(bson::Uuid::from_bytes(bytes))
            }

            /// The id with these bytes.
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
                // Only the hyphenated form is accepted: one id, one spelling.
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
    /// A bulk job operation.
    JobOperationId;
    /// A tenant's claim to a mail domain.
    DomainId;
    /// A tenant's app: an OIDC relying party.
    AppId;
    /// A tenant.
    TenantId;
    /// A user. The identity provider's id is a different one.
    UserId;
    /// A member of a tenant.
    MemberId;
    /// An import of members.
    MemberImportId;
    /// A partner that sells workspaces.
    PartnerId;
    /// An invitation to a partner's team.
    InvitationId;
    /// A subscription.
    SubscriptionId;
    /// An invoice.
    InvoiceId;
    /// An entry of a partner's ledger.
    LedgerEntryId;
    /// A payout to a partner.
    PayoutId;
    /// Setup intent id: an entry of a card.
    SetupIntentId;
    /// The price of a plan.
    PriceId;
    /// A saved report.
    SavedReportId;
    /// A subscription snapshot of a tenant and month.
    SnapshotId;
    /// An entry of the audit trail.
    AuditEventId;
    /// A worker process, from its start to its end.
    WorkerId;
    /// Fencing token of a job's lease: a writer with another token has lost the lease.
    LeaseToken;
}

impl JobId {
    /// Deterministic id of the job that `parent` creates for `subject`, sorted next to the parent's id.
    pub fn deterministic(parent: Self, subject: &str) -> Self {
        Self::from_bytes(deterministic(parent.bytes(), subject))
    }
}

impl PayoutId {
    /// Deterministic id of the payout to `partner` in `currency` for the month that ends at `end`, by which payouts are
    /// sorted.
    pub fn deterministic(partner: PartnerId, currency: &str, end: bson::DateTime) -> Self {
        let mut seed = partner.bytes();
        seed[..6].copy_from_slice(&end.timestamp_millis().to_be_bytes()[2..]);
        Self::from_bytes(deterministic(seed, currency))
    }
}

impl SnapshotId {
    /// Deterministic id of the snapshot of `tenant` for `month`, sorted by the tenant's creation time.
    pub fn deterministic(tenant: TenantId, month: &str) -> Self {
        Self::from_bytes(deterministic(tenant.bytes(), month))
    }
}

/// Deterministic UUID of an id and a name, with the id's timestamp.
fn deterministic(from: [u8; 16], name: &str) -> [u8; 16] {
    let hashed = uuid::Uuid::new_v5(&uuid::Uuid::from_bytes(from), name.as_bytes());
    let mut bytes = *hashed.as_bytes();
    // Timestamp and version of the given id; the variant is the same in both.
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
    fn a_deterministic_id_is_stable_and_sorts_next_to_its_makers() {
        let (parent, later) = (JobId::new(), JobId::from_bytes([0xff; 16]));

        let derived = JobId::deterministic(parent, "acme");

        assert_eq!(JobId::deterministic(parent, "acme"), derived);
        assert_ne!(JobId::deterministic(parent, "other"), derived);
        assert_ne!(JobId::deterministic(later, "acme"), derived);
        assert_eq!(derived.bytes()[..6], parent.bytes()[..6]);
        assert_eq!(derived.to_string().as_bytes()[14], b'7');
        assert!(derived < later);
    }

    #[test]
    fn only_the_hyphenated_form_is_accepted() {
        let id = JobId::new().to_string();

        assert!(id.parse::<JobId>().is_ok());
        assert_eq!(id.replace('-', "").parse::<JobId>(), Err(InvalidId));
        assert_eq!(format!("{{{id}}}").parse::<JobId>(), Err(InvalidId));
        assert_eq!("".parse::<JobId>(), Err(InvalidId));
    }
}
