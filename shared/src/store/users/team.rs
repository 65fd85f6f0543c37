//! Who works for a partner.

use std::collections::BTreeMap;

use bson::{DateTime, Document, doc};
use futures::TryStreamExt as _;
use mongodb::ClientSession;

use super::UserRepository;
use crate::{
    id::{PartnerId, UserId},
    store::{StoreError, to_bson},
    user::{MfaCheck, PartnerRole, User},
};

impl UserRepository {
    /// Everybody who works for a partner.
    pub async fn list_team(&self, partner_id: PartnerId) -> Result<Vec<User>, StoreError> {
        let team = self.users.find(doc! { "partnerId": partner_id });
        team.sort(doc! { "_id": 1 }).await?.try_collect().await
    }

    /// At most `limit` of them, from the one after `after` on.
    pub async fn list_team_page(
        &self,
        partner_id: PartnerId,
        after: Option<UserId>,
        limit: i64,
    ) -> Result<Vec<User>, StoreError> {
        let mut wanted = doc! { "partnerId": partner_id };
        if let Some(after) = after {
            wanted.insert("_id", doc! { "$gt": after });
        }
        let page = self.users.find(wanted).sort(doc! { "_id": 1 }).limit(limit);
        page.await?.try_collect().await
    }

    /// How many work for a partner.
    pub async fn count_team(
        &self,
        session: &mut ClientSession,
        partner_id: PartnerId,
    ) -> Result<u64, StoreError> {
        let team = doc! { "partnerId": partner_id };
        self.users.count_documents(team).session(session).await
    }

    /// How many of them own it.
    pub async fn count_partner_owners(
        &self,
        session: &mut ClientSession,
        partner_id: PartnerId,
    ) -> Result<u64, StoreError> {
        let owners = doc! { "partnerId": partner_id, "partnerRole": to_bson(&PartnerRole::Owner)? };
        self.users.count_documents(owners).session(session).await
    }

    /// When a job last looked for anybody's MFA devices.
    pub async fn last_mfa_look(
        &self,
        session: &mut ClientSession,
        partner_id: PartnerId,
    ) -> Result<Option<DateTime>, StoreError> {
        let looked = doc! { "partnerId": partner_id, "mfa": { "$exists": true } };
        let latest = self.users.find_one(looked);
        let latest = latest.sort(doc! { "mfa.lookedUpAt": -1 }).session(session);
        let user = latest.await?;
        Ok(user.and_then(|user| user.mfa).map(|look| look.looked_up_at))
    }

    /// Writes what a job saw of somebody's MFA devices. That is no version of what anybody edits.
    pub async fn set_mfa(
        &self,
        session: &mut ClientSession,
        id: UserId,
        look: &MfaCheck,
    ) -> Result<(), StoreError> {
        let seen = doc! { "$set": { "mfa": to_bson(look)? } };
        self.users
            .update_one(doc! { "_id": id }, seen)
            .session(session)
            .await?;
        Ok(())
    }

    /// Of these subjects, those who work for a partner, and for which.
    pub async fn partners_of(
        &self,
        subjects: &[&str],
    ) -> Result<BTreeMap<String, PartnerId>, StoreError> {
        let staff: Document = doc! {
            "authentikSubjectId": { "$in": subjects },
            "partnerId": { "$exists": true },
        };
        let users: Vec<User> = self.users.find(staff).await?.try_collect().await?;
        Ok(users
            .into_iter()
            .filter_map(|user| Some((user.authentik_subject_id, user.partner_id?)))
            .collect())
    }
}
