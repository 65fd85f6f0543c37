//! Removal of members: the begin of a purge, and the removal of all members of a terminated tenant.

use bson::{DateTime, Document, doc};
use mongodb::ClientSession;

use super::{MemberRepository, present};
use crate::{
    id::{MemberId, TenantId},
    member::{Member, MemberStatus},
    store::StoreError,
    upstream::Upstream,
};

impl MemberRepository {
    /// Records the begin of a member's purge, unless an earlier one is recorded. False if the member is not being removed.
    pub async fn begin_purge(
        &self,
        session: &mut ClientSession,
        id: MemberId,
        now: DateTime,
    ) -> Result<bool, StoreError> {
        let removing = doc! { "_id": id, "status": MemberStatus::Removing.name() };
        let update = doc! {
            "$min": { "purgeStartedAt": now },
            "$set": { "updatedAt": now },
            "$inc": { "revision": 1_i64 },
        };
        let updated = self.members.update_one(removing, update).session(session);
        Ok(updated.await?.matched_count == 1)
    }

    /// Whether the tenant has another present member than `member` whose last attempts did not fail.
    pub async fn has_removable(
        &self,
        session: &mut ClientSession,
        member: &Member,
    ) -> Result<bool, StoreError> {
        let mut others = doc! {
            "tenantId": member.tenant_id,
            "status": present(),
            "_id": { "$ne": member.id },
        };
        for upstream in Upstream::ALL {
            let failed = doc! { "$ne": "error" };
            others.insert(format!("provisioningStatus.{upstream}"), failed);
        }
        let members = self.members.clone_with_type::<Document>();
        let found = members.find_one(others).projection(doc! { "_id": 1 });
        Ok(found.session(session).await?.is_some())
    }

    /// Marks all members of a tenant as removed, as [`Member::mark_removed`](crate::member::Member::mark_removed) does:
    /// their addresses are free. Their purge is due: jobs delete the accounts that are left.
    pub async fn remove_all(
        &self,
        session: &mut ClientSession,
        tenant_id: TenantId,
        now: DateTime,
    ) -> Result<(), StoreError> {
        let update = doc! {
            "$set": {
                "status": MemberStatus::Removed.name(),
                "words": [],
                "updatedAt": now,
            },
            // A scheduled purge is later.
            "$min": { "purgeAt": now },
            "$unset": { "statusBefore": "", "suspendedBy": "", "mailbox.addresses": "" },
            "$inc": { "revision": 1_i64 },
        };
        self.members
            .update_many(doc! { "tenantId": tenant_id, "status": present() }, update)
            .session(session)
            .await?;
        Ok(())
    }
}
