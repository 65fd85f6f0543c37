//! Partner teams.

use std::collections::BTreeMap;

use bson::{DateTime, Document, doc};
use futures::TryStreamExt as _;
use mongodb::ClientSession;

use super::UserRepository;
use crate::{
    id::{PartnerId, UserId},
    store::{
        StoreError,
        lenient::{Decoded, decode_all},
        page::page,
        to_bson,
    },
    user::{PartnerRole, User},
};

impl UserRepository {
    /// All members of a partner's team.
    pub async fn list_team(&self, partner_id: PartnerId) -> Result<Decoded<User>, StoreError> {
        let users = self.users.clone_with_type::<Document>();
        let team = users.find(doc! { "partnerId": partner_id });
        decode_all(team.sort(doc! { "_id": 1 }).await?).await
    }

    /// At most `limit` members of a partner's team after `after`.
    pub async fn list_team_page(
        &self,
        partner_id: PartnerId,
        after: Option<UserId>,
        limit: i64,
    ) -> Result<Vec<User>, StoreError> {
        let team = doc! { "partnerId": partner_id };
        page(&self.users, team, after, limit).await
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
        // Not the whole user, who may be of a newer build.
        let users = self.users.clone_with_type::<Document>();
        let latest = users.find_one(checked);
        let latest = latest.sort(doc! { "mfa.lookedUpAt": -1 });
        let latest = latest.projection(doc! { "mfa.lookedUpAt": 1 });
        let user = latest.session(session).await?;
        let time = |user: Document| {
            let check = user.get_document("mfa").ok()?;
            check.get_datetime("lookedUpAt").ok().copied()
        };
        Ok(user.and_then(time))
    }

    /// Those of these subjects that are in a partner's team, with the partner.
    pub async fn partners_of(
        &self,
        subjects: &[&str],
    ) -> Result<BTreeMap<String, PartnerId>, StoreError> {
        /// The fields needed: others may be those of a newer build.
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Staff {
            authentik_subject_id: String,
            partner_id: PartnerId,
        }
        let staff = doc! {
            "authentikSubjectId": { "$in": subjects },
            "partnerId": { "$exists": true },
        };
        let fields = doc! { "_id": 0, "authentikSubjectId": 1, "partnerId": 1 };
        let users = self.users.clone_with_type::<Staff>();
        let found = users.find(staff).projection(fields).await?;
        found
            .map_ok(|user| (user.authentik_subject_id, user.partner_id))
            .try_collect()
            .await
    }
}
