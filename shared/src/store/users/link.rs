//! Link of a member to a user: made once the account at the identity provider is known.

use bson::DateTime;
use mongodb::ClientSession;

use super::UserRepository;
use crate::{
    member::Member,
    store::{StoreError, VersionedRepository as _},
    user::{Role, User},
};

/// A role that a job granted to a user.
#[derive(Debug, Clone, PartialEq)]
pub struct RoleGrant {
    /// The user, as of now.
    pub user: User,
    /// Whether the user is new.
    pub is_new: bool,
    /// Role in the tenant before.
    pub role_before: Option<Role>,
}

impl UserRepository {
    /// Links `member` to the user with this subject, who is created if unknown, and grants the role of the member. The
    /// caller saves the member.
    ///
    /// A role that the person already has in the tenant stays, and becomes that of the member: an admin who adopts a
    /// person must not change rights that only owners may change. An owner stays one even if the member was suspended
    /// meanwhile.
    pub async fn link_member(
        &self,
        session: &mut ClientSession,
        member: &mut Member,
        subject: &str,
        now: DateTime,
    ) -> Result<RoleGrant, StoreError> {
        let existing = self
            .find_by_subject_in_transaction(session, subject)
            .await?;
        let is_new = existing.is_none();
        let before = match existing {
            Some(user) => user,
            None => {
                self.new_user(session, subject, &member.email, &member.name, now)
                    .await?
            }
        };
        let role_before = before.role_in(member.tenant_id);
        member.role = role_before.unwrap_or(member.role);
        member.user_id = Some(before.id);
        let granted = match role_before {
            Some(Role::Owner) => role_before,
            _ => member.granted_role(),
        };
        let mut user = before.clone();
        user.set_member(member.tenant_id, member.id, granted, now);
        if is_new {
            self.insert(session, &user).await?;
        } else {
            self.save_changed(session, &before, &mut user, now).await?;
        }
        Ok(RoleGrant {
            user,
            is_new,
            role_before,
        })
    }
}
