//! A user, as their token's groups have it.
//!
//! What came from a claim follows claims; what was set here is left alone. A claim counts only if its token was
//! issued after the last change and after every token whose claim was read before, so that an old token never gives
//! back what was revoked, also to somebody who was deleted.

use std::collections::BTreeSet;

use bson::{DateTime, Document};
use dezky_shared::{
    audit::{Action, Actor, ActorKind, AuditEvent},
    id::TenantId,
    store::{TransactionError, duplicate_key_index, users::SUBJECT_INDEX},
    user::{Membership, MembershipSource, Role, User},
};
use futures::FutureExt as _;

use super::audit::{audited, target};
use crate::{
    auth::Claims,
    error::{ApiError, ProblemCode},
    extract::RequestInfo,
    state::AppState,
};

/// How long a name or an address from a token may be, in characters.
const TEXT_LIMIT: usize = 254;
/// How often a user that somebody else creates at the same moment is looked for again.
const TRIES: usize = 3;

/// What a token says about its bearer's rights.
#[derive(Debug, Clone)]
struct ClaimedRights {
    /// When it was said.
    at: DateTime,
    /// What was said; nothing when there is no such claim.
    groups: Option<Groups>,
    email: Option<String>,
    name: Option<String>,
}

/// What the groups in a token mean.
#[derive(Debug, Clone)]
struct Groups {
    is_admin: bool,
    tenants: BTreeSet<TenantId>,
}

/// The user whom `claims` are about, as they have it now.
pub(super) async fn sync(
    app: &AppState,
    claims: &Claims,
    request: &RequestInfo,
) -> Result<User, ApiError> {
    let said = said(app, claims).await?;
    for _ in 0..TRIES {
        if let Some(user) = app.users.find_by_subject(&claims.sub).await?
            && apply_claims(&user, &said, app.store.now()).is_none()
        {
            return Ok(user);
        }
        match write(app, claims, &said, request).await {
            Ok(user) => return Ok(user),
            Err(TransactionError::Aborted(error)) => return Err(error),
            // Somebody else saw them first, a moment ago.
            Err(TransactionError::Store(error))
                if duplicate_key_index(&error).as_deref() == Some(SUBJECT_INDEX) => {}
            Err(TransactionError::Store(error)) => return Err(error.into()),
        }
    }
    Err(ProblemCode::ServiceUnavailable.into())
}

async fn said(app: &AppState, claims: &Claims) -> Result<ClaimedRights, ApiError> {
    let groups = match &claims.groups {
        None => None,
        Some(names) => {
            let (admins, slugs): (Vec<String>, Vec<String>) = names
                .iter()
                .cloned()
                .partition(|name| app.admin_groups.contains(name));
            let tenants = app.tenants.list_by_slugs(&slugs).await?;
            Some(Groups {
                is_admin: !admins.is_empty(),
                tenants: tenants.into_iter().map(|tenant| tenant.id).collect(),
            })
        }
    };
    let text = |text: &Option<String>| {
        let text: String = text
            .as_ref()?
            .chars()
            .filter(|character| !character.is_control())
            .take(TEXT_LIMIT)
            .collect();
        (!text.trim().is_empty()).then(|| text.trim().to_owned())
    };
    Ok(ClaimedRights {
        at: issued_at(claims, app.store.now()),
        groups,
        email: text(&claims.email).map(|email| email.to_lowercase()),
        name: text(&claims.name),
    })
}

/// When the token was issued; one that does not say so was issued before everything, and none after now: it would
/// silence those that really come later.
fn issued_at(claims: &Claims, now: DateTime) -> DateTime {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a cast saturates, and such times are refused by nobody"
    )]
    let millis = (claims.iat.unwrap_or(0.0) * 1000.0) as i64;
    DateTime::from_millis(millis.max(0)).min(now)
}

async fn write(
    app: &AppState,
    claims: &Claims,
    said: &ClaimedRights,
    request: &RequestInfo,
) -> Result<User, TransactionError<ApiError>> {
    app.store
        .transaction(
            (app, claims, said, request),
            |session, (app, claims, said, request)| {
                async move {
                    let now = app.store.now();
                    let locked = app.users.lock_by_subject(session, &claims.sub).await?;
                    let (action, before, user) = if let Some(user) = locked {
                        let mut changed = apply_claims(&user, said, now).unwrap_or(user.clone());
                        let before = audited(&user);
                        if before == audited(&changed) {
                            // At most the claim's time, which is no version of what anybody sees.
                            changed.revision -= 1;
                            app.users.save(session, &changed).await?;
                            return Ok(changed);
                        }
                        app.users.save(session, &changed).await?;
                        (Action::UserSync, before, changed)
                    } else {
                        let email = said.email.as_deref().unwrap_or_default();
                        let name = said.name.as_deref().unwrap_or(email);
                        let subject = &claims.sub;
                        let user = app
                            .users
                            .new_user(session, subject, email, name, now)
                            .await?;
                        let mut user = apply_claims(&user, said, now).unwrap_or(user);
                        user.last_seen_at = Some(now);
                        app.users.insert(session, &user).await?;
                        (Action::UserCreate, Document::new(), user)
                    };
                    let actor = Actor {
                        id: user.id.to_string(),
                        name: Some(user.name.clone()),
                        email: Some(user.email.clone()),
                        kind: ActorKind::User,
                        audience: claims.aud.clone(),
                    };
                    let event =
                        AuditEvent::new(now, actor, action, target(&user), request.origin())
                            .with_changes(&before, &audited(&user));
                    app.audit.record(session, &event).await?;
                    Ok(user)
                }
                .boxed()
            },
        )
        .await
}

/// `user` after what was said. `None` if that changes nothing.
fn apply_claims(user: &User, said: &ClaimedRights, now: DateTime) -> Option<User> {
    let mut after = user.clone();
    if let Some(groups) = &said.groups {
        follow(&mut after, groups, said.at);
    }
    if said.at > user.updated_at {
        after.email = said.email.clone().unwrap_or(after.email);
        after.name = said.name.clone().unwrap_or(after.name);
    }
    if audited(&after) != audited(user) {
        after.updated_at = now;
        after.last_seen_at = Some(now);
    }
    (after != *user).then_some(after)
}

fn follow(user: &mut User, groups: &Groups, at: DateTime) {
    if Some(at) <= user.claims_at.max(user.deleted_before) {
        return;
    }
    user.claims_at = Some(at);
    if user.platform_admin_source == MembershipSource::Claim
        && at > user.platform_admin_changed_at
        && user.platform_admin != groups.is_admin
    {
        user.platform_admin = groups.is_admin;
        user.platform_admin_changed_at = at;
    }
    for (tenant, membership) in &mut user.memberships {
        let is_listed = groups.tenants.contains(tenant);
        if membership.source == MembershipSource::Claim
            && at > membership.changed_at
            && membership.role.is_some() != is_listed
        {
            membership.role = is_listed.then_some(Role::Member);
            membership.changed_at = at;
        }
    }
    for tenant in &groups.tenants {
        user.memberships.entry(*tenant).or_insert(Membership {
            role: Some(Role::Member),
            source: MembershipSource::Claim,
            changed_at: at,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(at: i64, groups: Option<(bool, &[TenantId])>) -> ClaimedRights {
        ClaimedRights {
            at: DateTime::from_millis(at),
            groups: groups.map(|(is_admin, tenants)| Groups {
                is_admin,
                tenants: tenants.iter().copied().collect(),
            }),
            email: None,
            name: None,
        }
    }

    fn user() -> User {
        User::first_seen("sub", "a@b.test", "A", DateTime::from_millis(0))
    }

    fn after(user: &User, said: &ClaimedRights) -> User {
        apply_claims(user, said, DateTime::from_millis(99)).unwrap_or_else(|| user.clone())
    }

    #[test]
    fn a_claim_gives_and_a_later_one_takes_and_an_old_one_never_gives_back() {
        let tenant = TenantId::new();

        let joined = after(&user(), &said(10, Some((true, &[tenant]))));
        let left = after(&joined, &said(20, Some((false, &[]))));
        let replayed = after(&left, &said(10, Some((true, &[tenant]))));

        assert_eq!(joined.role_in(tenant), Some(Role::Member));
        assert!(joined.platform_admin);
        assert_eq!(left.role_in(tenant), None);
        assert!(left.memberships.contains_key(&tenant), "a tombstone stays");
        assert!(!left.platform_admin);
        assert_eq!(replayed, left);
        assert_eq!(
            after(&left, &said(30, Some((false, &[tenant])))).role_in(tenant),
            Some(Role::Member)
        );
    }

    #[test]
    fn what_was_set_here_is_left_alone() {
        let tenant = TenantId::new();
        let mut user = user();
        user.platform_admin_source = MembershipSource::Local;
        user.memberships.insert(
            tenant,
            Membership {
                role: Some(Role::Owner),
                source: MembershipSource::Local,
                changed_at: DateTime::from_millis(5),
            },
        );

        for tenants in [&[] as &[TenantId], &[tenant]] {
            let followed = after(&user, &said(50, Some((true, tenants))));

            assert_eq!(followed.memberships, user.memberships);
            assert!(!followed.platform_admin);
        }
    }

    #[test]
    fn no_groups_claim_changes_nothing() {
        let tenant = TenantId::new();
        let joined = after(&user(), &said(10, Some((true, &[tenant]))));

        assert!(apply_claims(&joined, &said(50, None), DateTime::from_millis(99)).is_none());
    }

    #[test]
    fn the_same_claim_twice_changes_nothing() {
        let tenant = TenantId::new();
        let joined = after(&user(), &said(10, Some((true, &[tenant]))));

        assert!(
            apply_claims(
                &joined,
                &said(10, Some((true, &[tenant]))),
                DateTime::from_millis(99)
            )
            .is_none()
        );
    }
}
