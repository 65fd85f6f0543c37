//! An invitation to a partner's team: who is to join, and the link with which somebody without an account chooses a
//! password. The link is kept sealed until it is shown, once.

use std::time::Duration;

use bson::DateTime;
use serde::{Deserialize, Serialize};

use crate::{
    id::{InvitationId, JobId, PartnerId, UserId},
    platform::clock,
    queue::secret_box::EncryptedSecrets,
    user::PartnerRole,
};

/// How long a link opens.
pub const LINK_TTL: Duration = Duration::from_hours(7 * 24);
/// How long an invitation that is not carried out is kept: longer than its job may take.
const KEPT_FOR: Duration = Duration::from_hours(14 * 24);

/// How far an invitation has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum InvitationState {
    /// Its job has not carried it out yet.
    Pending,
    /// There is a link that nobody has seen.
    Ready,
    /// The link was shown.
    Shown,
    /// There is no link: they have an account that is not the partner's to hand over.
    NoLink,
}

/// A link that nobody has seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SealedLink {
    /// The link.
    pub sealed: EncryptedSecrets,
    /// The job that made it, which it is bound to.
    pub job_id: JobId,
}

/// An invitation, as stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Invitation {
    /// Its id.
    #[serde(rename = "_id")]
    pub id: InvitationId,
    /// The partner.
    pub partner_id: PartnerId,
    /// Whose team it is for: the address, which is the username.
    pub email: String,
    /// Their name, for people.
    pub name: String,
    /// What they may do.
    pub role: PartnerRole,
    /// Who invites them, and alone is shown the link.
    pub invited_by: UserId,
    /// How far it has come.
    pub state: InvitationState,
    /// Whom they turned out to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<UserId>,
    /// The link, while it is [`InvitationState::Ready`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<SealedLink>,
    /// When it is deleted, which is when its link ends.
    pub expire_at: DateTime,
    /// When it was made.
    pub created_at: DateTime,
}

impl Invitation {
    /// An invitation that its job has yet to carry out.
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
            user_id: None,
            link: None,
            expire_at: clock::later(now, KEPT_FOR),
            created_at: now,
        }
    }
}
