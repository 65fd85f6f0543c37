//! The invitations to the teams of partners.

use std::{sync::Arc, time::Duration};

use bson::doc;
use mongodb::{ClientSession, Collection, IndexModel, options::IndexOptions};

use super::{Store, StoreError, known_fields, linearizable::find_one_linearizable, to_bson};
use crate::{
    id::{InvitationId, PartnerId, UserId},
    invitation::{Invitation, InvitationState},
    user::User,
};

/// The invitations.
#[derive(Debug, Clone)]
pub struct InvitationRepository {
    invitations: Collection<Invitation>,
}

impl InvitationRepository {
    /// The invitations in `store`.
    pub fn new(store: &Arc<Store>) -> Self {
        Self {
            invitations: store.collection("invitations"),
        }
    }

    /// Makes the indexes.
    pub async fn ensure_indexes(&self) -> Result<(), StoreError> {
        let retention = IndexModel::builder()
            .keys(doc! { "expireAt": 1 })
            .options(IndexOptions::builder().expire_after(Duration::ZERO).build())
            .build();
        let by_partner = IndexModel::builder()
            .keys(doc! { "partnerId": 1, "email": 1 })
            .build();
        let by_email = IndexModel::builder().keys(doc! { "email": 1 }).build();
        let by_user = IndexModel::builder().keys(doc! { "userId": 1 }).build();
        self.invitations
            .create_indexes([retention, by_partner, by_email, by_user])
            .await?;
        Ok(())
    }

    /// The invitation with this id.
    pub async fn find(&self, id: InvitationId) -> Result<Option<Invitation>, StoreError> {
        find_one_linearizable(&self.invitations, doc! { "_id": id }).await
    }

    /// The same, as this transaction sees it. Whoever acts on it writes it too, so that of two only one does.
    pub async fn find_in(
        &self,
        session: &mut ClientSession,
        id: InvitationId,
    ) -> Result<Option<Invitation>, StoreError> {
        self.invitations
            .find_one(doc! { "_id": id })
            .session(session)
            .await
    }

    /// How many of a partner's invitations are still to be carried out.
    pub async fn count_pending(
        &self,
        session: &mut ClientSession,
        partner_id: PartnerId,
    ) -> Result<u64, StoreError> {
        let pending =
            doc! { "partnerId": partner_id, "state": to_bson(&InvitationState::Pending)? };
        self.invitations
            .count_documents(pending)
            .session(session)
            .await
    }

    /// Adds an invitation.
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

    /// Writes an invitation.
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

    /// Forgets the link of an invitation that nobody was shown and nobody is to be.
    pub async fn drop_link(&self, id: InvitationId) -> Result<(), StoreError> {
        let unseen = doc! { "_id": id, "state": to_bson(&InvitationState::Ready)? };
        let dropped = doc! {
            "$set": { "state": to_bson(&InvitationState::NoLink)? },
            "$unset": { "link": "" },
        };
        self.invitations.update_one(unseen, dropped).await?;
        Ok(())
    }

    /// Takes back what a partner's invitations of this address promised: what waits is not carried out, and a link that
    /// was not shown never is.
    pub async fn withdraw(
        &self,
        session: &mut ClientSession,
        partner_id: PartnerId,
        email: &str,
    ) -> Result<(), StoreError> {
        let theirs = doc! { "partnerId": partner_id, "email": email };
        self.invitations
            .delete_many(theirs)
            .session(session)
            .await?;
        Ok(())
    }

    /// The same for the invitations that somebody made who may not invite any more.
    pub async fn withdraw_made_by(
        &self,
        session: &mut ClientSession,
        partner_id: PartnerId,
        inviter: UserId,
    ) -> Result<(), StoreError> {
        let made = doc! { "partnerId": partner_id, "invitedBy": inviter };
        self.invitations.delete_many(made).session(session).await?;
        Ok(())
    }

    /// The same for whatever invites somebody who is known, by whichever partner.
    pub async fn withdraw_all(
        &self,
        session: &mut ClientSession,
        user: &User,
    ) -> Result<(), StoreError> {
        let theirs = doc! { "$or": [{ "email": &user.email }, { "userId": user.id }] };
        self.invitations
            .delete_many(theirs)
            .session(session)
            .await?;
        Ok(())
    }

    /// The same for somebody who is known, by whatever address they were invited.
    pub async fn withdraw_from(
        &self,
        session: &mut ClientSession,
        partner_id: PartnerId,
        user: &User,
    ) -> Result<(), StoreError> {
        let by_either = [doc! { "email": &user.email }, doc! { "userId": user.id }];
        let theirs = doc! { "partnerId": partner_id, "$or": by_either.to_vec() };
        self.invitations
            .delete_many(theirs)
            .session(session)
            .await?;
        Ok(())
    }
}
