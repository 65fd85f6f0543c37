//! MFA checks of users.

use bson::{DateTime, Document, doc};
use futures::TryStreamExt as _;
use mongodb::ClientSession;
use serde::Deserialize;

use super::{UserRepository, with_role_in};
use crate::{
    id::{TenantId, UserId},
    mfa::{MfaCheck, MfaTotals},
    store::{StoreError, bulk_update_in, to_bson},
};

impl UserRepository {
    /// Stores the MFA checks of several users, unless a newer one is stored. No new revision: callers do not edit them.
    pub async fn set_mfa(
        &self,
        session: &mut ClientSession,
        checks: &[(UserId, MfaCheck)],
    ) -> Result<(), StoreError> {
        let updates = checks.iter().map(|(id, check)| {
            let older =
                doc! { "_id": id, "mfa.lookedUpAt": { "$not": { "$gt": check.looked_up_at } } };
            Ok(doc! { "q": older, "u": { "$set": { "mfa": to_bson(check)? } } })
        });
        let updates = updates.collect::<Result<Vec<_>, StoreError>>()?;
        bulk_update_in(&self.users, session, updates).await?;
        Ok(())
    }

    /// Number of users with a role in `tenant` by enrolment, counting only checks since `since`.
    pub async fn count_mfa(
        &self,
        tenant: TenantId,
        since: DateTime,
    ) -> Result<MfaTotals, StoreError> {
        #[derive(Deserialize)]
        struct Counted {
            total: i64,
            enrolled: i64,
            #[serde(rename = "notEnrolled")]
            not_enrolled: i64,
        }
        let is_current = doc! { "$gte": ["$mfa.lookedUpAt", since] };
        let has_device = doc! { "$gt": ["$mfa.devices", 0] };
        let one_if = |conditions: Vec<Document>| {
            doc! { "$sum": { "$cond": [{ "$and": conditions }, 1_i64, 0_i64] } }
        };
        let counted = doc! {
            "_id": null,
            "total": { "$sum": 1_i64 },
            "enrolled": one_if(vec![is_current.clone(), has_device.clone()]),
            "notEnrolled": one_if(vec![
                is_current,
                doc! { "$not": [has_device] },
                doc! { "$eq": ["$mfa.allVisible", true] },
            ]),
        };
        let mut counted = self
            .users
            .aggregate([
                doc! { "$match": { "memberships": { "$elemMatch": with_role_in(tenant) } } },
                doc! { "$project": { "mfa": 1 } },
                doc! { "$group": counted },
            ])
            .with_type::<Counted>()
            .await?;
        let totals = counted.try_next().await?.map(|counted| MfaTotals {
            enrolled: counted.enrolled,
            not_enrolled: counted.not_enrolled,
            unknown: counted.total - counted.enrolled - counted.not_enrolled,
        });
        Ok(totals.unwrap_or_default())
    }
}
