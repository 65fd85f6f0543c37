//! A user of a future build: an operator in the group of a tenant that is suspended.

use bson::{Bson, Document, Uuid, doc};
use dezky_shared::id::JobId;

use super::{FutureDocuments, Placed, UNKNOWN};
use crate::{
    authentik::AuthentikSim,
    chaos::{fault_kind::FutureDocument, load::LoadGenerator},
};

impl FutureDocuments {
    /// Places a user with a field of another type, and suspends a tenant of theirs, which looks operators up.
    pub(super) async fn place_user(
        &self,
        load: &LoadGenerator,
        authentik: &AuthentikSim,
    ) -> anyhow::Result<Option<Placed>> {
        let created = load.create_tenant_with_group("future", authentik).await;
        let Some((created, group)) = created else {
            return Ok(None);
        };
        let (tenant, _) = self
            .place_tenant(FutureDocument::User, &created.slug)
            .await?;
        let account = authentik.add_user(&format!("operator@{}.test", created.slug), &[group]);
        let id = Bson::from(Uuid::new());
        let user = doc! {
            "_id": &id,
            "authentikSubjectId": account.uuid.to_string(),
            "email": &account.username,
            "name": { "kind": UNKNOWN },
            "platformAdmin": true,
        };
        self.primary
            .run(async |database| {
                let users = database.collection::<Document>("users");
                let by_id = doc! { "_id": &id };
                users.replace_one(by_id, user.clone()).upsert(true).await
            })
            .await?;
        let job = load.suspend(&created.slug).await;
        let job = job.and_then(|job| job.parse::<JobId>().ok());
        Ok(job.map(|job| Placed {
            kind: FutureDocument::User,
            tenant,
            job,
            original: id,
            state_before_repair: None,
        }))
    }
}
