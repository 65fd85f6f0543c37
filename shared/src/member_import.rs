//! Import of members: many new members of a tenant from one file.
//!
//! The rows are stored when the import is accepted. A job of its own
//! ([`ImportMembers`](crate::queue::args::ImportMembers)) creates the members, and settles each row in the transaction that
//! creates its member.

use std::time::Duration;

use bson::{DateTime, oid::ObjectId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    audit::{Actor, Origin},
    id::{JobId, MemberId, MemberImportId, TenantId},
    member::{AddressError, InvalidAddress, MemberStatus, NewMember, Rejection},
    queue::secret_box::EncryptedSecrets,
};

/// Maximum number of rows of an import.
pub const MAX_ROWS: usize = 5_000;
/// Maximum number of errors of a row.
pub const MAX_ROW_ERRORS: usize = 10;
/// Retention of a one-time password that is not fetched, from its creation.
pub const PASSWORDS_KEPT: Duration = Duration::from_hours(24);

/// Import of members, as stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberImport {
    /// Unique id.
    #[serde(rename = "_id")]
    pub id: MemberImportId,
    /// Tenant.
    pub tenant_id: TenantId,
    /// Whether an owner or an operator requested it: reserved local parts are then allowed as aliases.
    pub by_owner: bool,
    /// Number of rows.
    pub total: i64,
    /// Rows whose member was created.
    pub created: i64,
    /// Rows whose member existed already.
    pub exists: i64,
    /// Rows that were refused.
    pub refused: i64,
    /// Job that runs the import.
    pub job_id: JobId,
    /// Requester.
    pub actor: Actor,
    /// Originating request.
    pub origin: Origin,
    /// Time of acceptance.
    pub created_at: DateTime,
    /// Time at which the last row was settled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<DateTime>,
    /// Expiry (TTL index).
    pub expire_at: DateTime,
}

/// Outcome of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = TenantUserImportRowOutcome)]
pub enum RowOutcome {
    /// Not processed yet.
    Pending,
    /// The member was created.
    Created,
    /// The tenant has a member with this login.
    Exists,
    /// The member was not created.
    Refused,
}

impl RowOutcome {
    /// Name in documents and on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Created => "created",
            Self::Exists => "exists",
            Self::Refused => "refused",
        }
    }
}

/// Location of the one-time password of a created member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RowPassword {
    /// In the file of passwords, until it is fetched or expires.
    InFile,
    /// Handed over.
    Fetched,
}

/// Error of a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RowError {
    /// JSON Pointer to the field; missing for the row as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    /// Stable code: of a field, or a problem code of the api.
    pub code: String,
    /// Explanation; missing where that of the problem code says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl RowError {
    /// An error of the row as a whole, with the explanation of this problem code.
    pub fn of_code(code: &str) -> Self {
        Self {
            pointer: None,
            code: code.to_owned(),
            message: None,
        }
    }

    /// An error of a field.
    pub fn at(pointer: &str, code: &str, message: impl Into<String>) -> Self {
        Self {
            pointer: Some(pointer.to_owned()),
            code: code.to_owned(),
            message: Some(message.into()),
        }
    }

    /// The errors of addresses that cannot be had.
    pub fn of_address(error: AddressError) -> Vec<Self> {
        match error {
            AddressError::NoMailDomain => vec![Self::of_code("no_mail_domain")],
            AddressError::DomainRemoving => vec![Self::of_code("domain_removing")],
            AddressError::ReservedAlias => vec![Self {
                pointer: Some("/aliases".to_owned()),
                ..Self::of_code("forbidden")
            }],
            AddressError::Invalid(fields) => {
                let fields = fields.into_iter();
                let error =
                    |field: InvalidAddress| Self::at(&field.pointer, field.code, field.message);
                fields.map(error).collect()
            }
        }
    }
}

/// Row of an import, as stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImportRow {
    /// Unique id, not referenced elsewhere.
    #[serde(rename = "_id")]
    pub id: ObjectId,
    /// Import id.
    pub import_id: MemberImportId,
    /// Position, from 1.
    pub n: i64,
    /// Line of the file at which it begins, from 1.
    pub line: i64,
    /// Login or local part as in the file, to recognize the row by.
    pub label: String,
    /// The new member; missing for a row with invalid fields.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<NewMember>,
    /// Outcome.
    pub outcome: RowOutcome,
    /// Errors of the row.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<RowError>,
    /// The member that was created, or existed already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member_id: Option<MemberId>,
    /// Location of the one-time password; missing if the member has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<RowPassword>,
    /// Time at which a password that is not fetched expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_expires_at: Option<DateTime>,
    /// Time of processing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<DateTime>,
    /// Expiry (TTL index).
    pub expire_at: DateTime,
}

impl ImportRow {
    /// Refuses the row.
    pub fn refuse(&mut self, errors: Vec<RowError>) {
        self.outcome = RowOutcome::Refused;
        self.errors = errors;
        self.errors.truncate(MAX_ROW_ERRORS);
    }

    /// Decides a row whose member is not admitted: one that exists needs no change, so that a file can be sent again.
    pub fn reject(&mut self, rejection: Rejection) {
        match rejection {
            Rejection::Exists { holder, .. } if holder.status == MemberStatus::Removing => {
                self.refuse(vec![RowError::of_code("member_removing")]);
            }
            Rejection::Exists { holder, .. } => {
                self.outcome = RowOutcome::Exists;
                self.member_id = Some(holder.id);
            }
            Rejection::Address(error) => self.refuse(RowError::of_address(error)),
            Rejection::AddressTaken(address) => {
                let message = format!("{address} belongs to a member already.");
                self.refuse(vec![RowError {
                    message: Some(message),
                    ..RowError::of_code("address_taken")
                }]);
            }
            Rejection::ForeignLogin => {
                self.refuse(vec![RowError::of_code("login_in_foreign_domain")]);
            }
            Rejection::TooManyMembers => self.refuse(vec![RowError::of_code("too_many_members")]),
            Rejection::NoSeats => self.refuse(vec![RowError::of_code("no_seats")]),
        }
    }
}

/// One-time password of an imported member, as stored until it is fetched or expires: the encrypted secrets of the job that
/// provisions the member.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImportedPassword {
    /// Id of the job that provisions the member, to which the ciphertext is bound.
    #[serde(rename = "_id")]
    pub job_id: JobId,
    /// Import id.
    pub import_id: MemberImportId,
    /// Member.
    pub member_id: MemberId,
    /// [`MemberSecrets`](crate::member::MemberSecrets).
    pub secrets: EncryptedSecrets,
    /// Expiry (TTL index).
    pub expire_at: DateTime,
}
