//! The users, found by the identity provider's subject alone.

use std::sync::Arc;

use bson::{DateTime, doc};
use futures::TryStreamExt as _;
use mongodb::{
    ClientSession, Collection, IndexModel,
    options::{IndexOptions, ReturnDocument},
};

use super::{Store, StoreError, known};
use crate::{
    id::{TenantId, UserId},
    user::{Membership, MembershipSource, Role, User},
};

/// The name of the index that keeps a subject from having two users.
pub const SUBJECT_INDEX: &str = "authentikSubjectId";

/// The users.
#[derive(Debug, Clone)]
pub struct UserRepository {
    users: Collection<User>,
}

impl UserRepository {
    /// The users in `store`.
    pub fn new(store: &Arc<Store>) -> Self {
        Self {
            users: store.collection("users"),
        }
    }

    /// Makes the indexes.
    pub async fn ensure_indexes(&self) -> Result<(), StoreError> {
        let by_subject = IndexOptions::builder()
            .name(SUBJECT_INDEX.to_owned())
            .unique(true)
            .build();
        let by_subject = IndexModel::builder()
            .keys(doc! { "authentikSubjectId": 1 })
            .options(by_subject)
            .build();
        let by_tenant = IndexModel::builder()
            .keys(doc! { "memberships.tenantId": 1 })
            .build();
        self.users.create_indexes([by_subject, by_tenant]).await?;
        Ok(())
    }

    /// The user whom the identity provider calls `subject`.
    pub async fn find_by_subject(&self, subject: &str) -> Result<Option<User>, StoreError> {
        self.users
            .find_one(doc! { "authentikSubjectId": subject })
            .await
    }

    /// The same, to be written in this transaction: its revision is already one more.
    pub async fn lock_by_subject(
        &self,
        session: &mut ClientSession,
        subject: &str,
    ) -> Result<Option<User>, StoreError> {
        self.users
            .find_one_and_update(
                doc! { "authentikSubjectId": subject },
                doc! { "$inc": { "revision": 1 } },
            )
            .return_document(ReturnDocument::After)
            .session(session)
            .await
    }

    /// The user with this id, to be written in this transaction: its revision is already one more.
    pub async fn lock(
        &self,
        session: &mut ClientSession,
        id: UserId,
    ) -> Result<Option<User>, StoreError> {
        self.users
            .find_one_and_update(doc! { "_id": id }, doc! { "$inc": { "revision": 1 } })
            .return_document(ReturnDocument::After)
            .session(session)
            .await
    }

    /// Adds a user. A second one with the same subject violates [`SUBJECT_INDEX`].
    pub async fn insert(&self, session: &mut ClientSession, user: &User) -> Result<(), StoreError> {
        self.users.insert_one(user).session(session).await?;
        Ok(())
    }

    /// Leaves a user that was locked in this transaction as it was before.
    pub async fn unlock(&self, session: &mut ClientSession, id: UserId) -> Result<(), StoreError> {
        self.users
            .update_one(doc! { "_id": id }, doc! { "$inc": { "revision": -1_i64 } })
            .session(session)
            .await?;
        Ok(())
    }

    /// Writes a user that was locked in this transaction.
    pub async fn save(&self, session: &mut ClientSession, user: &User) -> Result<(), StoreError> {
        self.users
            .update_one(doc! { "_id": user.id }, known::update_to(user)?)
            .session(session)
            .await?;
        Ok(())
    }

    /// The id and revision of each of these users that exists.
    pub async fn revisions(&self, ids: &[UserId]) -> Result<Vec<(UserId, i64)>, StoreError> {
        #[derive(serde::Deserialize)]
        struct Revision {
            #[serde(rename = "_id")]
            id: UserId,
            revision: i64,
        }
        let revisions: Vec<Revision> = self
            .users
            .clone_with_type()
            .find(doc! { "_id": { "$in": ids.to_vec() } })
            .projection(doc! { "revision": 1 })
            .await?
            .try_collect()
            .await?;
        Ok(revisions
            .into_iter()
            .map(|user| (user.id, user.revision))
            .collect())
    }

    /// How many owners `tenant` has.
    pub async fn count_owners(
        &self,
        session: &mut ClientSession,
        tenant: TenantId,
    ) -> Result<u64, StoreError> {
        let owners =
            doc! { "memberships": { "$elemMatch": { "tenantId": tenant, "role": "owner" } } };
        self.users.count_documents(owners).session(session).await
    }

    /// Whether one of `subjects` is an operator of ours.
    pub async fn list_operators(&self, subjects: &[&str]) -> Result<Vec<String>, StoreError> {
        let operators = doc! { "authentikSubjectId": { "$in": subjects }, "platformAdmin": true };
        let users: Vec<User> = self.users.find(operators).await?.try_collect().await?;
        Ok(users
            .into_iter()
            .map(|user| user.authentik_subject_id)
            .collect())
    }

    /// Makes the person a new workspace is for its owner, unless that was decided here before: then there is nothing to
    /// return, else the user as they are now, and their role as it was.
    pub async fn grant_ownership(
        &self,
        session: &mut ClientSession,
        subject: &str,
        email: &str,
        name: &str,
        tenant: TenantId,
        now: DateTime,
    ) -> Result<Option<Granted>, StoreError> {
        let membership = Membership {
            role: Some(Role::Owner),
            source: MembershipSource::Local,
            changed_at: now,
        };
        let known = self.lock_by_subject(session, subject).await?;
        let is_new = known.is_none();
        let mut user = known.unwrap_or_else(|| User::first_seen(subject, email, name, now));
        let before = user.memberships.insert(tenant, membership);
        if before
            .as_ref()
            .is_some_and(|known| known.source == MembershipSource::Local)
        {
            return self.unlock(session, user.id).await.map(|()| None);
        }
        if is_new {
            self.insert(session, &user).await?;
        } else {
            user.updated_at = now;
            self.save(session, &user).await?;
        }
        Ok(Some(Granted {
            is_new,
            role_before: before.and_then(|membership| membership.role),
            user,
        }))
    }
}

/// Somebody who was made an owner.
#[derive(Debug, Clone, PartialEq)]
pub struct Granted {
    /// Who, as they are now.
    pub user: User,
    /// Whether they were not known before.
    pub is_new: bool,
    /// Their role as it was.
    pub role_before: Option<Role>,
}
