//! Records of a member's user on the file server, and of the personal space.

use bson::{Bson, DateTime, Document, doc};
use futures::TryStreamExt as _;
use mongodb::ClientSession;

use super::{MemberRepository, present};
use crate::{
    id::{MemberId, TenantId},
    member::{FilesAccount, Member},
    storage_report::PersonalSpace,
    store::{
        StoreError, VersionedRepository as _, bulk_update_in, page::page, skip_undecodable, to_bson,
    },
};

impl MemberRepository {
    /// Records that a user is about to be created for the member.
    pub async fn begin_files_account(
        &self,
        session: &mut ClientSession,
        id: MemberId,
        now: DateTime,
    ) -> Result<(), StoreError> {
        let update = doc! { "$set": { "ocisCreateBegun": true, "updatedAt": now } };
        self.update_fields(session, id, update).await
    }

    /// Records the user that a step has just created, so that a later attempt does not take it for an existing one.
    pub async fn set_files_account(
        &self,
        session: &mut ClientSession,
        id: MemberId,
        account: &FilesAccount,
        now: DateTime,
    ) -> Result<(), StoreError> {
        let update = doc! {
            "$set": { "ocis": to_bson(account)?, "updatedAt": now },
            "$unset": { "ocisCreateBegun": "" },
        };
        self.update_fields(session, id, update).await
    }

    /// Replaces the personal spaces of the users with these ids on the file server, as far as they were created for
    /// members. A measurement is no change of the member: the revision stays.
    pub async fn set_personal_spaces(
        &self,
        session: &mut ClientSession,
        spaces: &[(String, PersonalSpace)],
    ) -> Result<(), StoreError> {
        let updates = spaces.iter().map(|(user, space)| {
            let members =
                doc! { "ocis.userId": user, "ocis.origin": "created", "status": present() };
            let update = doc! { "$set": { "personalSpace": to_bson(space)? } };
            Ok(doc! { "q": members, "u": update, "multi": true })
        });
        let updates = updates.collect::<Result<Vec<_>, StoreError>>()?;
        bulk_update_in(&self.members, session, updates).await?;
        Ok(())
    }

    /// This tenant's present members whose mailboxes have these addresses. Skips those of a newer build.
    pub async fn list_by_addresses(
        &self,
        tenant_id: TenantId,
        addresses: &[String],
    ) -> Result<Vec<Member>, StoreError> {
        let query = doc! { "mailbox.addresses": { "$in": addresses }, "tenantId": tenant_id };
        let members = self.members.clone_with_type::<Document>();
        skip_undecodable(members.find(query).await?)
            .try_collect()
            .await
    }

    /// At most `limit` of this tenant's present members without a mailbox after `after`, oldest first.
    pub async fn list_without_mailbox(
        &self,
        tenant_id: TenantId,
        after: Option<MemberId>,
        limit: i64,
    ) -> Result<Vec<Member>, StoreError> {
        let query = doc! {
            // The form in which the index has a missing mailbox.
            "tenantId": tenant_id, "status": present(), "mailbox.address": Bson::Null,
        };
        page(&self.members, query, after, limit).await
    }
}
