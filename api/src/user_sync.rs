//! Synchronization of users with the claims in their tokens.
//!
//! Permissions that came from a claim follow later claims; permissions set in this service never do. A claim counts
//! only if its token was issued after the last change and after every token whose claims were applied, so an old token
//! never restores a revoked permission, not even after the user was deleted.

use std::collections::BTreeSet;

use bson::{DateTime, Document};
use dezky_shared::{
    audit::{Action, Actor, ActorKind, AuditEvent},
    id::TenantId,
    store::{
        TransactionError, VersionedRepository as _, duplicate_key_index, users::SUBJECT_INDEX,
    },
    unicode::composed,
    user::{Membership, MembershipSource, Role, User},
};
use futures::FutureExt as _;

use crate::{
    access_control::AccessControl,
    auth::Claims,
    error::{ApiError, ProblemCode},
    request_info::RequestInfo,
    user_audit::{audited, target},
};

/// Maximum length of a name or an address from a token, in characters.
const TEXT_LIMIT: usize = 254;
/// Attempts to find a user that another request creates concurrently.
const ATTEMPTS: usize = 3;

/// The permissions that a token claims for its bearer.
#[derive(Debug, Clone)]
struct ClaimedPermissions {
    /// Issue time of the token.
    at: DateTime,
    /// Groups; `None` without the claim.
    groups: Option<Groups>,
    email: Option<String>,
    name: Option<String>,
}

/// The meaning of the groups in a token.
#[derive(Debug, Clone)]
struct Groups {
    is_admin: bool,
    tenants: BTreeSet<TenantId>,
}

/// The user that `claims` identify, created or updated from them.
pub async fn sync(
    access: &AccessControl,
    claims: &Claims,
    request: &RequestInfo,
) -> Result<User, ApiError> {
    let claimed = claimed_permissions(access, claims).await?;
    for _ in 0..ATTEMPTS {
        if let Some(user) = access.users.find_by_subject(&claims.sub).await?
            && apply_claims(&user, &claimed, access.store.now()).is_none()
        {
            return Ok(user);
        }
        match write(access, claims, &claimed, request).await {
            Ok(user) => return Ok(user),
            Err(TransactionError::Aborted(error)) => return Err(error),
            // A concurrent request created the user.
            Err(TransactionError::Store(error))
                if duplicate_key_index(&error).as_deref() == Some(SUBJECT_INDEX) => {}
            Err(TransactionError::Store(error)) => return Err(error.into()),
        }
    }
    Err(ProblemCode::ServiceUnavailable.into())
}

async fn claimed_permissions(
    access: &AccessControl,
    claims: &Claims,
) -> Result<ClaimedPermissions, ApiError> {
    let groups = match &claims.groups {
        None => None,
        Some(names) => {
            let (admins, slugs): (Vec<String>, Vec<String>) = names
                .iter()
                .cloned()
                .partition(|name| access.admin_groups.contains(name));
            let tenants = access.tenants.ids_by_slugs(&slugs).await?;
            Some(Groups {
                is_admin: !admins.is_empty(),
                tenants: tenants.into_iter().collect(),
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
        (!text.trim().is_empty()).then(|| composed(text.trim()).into_owned())
    };
    Ok(ClaimedPermissions {
        at: issued_at(claims, access.store.now()),
        groups,
        email: text(&claims.email).map(|email| email.to_lowercase()),
        name: text(&claims.name),
    })
}

/// The issue time of the token: the epoch if missing, and at most the current time, because a time in the future would
/// disable the claims of later tokens.
fn issued_at(claims: &Claims, now: DateTime) -> DateTime {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the cast saturates, and no check rejects such times"
    )]
    let millis = (claims.iat.unwrap_or(0.0) * 1000.0) as i64;
    DateTime::from_millis(millis.max(0)).min(now)
}

async fn write(
    access: &AccessControl,
    claims: &Claims,
    claimed: &ClaimedPermissions,
    request: &RequestInfo,
) -> Result<User, TransactionError<ApiError>> {
    access
        .store
        .transaction(
            (access, claims, claimed, request),
            |session, (access, claims, claimed, request)| {
                async move {
                    let now = access.store.now();
                    let users = &access.users;
                    let found = users
                        .find_by_subject_in_transaction(session, &claims.sub)
                        .await?;
                    let (action, before, user) = if let Some(before) = found {
                        let Some(mut user) = apply_claims(&before, claimed, now) else {
                            return Ok(before);
                        };
                        if audited(&before) == audited(&user) {
                            // Only the time of the claims differs, which is not part of the visible version.
                            users.save(session, &user).await?;
                            return Ok(user);
                        }
                        users.save_changed(session, &before, &mut user, now).await?;
                        (Action::UserSync, audited(&before), user)
                    } else {
                        let email = claimed.email.as_deref().unwrap_or_default();
                        let name = claimed.name.as_deref().unwrap_or(email);
                        let subject = &claims.sub;
                        let new = users.new_user(session, subject, email, name, now).await?;
                        let mut user = apply_claims(&new, claimed, now).unwrap_or(new);
                        user.last_seen_at = Some(now);
                        users.insert(session, &user).await?;
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
                    access.audit.record(session, &event).await?;
                    Ok(user)
                }
                .boxed()
            },
        )
        .await
}

/// `user` with the claims applied. `None` if nothing changes.
fn apply_claims(user: &User, claimed: &ClaimedPermissions, now: DateTime) -> Option<User> {
    let mut after = user.clone();
    if let Some(groups) = &claimed.groups {
        apply_groups(&mut after, groups, claimed.at);
    }
    if claimed.at > user.updated_at {
        after.email = claimed.email.clone().unwrap_or(after.email);
        after.name = claimed.name.clone().unwrap_or(after.name);
    }
    if audited(&after) != audited(user) {
        after.updated_at = now;
        after.last_seen_at = Some(now);
    }
    (after != *user).then_some(after)
}

fn apply_groups(user: &mut User, groups: &Groups, at: DateTime) {
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
    // No tombstone of a lost membership is needed: the time of the claims keeps older tokens from restoring it. Those of
    // earlier builds are removed as well.
    user.memberships.retain(|tenant, membership| {
        let is_outdated = membership.role.is_none()
            || at > membership.changed_at && !groups.tenants.contains(tenant);
        membership.source != MembershipSource::Claim || !is_outdated
    });
    for tenant in &groups.tenants {
        user.memberships.entry(*tenant).or_insert(Membership {
            role: Some(Role::Member),
            source: MembershipSource::Claim,
            changed_at: at,
            member_id: None,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claimed(at: i64, groups: Option<(bool, &[TenantId])>) -> ClaimedPermissions {
        ClaimedPermissions {
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

    fn after(user: &User, claimed: &ClaimedPermissions) -> User {
        apply_claims(user, claimed, DateTime::from_millis(99)).unwrap_or_else(|| user.clone())
    }

    #[test]
    fn a_claim_grants_a_later_one_revokes_and_a_replayed_one_restores_nothing() {
        let tenant = TenantId::new();

        let joined = after(&user(), &claimed(10, Some((true, &[tenant]))));
        let left = after(&joined, &claimed(20, Some((false, &[]))));
        let replayed = after(&left, &claimed(10, Some((true, &[tenant]))));

        assert_eq!(joined.role_in(tenant), Some(Role::Member));
        assert!(joined.platform_admin);
        assert_eq!(left.role_in(tenant), None);
        assert!(left.memberships.is_empty(), "no tombstone stays");
        assert!(!left.platform_admin);
        assert_eq!(replayed, left);
        assert_eq!(
            after(&left, &claimed(30, Some((false, &[tenant])))).role_in(tenant),
            Some(Role::Member)
        );
    }

    #[test]
    fn permissions_set_in_this_service_ignore_claims() {
        let tenant = TenantId::new();
        let mut user = user();
        user.platform_admin_source = MembershipSource::Local;
        user.memberships.insert(
            tenant,
            Membership {
                role: Some(Role::Owner),
                source: MembershipSource::Local,
                changed_at: DateTime::from_millis(5),
                member_id: None,
            },
        );

        for tenants in [&[] as &[TenantId], &[tenant]] {
            let synced = after(&user, &claimed(50, Some((true, tenants))));

            assert_eq!(synced.memberships, user.memberships);
            assert!(!synced.platform_admin);
        }
    }

    #[test]
    fn a_token_without_the_groups_claim_changes_nothing() {
        let tenant = TenantId::new();
        let joined = after(&user(), &claimed(10, Some((true, &[tenant]))));

        assert!(apply_claims(&joined, &claimed(50, None), DateTime::from_millis(99)).is_none());
    }

    #[test]
    fn a_repeated_claim_changes_nothing() {
        let tenant = TenantId::new();
        let joined = after(&user(), &claimed(10, Some((true, &[tenant]))));

        assert!(
            apply_claims(
                &joined,
                &claimed(10, Some((true, &[tenant]))),
                DateTime::from_millis(99)
            )
            .is_none()
        );
    }
}
