//! Accounts of a member at the identity provider and on the file server.

use bson::DateTime;
use serde::{Deserialize, Serialize};

/// Origin of an account: whether it existed before the member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AccountOrigin {
    /// Created for this member.
    Created,
    /// Existed already. Its password is never set, and it is neither deactivated nor deleted.
    Adopted,
}

/// Account at the identity provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SignInAccount {
    /// Number at the identity provider.
    pub pk: i64,
    /// UUID at the identity provider: the token's `sub`, and [`User::authentik_subject_id`](crate::user::User::authentik_subject_id).
    pub subject: String,
    /// Origin of the account.
    pub origin: AccountOrigin,
    /// [`Member::password_issued_at`](super::Member::password_issued_at) of the password that was last set here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_issued_at: Option<DateTime>,
}

/// User on the file server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FilesAccount {
    /// Id on the file server.
    pub user_id: String,
    /// Origin of the user.
    pub origin: AccountOrigin,
    /// Whether the suspension of the member disabled the user, so that a resume enables it again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,
}
