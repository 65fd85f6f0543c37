//! A partner's team at the identity provider.
//!
//! Who works for a partner is what MongoDB says. Its group follows, whatever the reason: somebody was invited, removed,
//! or the partner was terminated. Being in the group gives no right by itself: should a write whose answer was lost land
//! after a later job has looked, somebody is in it for longer than they should be, and the next job takes them out.

mod group;
mod invitation;
mod team;

use dezky_shared::{
    audit::{Action, Actor, AuditEvent, Origin, Target},
    id::PartnerId,
    partner::{Partner, PartnerStatus},
    queue::error_code::ErrorCode,
    upstream::{PARTNER_INVITATION, PARTNER_TEAM, Upstream},
    user::User,
};
use serde::Deserialize;

use crate::steps::{StepContext, StepFailure, Steps};

/// Making somebody a member of the team.
pub(super) fn invite() -> Steps {
    let through = Upstream::Authentik;
    Steps::parallel().partial(through, PARTNER_INVITATION, invitation::accept)
}

/// Bringing the group to who works for the partner, and counting their MFA devices.
pub(super) fn sync() -> Steps {
    let through = Upstream::Authentik;
    Steps::parallel().partial(through, PARTNER_TEAM, team::converge)
}

/// Where a partner's jobs leave things.
mod reason {
    /// There is no such partner.
    pub(super) const PARTNER_GONE: &str = "PartnerGone";
    /// The partner has left.
    pub(super) const PARTNER_TERMINATED: &str = "PartnerTerminated";
    /// The invitation was taken back, or its time is over.
    pub(super) const INVITATION_WITHDRAWN: &str = "InvitationWithdrawn";
    /// They work for the partner.
    pub(super) const JOINED: &str = "Joined";
    /// The group is as the team.
    pub(super) const FOLLOWED: &str = "Followed";
}

/// The partner that a job is about, as it is now.
async fn partner_of(run: &StepContext) -> Result<Option<Partner>, StepFailure> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct About {
        partner_id: PartnerId,
    }
    let about: About = run
        .job
        .args()
        .map_err(|error| StepFailure::new(ErrorCode::Internal, error.to_string()))?;
    Ok(run.ctx.partners.find(about.partner_id).await?)
}

/// Who works for the partner now: nobody once it was terminated.
async fn team_of(run: &StepContext, partner: &Partner) -> Result<Vec<User>, StepFailure> {
    match partner.status {
        PartnerStatus::Active => Ok(run.ctx.users.list_team(partner.id).await?),
        PartnerStatus::Terminated => Ok(Vec::new()),
    }
}

/// What a job did about somebody, for the audit trail.
fn event(run: &StepContext, action: Action, user: &User) -> AuditEvent {
    let target = Target {
        kind: "user".to_owned(),
        id: user.id.to_string(),
        name: user.email.clone(),
    };
    let now = run.ctx.store.now();
    let mut event = AuditEvent::new(now, Actor::system(), action, target, Origin::default());
    event.job_id = Some(run.job.id);
    event
}
