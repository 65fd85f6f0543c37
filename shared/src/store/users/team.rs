//! Partner teams.

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
    /// All members of a partner's team.
    pub async fn list_team(&self, partner_id: PartnerId) -> Result<Vec<User>, StoreError> {
        let team = self.users.find(doc! { "partnerId": partner_id });
        team.sort(doc! { "_id": 1 }).await?.try_collect().await
    }

    /// At most `limit` members of a partner's team after `after`.
    pub async fn list_team_page(
        &self,
        partner_id: PartnerId,
        after: Option<UserId>,
        limit: i64,
    ) -> Result<Vec<User>, StoreError> {
        let mut query = doc! { "partnerId": partner_id };
        if let Some(after) = after {
            query.insert("_id", doc! { "$gt": after });
        }
        let page = self.users.find(query).sort(doc! { "_id": 1 }).limit(limit);
        page.await?.try_collect().await
    }

    /// Number of members of a partner's team.
    pub async fn count_team(
        &self,
        session: &mut ClientSession,
        partner_id: PartnerId,
    ) -> Result<u64, StoreError> {
        let team = doc! { "partnerId": partner_id };
        self.users.count_documents(team).session(session).await
    }

    /// Number of owners in a partner's team.
    pub async fn count_partner_owners(
        &self,
        session: &mut ClientSession,
        partner_id: PartnerId,
    ) -> Result<u64, StoreError> {
        let owners = doc! { "partnerId": partner_id, "partnerRole": to_bson(&PartnerRole::Owner)? };
        self.users.count_documents(owners).session(session).await
    }

    /// Time of the last MFA check of a partner's team.
    pub async fn last_mfa_check(
        &self,
        session: &mut ClientSession,
        partner_id: PartnerId,
    ) -> Result<Option<DateTime>, StoreError> {
        let checked = doc! { "partnerId": partner_id, "mfa": { "$exists": true } };
        let latest = self.users.find_one(checked);
        let latest = latest.sort(doc! { "mfa.lookedUpAt": -1 }).session(session);
        let user = latest.await?;
        Ok(user
            .and_then(|user| user.mfa)
            .map(|check| check.looked_up_at))
    }

    /// Stores a user's MFA check. No new revision: callers do not edit it.
    pub async fn set_mfa(
        &self,
        session: &mut ClientSession,
        id: UserId,
        check: &MfaCheck,
    ) -> Result<(), StoreError> {
        let update = doc! { "$set": { "mfa": to_bson(check)? } };
        self.users
            .update_one(doc! { "_id": id }, update)
            .session(session)
            .await?;
        Ok(())
    }

    /// Those of these subjects that are in a partner's team, with the partner.
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
