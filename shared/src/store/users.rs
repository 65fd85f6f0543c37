//! User repository. Users are identified by the identity provider's subject alone.

mod link;
mod mfa;
mod team;

use std::{collections::HashMap, sync::Arc, time::Duration};

use bson::{Bson, DateTime, Document, doc};
use futures::TryStreamExt as _;
use mongodb::{ClientSession, Collection};
use serde::{Deserialize, Serialize};

pub use self::link::RoleGrant;
use super::{
    Store, StoreError,
    batch_loader::BatchLoader,
    index::{index, ttl, unique},
    lenient::skip_undecodable,
    linearizable::{find_one_linearizable, recheck_linearizable},
    page::page,
    revisions::revisions,
    tenant_counts::count_by_tenant,
    versioned::{VersionedRepository as _, versioned},
};
use crate::{
    id::{PartnerId, TenantId, UserId},
    platform::clock,
    user::{Membership, MembershipSource, Role, User},
};

/// Unique index: one user per subject.
pub const SUBJECT_INDEX: &str = "authentikSubjectId";

/// Resolution of `last_seen_at`.
const LAST_SEEN_RESOLUTION: Duration = Duration::from_mins(5);

/// Retention of a tombstone: exceeds the lifetime of any token.
const TOMBSTONE_TTL: Duration = Duration::from_hours(90 * 24);

/// Users.
#[derive(Debug, Clone)]
pub struct UserRepository {
    users: Collection<User>,
    by_subject: Arc<BatchLoader<String, User>>,
    deleted: Collection<Tombstone>,
}

/// Tombstone of a deleted user. Claims in older tokens are ignored.
#[derive(Debug, Serialize, Deserialize)]
struct Tombstone {
    /// Subject at the identity provider.
    #[serde(rename = "_id")]
    subject: String,
    at: DateTime,
}

/// Filter of a user list.
#[derive(Debug, Clone, Default)]
pub struct UserFilter {
    /// With this address, in lower case.
    pub email: Option<String>,
    /// In this partner's team.
    pub partner_id: Option<PartnerId>,
    /// Operators only, or all others only.
    pub platform_admin: Option<bool>,
    /// With a role in this tenant.
    pub tenant_id: Option<TenantId>,
    /// In that tenant without a member: known by a claim, or granted the role directly.
    pub without_member: bool,
    /// With all of these [words](crate::audit::words) in the name or address. Not indexed: for people of one tenant.
    pub words: Vec<String>,
    /// Only items after this id (page cursor).
    pub after: Option<UserId>,
}

impl UserFilter {
    fn document(&self) -> Document {
        let mut filter = Document::new();
        if let Some(email) = &self.email {
            filter.insert("email", email);
        }
        if let Some(partner) = self.partner_id {
            filter.insert("partnerId", partner);
        }
        if let Some(flag) = self.platform_admin {
            filter.insert("platformAdmin", flag);
        }
        if let Some(tenant) = self.tenant_id {
            let mut place = with_role_in(tenant);
            if self.without_member {
                place.insert("memberId", Bson::Null);
            }
            filter.insert("memberships", doc! { "$elemMatch": place });
        }
        if !self.words.is_empty() {
            let contains = |word: &String| {
                // Words are letters and digits, which need no escaping.
                let text = doc! { "$regex": word, "$options": "i" };
                doc! { "$or": [{ "name": text.clone() }, { "email": text }] }
            };
            filter.insert("$and", self.words.iter().map(contains).collect::<Vec<_>>());
        }
        filter
    }
}

/// A membership with a role in this tenant; one without is a tombstone.
fn with_role_in(tenant: TenantId) -> Document {
    doc! { "tenantId": tenant, "role": { "$ne": null } }
}

versioned!(UserRepository, users: User, UserId);

impl UserRepository {
    /// The repository in `store`.
    pub fn new(store: &Arc<Store>) -> Self {
        let users: Collection<User> = store.collection("users");
        let subject = |user: &User| user.authentik_subject_id.clone();
        Self {
            by_subject: BatchLoader::by(&users, "authentikSubjectId", subject),
            users,
            deleted: store.collection("deleted_users"),
        }
    }

    /// Creates the indexes.
    pub async fn ensure_indexes(&self) -> Result<(), StoreError> {
        let by_subject = unique(SUBJECT_INDEX, doc! { "authentikSubjectId": 1 });
        // One index for each filter of the lists, which are sorted by id.
        let listed = [
            "memberships.tenantId",
            "email",
            "partnerId",
            "platformAdmin",
        ]
        .map(|field| index(doc! { field: 1, "_id": 1 }));
        let without_member =
            doc! { "memberships.tenantId": 1, "memberships.memberId": 1, "_id": 1 };
        self.users
            .create_indexes(
                [by_subject, index(without_member)]
                    .into_iter()
                    .chain(listed),
            )
            .await?;
        self.deleted.create_index(ttl("at", TOMBSTONE_TTL)).await?;
        Ok(())
    }

    /// The user with this id.
    pub async fn find(&self, id: UserId) -> Result<Option<User>, StoreError> {
        find_one_linearizable(&self.users, doc! { "_id": id }).await
    }

    /// At most `limit` users that match `filter`, oldest first.
    pub async fn list(&self, filter: &UserFilter, limit: i64) -> Result<Vec<User>, StoreError> {
        page(&self.users, filter.document(), filter.after, limit).await
    }

    /// The users with these ids, in any order. Skips those of a newer build.
    pub async fn list_by_ids(&self, ids: &[UserId]) -> Result<Vec<User>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let users = self.users.clone_with_type::<Document>();
        let found = users.find(doc! { "_id": { "$in": ids.to_vec() } }).await?;
        skip_undecodable(found).try_collect().await
    }

    /// Those of `emails` that a user has.
    pub async fn known_emails(&self, emails: &[String]) -> Result<Vec<String>, StoreError> {
        #[derive(serde::Deserialize)]
        struct Known {
            email: String,
        }
        let users = self.users.clone_with_type::<Known>();
        let known = users.find(doc! { "email": { "$in": emails } });
        let known = known.projection(doc! { "_id": 0, "email": 1 }).await?;
        known.map_ok(|user| user.email).try_collect().await
    }

    /// The user with this subject.
    pub async fn find_by_subject(&self, subject: &str) -> Result<Option<User>, StoreError> {
        match self.by_subject.find(subject.to_owned()).await? {
            Some(user) => Ok(Some(user)),
            None => recheck_linearizable(&self.users, doc! { "authentikSubjectId": subject }).await,
        }
    }

    /// The user with this subject, as this transaction's snapshot has it.
    pub async fn find_by_subject_in_transaction(
        &self,
        session: &mut ClientSession,
        subject: &str,
    ) -> Result<Option<User>, StoreError> {
        let found = self.users.find_one(doc! { "authentikSubjectId": subject });
        found.session(session).await
    }

    /// The user with this subject, locked for update in this transaction: its revision is already incremented.
    pub async fn find_by_subject_for_update(
        &self,
        session: &mut ClientSession,
        subject: &str,
    ) -> Result<Option<User>, StoreError> {
        self.find_for_update_where(session, doc! { "authentikSubjectId": subject })
            .await
    }

    /// The user with this subject, as it is: this transaction conflicts with every other one on it.
    pub async fn materialize_conflict_by_subject(
        &self,
        session: &mut ClientSession,
        subject: &str,
    ) -> Result<Option<User>, StoreError> {
        self.materialize_conflict_where(session, doc! { "authentikSubjectId": subject })
            .await
    }

    /// Deletes a user that was read in this transaction, and leaves a tombstone.
    pub async fn delete_with_tombstone(
        &self,
        session: &mut ClientSession,
        user: &User,
        now: DateTime,
    ) -> Result<(), StoreError> {
        self.users
            .delete_one(doc! { "_id": user.id })
            .session(&mut *session)
            .await?;
        let subject = doc! { "_id": &user.authentik_subject_id };
        self.deleted
            .update_one(subject, doc! { "$set": { "at": now } })
            .upsert(true)
            .session(session)
            .await?;
        Ok(())
    }

    /// A new user, to be inserted in this transaction. After a recent deletion, claims in tokens issued before it are
    /// ignored.
    pub async fn new_user(
        &self,
        session: &mut ClientSession,
        subject: &str,
        email: &str,
        name: &str,
        now: DateTime,
    ) -> Result<User, StoreError> {
        let deleted = self
            .deleted
            .find_one(doc! { "_id": subject })
            .session(session)
            .await?;
        Ok(User {
            deleted_before: deleted.map(|deleted| deleted.at),
            ..User::first_seen(subject, email, name, now)
        })
    }

    /// Updates `last_seen_at`, at most once per `LAST_SEEN_RESOLUTION`. No new revision.
    pub async fn touch_last_seen(&self, user: &User, now: DateTime) -> Result<(), StoreError> {
        let long_ago = clock::earlier(now, LAST_SEEN_RESOLUTION);
        if user.last_seen_at.is_some_and(|at| at > long_ago) {
            return Ok(());
        }
        let not_since = doc! { "_id": user.id, "lastSeenAt": { "$not": { "$gte": now } } };
        self.users
            .update_one(not_since, doc! { "$set": { "lastSeenAt": now } })
            .await?;
        Ok(())
    }

    /// Id and revision of each of these users that exists.
    pub async fn revisions(&self, ids: &[UserId]) -> Result<Vec<(UserId, i64)>, StoreError> {
        revisions(&self.users, ids).await
    }

    /// Number of `tenant`'s owners.
    pub async fn count_owners(
        &self,
        session: &mut ClientSession,
        tenant: TenantId,
    ) -> Result<u64, StoreError> {
        let owners =
            doc! { "memberships": { "$elemMatch": { "tenantId": tenant, "role": "owner" } } };
        self.users.count_documents(owners).session(session).await
    }

    /// Number of members of each of these tenants; tenants without members are omitted.
    pub async fn count_members(
        &self,
        tenants: &[TenantId],
    ) -> Result<HashMap<TenantId, u64>, StoreError> {
        let among = doc! { "$in": tenants.to_vec() };
        let stages = vec![
            doc! { "$match": { "memberships.tenantId": among.clone() } },
            doc! { "$project": { "memberships.tenantId": 1, "memberships.role": 1 } },
            doc! { "$unwind": "$memberships" },
            doc! { "$match": { "memberships.tenantId": among, "memberships.role": { "$ne": null } } },
        ];
        count_by_tenant(&self.users, stages, "$memberships.tenantId").await
    }

    /// Those of `subjects` that are operators.
    pub async fn list_operators(&self, subjects: &[&str]) -> Result<Vec<String>, StoreError> {
        /// The subject alone: other fields may be those of a newer build.
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Subject {
            authentik_subject_id: String,
        }
        let operators = doc! {
            "authentikSubjectId": { "$in": subjects },
            "$or": [{ "platformAdmin": true }, { "platformRole": { "$exists": true } }],
        };
        let subject = doc! { "_id": 0, "authentikSubjectId": 1 };
        let users = self.users.clone_with_type::<Subject>();
        let found = users.find(operators).projection(subject).await?;
        found
            .map_ok(|user| user.authentik_subject_id)
            .try_collect()
            .await
    }

    /// Grants ownership of a new workspace to the person it was created for, unless that was already decided here; then
    /// `None`.
    pub async fn grant_ownership(
        &self,
        session: &mut ClientSession,
        subject: &str,
        email: &str,
        name: &str,
        tenant: TenantId,
        now: DateTime,
    ) -> Result<Option<RoleGrant>, StoreError> {
        let membership = Membership {
            role: Some(Role::Owner),
            source: MembershipSource::Local,
            changed_at: now,
            member_id: None,
        };
        let existing = self.find_by_subject_for_update(session, subject).await?;
        let is_new = existing.is_none();
        let mut user = match existing {
            Some(user) => user,
            None => self.new_user(session, subject, email, name, now).await?,
        };
        let before = user.memberships.insert(tenant, membership);
        if before
            .as_ref()
            .is_some_and(|existing| existing.source == MembershipSource::Local)
        {
            return self.unlock(session, user.id).await.map(|()| None);
        }
        if is_new {
            self.insert(session, &user).await?;
        } else {
            user.updated_at = now;
            self.save(session, &user).await?;
        }
        Ok(Some(RoleGrant {
            is_new,
            role_before: before.and_then(|membership| membership.role),
            user,
        }))
    }
}
