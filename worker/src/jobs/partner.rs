//! Partner teams at the identity provider.
//!
//! MongoDB is the source of truth for team membership; the partner's group is synchronised with it after each change.
//! Group membership grants no permission by itself. If a late write, whose response was lost, adds a former member again,
//! the next job removes them.

mod group;
mod invitation;
mod team;

use dezky_shared::{
    audit::{Action, AuditEvent, Target},
    id::PartnerId,
    partner::{Partner, PartnerStatus},
    store::Decoded,
    upstream::{PARTNER_INVITATION, PARTNER_TEAM, Upstream},
    user::User,
};
use serde::Deserialize;

use crate::{
    jobs::audit_event,
    steps::{StepContext, StepFailure, Steps},
};

/// Adds an invited person to the team.
pub(super) fn invite() -> Steps {
    Steps::parallel().partial(Upstream::Authentik, PARTNER_INVITATION, invitation::accept)
}

/// Synchronises the group with the team, and stores the members' MFA checks.
pub(super) fn sync() -> Steps {
    Steps::parallel().partial(Upstream::Authentik, PARTNER_TEAM, team::converge)
}

/// Step results, stored as reasons.
mod reason {
    /// The partner was deleted.
    pub(super) const PARTNER_GONE: &str = "PartnerGone";
    /// The partner is terminated.
    pub(super) const PARTNER_TERMINATED: &str = "PartnerTerminated";
    /// The invitation was revoked or has expired.
    pub(super) const INVITATION_REVOKED: &str = "InvitationWithdrawn";
    /// The invited person has an account, and has to accept.
    pub(super) const AWAITS_CONSENT: &str = "AwaitsConsent";
    /// The invited person is a team member.
    pub(super) const JOINED: &str = "Joined";
    /// The group matches the team.
    pub(super) const SYNCED: &str = "Followed";
}

/// The current partner of the job's arguments.
async fn partner_of(run: &StepContext) -> Result<Option<Partner>, StepFailure> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Args {
        partner_id: PartnerId,
    }
    let args: Args = run.args()?;
    Ok(run.ctx.partners.find(args.partner_id).await?)
}

/// Current team members; none for a terminated partner.
async fn team_of(run: &StepContext, partner: &Partner) -> Result<Decoded<User>, StepFailure> {
    match partner.status {
        PartnerStatus::Active => Ok(run.ctx.users.list_team(partner.id).await?),
        PartnerStatus::Terminated => Ok(Decoded::empty()),
    }
}

/// Audit event of the job about a user.
fn event(run: &StepContext, action: Action, user: &User) -> AuditEvent {
    let target = Target::new("user", user.id, &user.email);
    audit_event::event(action, target, None, run.job.id, run.ctx.store.now())
}
