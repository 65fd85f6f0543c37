//! The partner's group: in it are those who work for the partner, and nobody else.

use dezky_shared::{
    clients::{
        Mode,
        authentik::{Authentik, Group, User as Account},
    },
    id::UserId,
    partner::{Partner, PartnerStatus},
    user::User,
};
use futures::FutureExt as _;

use super::team_of;
use crate::work::{StepFailure, StepRun};

/// What following the team came to.
#[derive(Default)]
pub(super) struct Followed {
    /// What was changed.
    pub(super) changes: Vec<String>,
    /// Whoever is in the group now, and the number of their account.
    pub(super) team: Vec<(UserId, i64)>,
}

/// Brings the group to who works for the partner now.
pub(super) async fn follow(
    run: &StepRun,
    client: &Authentik,
    partner: &Partner,
) -> Result<Followed, StepFailure> {
    let mut followed = Followed::default();
    let changes = &mut followed.changes;
    let Some(group) = group_of(run, client, partner, changes).await? else {
        return Ok(followed);
    };
    let team = team_of(run, partner).await?;
    let members = client.list_members(&group.id).await?;

    for member in &members {
        if team.iter().any(|user| is_account_of(member, user)) {
            continue;
        }
        // First the sessions: whoever is still in the group when this is tried again is still to be signed out.
        client.end_sessions(member).await?;
        client.remove_member(&group.id, member.pk).await?;
        changes.push("member removed from group".to_owned());
    }
    for user in &team {
        let account = members.iter().find(|member| is_account_of(member, user));
        let account = if let Some(member) = account {
            member.clone()
        } else {
            // An account that was deleted comes back with an invitation alone.
            let subject = &user.authentik_subject_id;
            let Some(account) = client.find_subject(subject).await? else {
                continue;
            };
            client.add_member(&group.id, account.pk).await?;
            changes.push("member added to group".to_owned());
            account
        };
        // Suspended tenants keep nobody out who works for a partner.
        for tenant_id in account.frozen_by() {
            let lifted = client
                .unfreeze_user(&account, tenant_id, Mode::Apply)
                .await?;
            changes.extend(lifted.changes);
        }
        followed.team.push((user.id, account.pk));
    }
    Ok(followed)
}

fn is_account_of(account: &Account, user: &User) -> bool {
    account.uuid == user.authentik_subject_id
}

/// The partner's group. A partner that was terminated is given none.
async fn group_of(
    run: &StepRun,
    client: &Authentik,
    partner: &Partner,
    changes: &mut Vec<String>,
) -> Result<Option<Group>, StepFailure> {
    let id = partner.id.to_string();
    let known = partner.authentik_group_id.as_deref();
    if partner.status == PartnerStatus::Terminated {
        return Ok(client.find_partner_group(&id, known).await?);
    }
    let ensured = client
        .ensure_partner_group(&partner.group_name(), &partner.slug, &id, known)
        .await?;
    changes.extend(ensured.changes);
    if let Some(group) = &ensured.value
        && known != Some(group.id.as_str())
    {
        let found = (run, partner.id, group.id.as_str());
        run.write(found, |session, (run, partner_id, group_id)| {
            let partners = &run.ctx.partners;
            partners.set_group(session, *partner_id, group_id).boxed()
        })
        .await?;
    }
    Ok(ensured.value)
}
