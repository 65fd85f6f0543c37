//! Invitation repository.

use std::{sync::Arc, time::Duration};

use bson::{DateTime, Document, doc};
use mongodb::{ClientSession, Collection};

use super::{
    Store, StoreError,
    index::{index, ttl},
    known_fields,
    lenient::take_decodable,
    linearizable::find_one_linearizable,
    to_bson,
};
use crate::{
    id::{InvitationId, PartnerId, UserId},
    invitation::{Invitation, InvitationState},
    user::User,
};

/// Maximum number of invitations that are shown to a person.
const MAX_AWAITING: i64 = 50;

/// Invitations to partners' teams.
#[derive(Debug, Clone)]
pub struct InvitationRepository {
    invitations: Collection<Invitation>,
}

impl InvitationRepository {
    /// The repository in `store`.
    pub fn new(store: &Arc<Store>) -> Self {
        Self {
            invitations: store.collection("invitations"),
        }
    }

    /// Creates the indexes.
    pub async fn ensure_indexes(&self) -> Result<(), StoreError> {
        self.invitations
            .create_indexes([
                ttl("expireAt", Duration::ZERO),
                index(doc! { "partnerId": 1, "email": 1 }),
                index(doc! { "email": 1 }),
                index(doc! { "subject": 1 }),
                index(doc! { "userId": 1 }),
            ])
            .await?;
        Ok(())
    }

    /// The invitation with this id.
    pub async fn find(&self, id: InvitationId) -> Result<Option<Invitation>, StoreError> {
        find_one_linearizable(&self.invitations, doc! { "_id": id }).await
    }

    /// The invitation with this id, as seen by this transaction. A caller that acts on it also writes it, so that of
    /// two concurrent callers one fails.
    pub async fn find_in_transaction(
        &self,
        session: &mut ClientSession,
        id: InvitationId,
    ) -> Result<Option<Invitation>, StoreError> {
        self.invitations
            .find_one(doc! { "_id": id })
            .session(session)
            .await
    }

    /// The invitations that await the consent of this account's owner, oldest first, at most `MAX_AWAITING`. Skips those of
    /// a newer build.
    pub async fn list_awaiting(
        &self,
        subject: &str,
        now: DateTime,
    ) -> Result<Vec<Invitation>, StoreError> {
        let awaiting = doc! {
            "subject": subject,
            "state": to_bson(&InvitationState::AwaitingConsent)?,
            "expireAt": { "$gt": now },
        };
        let invitations = self.invitations.clone_with_type::<Document>();
        let found = invitations.find(awaiting).sort(doc! { "_id": 1 });
        take_decodable(found, MAX_AWAITING).await
    }

    /// Number of a partner's invitations that may still become members.
    pub async fn count_pending(
        &self,
        session: &mut ClientSession,
        partner_id: PartnerId,
    ) -> Result<u64, StoreError> {
        let states = [InvitationState::Pending, InvitationState::AwaitingConsent];
        let pending = doc! { "partnerId": partner_id, "state": { "$in": to_bson(&states)? } };
        self.invitations
            .count_documents(pending)
            .session(session)
            .await
    }

    /// Inserts an invitation.
    pub async fn insert(
        &self,
        session: &mut ClientSession,
        invitation: &Invitation,
    ) -> Result<(), StoreError> {
        self.invitations
            .insert_one(invitation)
            .session(session)
            .await?;
        Ok(())
    }

    /// Replaces an invitation.
    pub async fn save(
        &self,
        session: &mut ClientSession,
        invitation: &Invitation,
    ) -> Result<(), StoreError> {
        self.invitations
            .update_one(
                doc! { "_id": invitation.id },
                known_fields::set_known_fields(invitation)?,
            )
            .session(session)
            .await?;
        Ok(())
    }

    /// Deletes the link of an invitation that was not shown.
    pub async fn drop_link(&self, id: InvitationId) -> Result<(), StoreError> {
        let filter = doc! { "_id": id, "state": to_bson(&InvitationState::Ready)? };
        let update = doc! {
            "$set": { "state": to_bson(&InvitationState::NoLink)? },
            "$unset": { "link": "" },
        };
        self.invitations.update_one(filter, update).await?;
        Ok(())
    }

    /// Deletes an invitation.
    pub async fn delete(
        &self,
        session: &mut ClientSession,
        id: InvitationId,
    ) -> Result<(), StoreError> {
        self.invitations
            .delete_one(doc! { "_id": id })
            .session(session)
            .await?;
        Ok(())
    }

    /// Revokes a partner's invitations of this address: pending ones are not processed, and a link that was not shown
    /// never is.
    pub async fn revoke(
        &self,
        session: &mut ClientSession,
        partner_id: PartnerId,
        email: &str,
    ) -> Result<(), StoreError> {
        let filter = doc! { "partnerId": partner_id, "email": email };
        self.invitations
            .delete_many(filter)
            .session(session)
            .await?;
        Ok(())
    }

    /// Revokes the invitations of an inviter who may no longer invite.
    pub async fn revoke_made_by(
        &self,
        session: &mut ClientSession,
        partner_id: PartnerId,
        inviter: UserId,
    ) -> Result<(), StoreError> {
        let filter = doc! { "partnerId": partner_id, "invitedBy": inviter };
        self.invitations
            .delete_many(filter)
            .session(session)
            .await?;
        Ok(())
    }

    /// Revokes all invitations of a known user, by any partner.
    pub async fn revoke_all(
        &self,
        session: &mut ClientSession,
        user: &User,
    ) -> Result<(), StoreError> {
        let filter = doc! { "$or": of_user(user) };
        self.invitations
            .delete_many(filter)
            .session(session)
            .await?;
        Ok(())
    }

    /// Revokes this partner's invitations of a known user, by any address.
    pub async fn revoke_from(
        &self,
        session: &mut ClientSession,
        partner_id: PartnerId,
        user: &User,
    ) -> Result<(), StoreError> {
        let filter = doc! { "partnerId": partner_id, "$or": of_user(user) };
        self.invitations
            .delete_many(filter)
            .session(session)
            .await?;
        Ok(())
    }
}

/// Filters that find the invitations of a user.
fn of_user(user: &User) -> Vec<Document> {
    vec![
        doc! { "email": &user.email },
        doc! { "userId": user.id },
        doc! { "subject": &user.authentik_subject_id },
    ]
}
