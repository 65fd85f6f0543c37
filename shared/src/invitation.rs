//! Invitation to a partner's team. A person without an account chooses a password with a recovery link, which is stored
//! encrypted until it is shown, once. The owner of an existing account joins by accepting the invitation.

use std::time::Duration;

use bson::DateTime;
use serde::{Deserialize, Serialize};

use crate::{
    id::{InvitationId, JobId, PartnerId, UserId},
    platform::clock,
    queue::secret_box::EncryptedSecrets,
    user::PartnerRole,
};

/// Validity of a recovery link.
pub const LINK_TTL: Duration = Duration::from_hours(7 * 24);
/// Retention of an invitation that is not accepted: longer than its job may take.
const KEPT_FOR: Duration = Duration::from_hours(14 * 24);

/// State of an invitation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum InvitationState {
    /// Not yet processed by its job.
    Pending,
    /// The link exists and has not been shown.
    Ready,
    /// The link was shown.
    Shown,
    /// No link: the person has an account that the partner may not hand over.
    NoLink,
    /// The person has an account, and has not accepted yet.
    AwaitingConsent,
}

/// Encrypted link that has not been shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EncryptedLink {
    /// The encrypted link.
    #[serde(rename = "sealed")]
    pub secrets: EncryptedSecrets,
    /// Job that created the link and to which the encryption is bound.
    pub job_id: JobId,
}

/// Invitation, as stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Invitation {
    /// Unique id.
    #[serde(rename = "_id")]
    pub id: InvitationId,
    /// The partner.
    pub partner_id: PartnerId,
    /// Invited address, which is the username.
    pub email: String,
    /// Display name.
    pub name: String,
    /// Role in the team.
    pub role: PartnerRole,
    /// Inviting user, the only one who is shown the link.
    pub invited_by: UserId,
    /// Current state.
    pub state: InvitationState,
    /// Id at the identity provider of the account that was invited, from [`InvitationState::AwaitingConsent`] on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Time at which the account's owner accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted_at: Option<DateTime>,
    /// Resulting user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<UserId>,
    /// The link, while the state is [`InvitationState::Ready`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<EncryptedLink>,
    /// Expiry of the document and of its link.
    pub expire_at: DateTime,
    /// Creation time.
    pub created_at: DateTime,
}

impl Invitation {
    /// A new invitation, to be processed by its job.
    pub fn new(
        partner_id: PartnerId,
        email: &str,
        name: &str,
        role: PartnerRole,
        invited_by: UserId,
        now: DateTime,
    ) -> Self {
        Self {
            id: InvitationId::new(),
            partner_id,
            email: email.to_owned(),
            name: name.to_owned(),
            role,
            invited_by,
            state: InvitationState::Pending,
            subject: None,
            accepted_at: None,
            user_id: None,
            link: None,
            expire_at: clock::later(now, KEPT_FOR),
            created_at: now,
        }
    }
}
