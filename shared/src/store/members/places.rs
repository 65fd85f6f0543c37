//! Places of a person: the tenants of which the person is a member.

use bson::doc;
use futures::TryStreamExt as _;
use mongodb::ClientSession;
use serde::Deserialize;

use super::{MemberRepository, present};
use crate::{
    id::{MemberId, TenantId, UserId},
    store::StoreError,
};

/// Present member of a person, without the fields that only a newer build may be able to decode: a member of one tenant must
/// not stop a decision of another.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Place {
    /// Member id.
    #[serde(rename = "_id")]
    pub id: MemberId,
    /// Tenant of the member.
    pub tenant_id: TenantId,
    #[serde(default)]
    authentik: Option<Account>,
}

/// Account at the identity provider.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Account {
    #[serde(default)]
    subject: Option<String>,
}

impl Place {
    /// Whether the member has an account at the identity provider.
    pub const fn has_account(&self) -> bool {
        self.authentik.is_some()
    }

    /// Whether the member has the account with this subject.
    pub fn has_account_of(&self, subject: &str) -> bool {
        let account = self.authentik.as_ref();
        account.is_some_and(|account| account.subject.as_deref() == Some(subject))
    }
}

impl MemberRepository {
    /// The present members of all tenants that the user belongs to, as seen by this transaction.
    pub async fn list_places(
        &self,
        session: &mut ClientSession,
        user_id: UserId,
    ) -> Result<Vec<Place>, StoreError> {
        let query = doc! { "userId": user_id, "status": present() };
        let places = self.members.clone_with_type::<Place>();
        let found = places.find(query);
        let found = found.projection(doc! { "tenantId": 1, "authentik.subject": 1 });
        let mut found = found.session(&mut *session).await?;
        found.stream(session).try_collect().await
    }
}
