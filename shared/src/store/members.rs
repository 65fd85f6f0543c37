//! Member repository: the members of all tenants.

mod admission;
mod files;
mod places;
mod removal;

use std::collections::HashMap;

use bson::{Document, doc};
use futures::TryStreamExt as _;
use mongodb::{ClientSession, IndexModel, options::IndexOptions};

pub use self::{admission::AdmissionSources, places::Place};
use super::{
    StoreError, lenient::skip_undecodable, page::page, tenant_counts::count_by_tenant,
    tenant_resource_changes::changes_index, versioned::versioned,
};
use crate::{
    id::{DomainId, MemberId, TenantId, UserId},
    member::{Member, MemberStatus},
    upstream::Upstream,
};

/// Unique index: one present member per tenant and login.
pub const LOGIN_INDEX: &str = "login";
/// Unique index: one mailbox per address, over all tenants and including aliases.
pub const ADDRESS_INDEX: &str = "address";

/// Limit on counted failing members.
const MAX_FAILING: i64 = 10_000;

versioned! {
    /// Members of all tenants.
    MemberRepository, members = "members": Member, MemberId
}

/// Filter of a member list. Removed members are never listed.
#[derive(Debug, Clone, Default)]
pub struct MemberFilter {
    /// Containing all of these [words](crate::audit::words).
    pub words: Vec<String>,
    /// Only items after this id (page cursor).
    pub after: Option<MemberId>,
}

/// Matches members that are not removed, as the partial indexes do.
fn present() -> Document {
    doc! { "$in": MemberStatus::PRESENT.map(MemberStatus::name).to_vec() }
}

/// Matches members who must not be in the tenant's space.
fn excluded() -> Document {
    let statuses = [MemberStatus::Suspended, MemberStatus::Removing];
    doc! { "$in": statuses.map(MemberStatus::name).to_vec() }
}

impl MemberRepository {
    /// Creates the indexes.
    pub async fn ensure_indexes(&self) -> Result<(), StoreError> {
        let index = |name: &str, keys: Document, filter: Document, unique: bool| {
            let options = IndexOptions::builder()
                .name(name.to_owned())
                .unique(unique)
                .partial_filter_expression(filter)
                .build();
            IndexModel::builder().keys(keys).options(options).build()
        };
        let present = || doc! { "status": present() };
        let has = |field: &str| doc! { field: { "$exists": true } };
        let failing = Upstream::ALL.map(|upstream| {
            let filter = doc! { format!("provisioningStatus.{upstream}"): "error" };
            let name = format!("failing_{upstream}");
            index(&name, doc! { "tenantId": 1 }, filter, false)
        });
        let login = doc! { "email": 1, "tenantId": 1 };
        let address = doc! { "mailbox.addresses": 1 };
        let words = doc! { "tenantId": 1, "words": 1, "_id": 1 };
        let mailbox = doc! { "tenantId": 1, "mailbox.address": 1, "_id": 1 };
        let user = doc! { "userId": 1, "tenantId": 1 };
        let account = doc! { "tenantId": 1, "authentik.subject": 1 };
        let adopted = doc! { "authentik.origin": "adopted" };
        let excluded = doc! { "status": excluded() };
        let files = doc! { "ocis.userId": 1 };
        let domain = doc! { "mailbox.domainId": 1 };
        let alias = doc! { "mailbox.aliases.domainId": 1 };
        let indexes = [
            index(LOGIN_INDEX, login, present(), true),
            index(ADDRESS_INDEX, address, has("mailbox.addresses"), true),
            index(
                "of_tenant",
                doc! { "tenantId": 1, "_id": 1 },
                present(),
                false,
            ),
            index("words", words, present(), false),
            index("mailbox", mailbox, present(), false),
            index("user", user, has("userId"), false),
            index("adopted", account, adopted, false),
            index("excluded", doc! { "tenantId": 1 }, excluded, false),
            index("files", files, has("ocis.userId"), false),
            index("domain", domain, has("mailbox.domainId"), false),
            index("alias", alias, has("mailbox.aliases.domainId"), false),
            changes_index(),
        ];
        self.members
            .create_indexes(indexes.into_iter().chain(failing))
            .await?;
        Ok(())
    }

    /// At most `limit` of this tenant's present members that match `filter`, oldest first.
    pub async fn list(
        &self,
        tenant_id: TenantId,
        filter: &MemberFilter,
        limit: i64,
    ) -> Result<Vec<Member>, StoreError> {
        let mut query = doc! { "tenantId": tenant_id, "status": present() };
        if !filter.words.is_empty() {
            query.insert("words", doc! { "$all": &filter.words });
        }
        page(&self.members, query, filter.after, limit).await
    }

    /// The present member of this tenant that the user belongs to.
    pub async fn find_by_user(
        &self,
        tenant_id: TenantId,
        user_id: UserId,
    ) -> Result<Option<Member>, StoreError> {
        let query = doc! { "userId": user_id, "tenantId": tenant_id, "status": present() };
        self.members.find_one(query).await
    }

    /// Ids on the file server of this tenant's members who are suspended or being removed.
    pub async fn list_excluded_from_space(
        &self,
        tenant_id: TenantId,
    ) -> Result<Vec<String>, StoreError> {
        #[derive(serde::Deserialize)]
        struct Excluded {
            ocis: Option<Files>,
        }
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Files {
            user_id: String,
        }
        let members = self
            .members
            .clone_with_type::<Excluded>()
            .find(doc! { "tenantId": tenant_id, "status": excluded() })
            .projection(doc! { "_id": 0, "ocis.userId": 1 })
            .await?;
        let ids = members.try_filter_map(|member| {
            futures::future::ready(Ok(member.ocis.map(|user| user.user_id)))
        });
        ids.try_collect().await
    }

    /// Those of `subjects` whose accounts this tenant's members have adopted.
    pub async fn list_adopted(
        &self,
        tenant_id: TenantId,
        subjects: &[&str],
    ) -> Result<Vec<String>, StoreError> {
        #[derive(serde::Deserialize)]
        struct Adopted {
            authentik: Account,
        }
        #[derive(serde::Deserialize)]
        struct Account {
            subject: String,
        }
        let adopted = doc! {
            "tenantId": tenant_id,
            "authentik.origin": "adopted",
            "authentik.subject": { "$in": subjects },
            "status": present(),
        };
        self.members
            .clone_with_type::<Adopted>()
            .find(adopted)
            .projection(doc! { "_id": 0, "authentik.subject": 1 })
            .await?
            .map_ok(|member| member.authentik.subject)
            .try_collect()
            .await
    }

    /// Whether another tenant than the member's has a present member with the same account at the identity provider, by
    /// login or user. One that has no account yet does not count: every tenant can add any address.
    pub async fn is_elsewhere(
        &self,
        session: &mut ClientSession,
        member: &Member,
    ) -> Result<bool, StoreError> {
        let with_account = |mut person: Document| {
            person.extend(doc! { "status": present(), "authentik": { "$exists": true } });
            person
        };
        let mut person = vec![with_account(doc! { "email": &member.email })];
        if let Some(user_id) = member.user_id {
            person.push(with_account(doc! { "userId": user_id }));
        }
        let query = doc! { "$or": person, "tenantId": { "$ne": member.tenant_id } };
        let members = self.members.clone_with_type::<Document>();
        // The id alone, since another tenant's member may be of a newer build.
        let found = members.find_one(query).projection(doc! { "_id": 1 });
        Ok(found.session(session).await?.is_some())
    }

    /// Whether this tenant has a present member with this login, with or without an account.
    pub async fn has_login(&self, tenant_id: TenantId, login: &str) -> Result<bool, StoreError> {
        let query = doc! { "email": login, "status": present(), "tenantId": tenant_id };
        self.has_any(query).await
    }

    /// Whether another tenant than the member's has a present member with the same login, with or without an account.
    pub async fn is_login_elsewhere(&self, member: &Member) -> Result<bool, StoreError> {
        let query = doc! {
            "email": &member.email, "status": present(), "tenantId": { "$ne": member.tenant_id },
        };
        self.has_any(query).await
    }

    /// Whether a member matches, of whatever build.
    async fn has_any(&self, query: Document) -> Result<bool, StoreError> {
        let members = self.members.clone_with_type::<Document>();
        let found = members.find_one(query).projection(doc! { "_id": 1 });
        Ok(found.await?.is_some())
    }

    /// Whether another tenant than `tenant` has a present member with this login whose account, or whose user on the file
    /// server, was known once. A new account of the login would be that user.
    pub async fn has_account_elsewhere(
        &self,
        login: &str,
        tenant: Option<TenantId>,
    ) -> Result<bool, StoreError> {
        let mut query = doc! {
            "email": login,
            "status": present(),
            "$or": [
                { "authentik": { "$exists": true } },
                { "ocis": { "$exists": true } },
                { "ocisCreateBegun": true },
            ],
        };
        if let Some(tenant) = tenant {
            query.insert("tenantId", doc! { "$ne": tenant });
        }
        self.has_any(query).await
    }

    /// The members with these ids. Skips those of a newer build.
    pub async fn list_by_ids(&self, ids: &[MemberId]) -> Result<Vec<Member>, StoreError> {
        let query = doc! { "_id": { "$in": ids } };
        let members = self.members.clone_with_type::<Document>();
        skip_undecodable(members.find(query).await?)
            .try_collect()
            .await
    }

    /// A present member that has an address in this domain.
    pub async fn find_in_domain(
        &self,
        session: &mut ClientSession,
        domain_id: DomainId,
    ) -> Result<Option<Member>, StoreError> {
        let query = doc! {
            "$or": [{ "mailbox.domainId": domain_id }, { "mailbox.aliases.domainId": domain_id }],
            "status": present(),
        };
        self.members.find_one(query).session(session).await
    }

    /// Number of this tenant's present members, counted up to `limit`.
    pub async fn count(
        &self,
        session: &mut ClientSession,
        tenant_id: TenantId,
        limit: u64,
    ) -> Result<u64, StoreError> {
        self.members
            .count_documents(doc! { "tenantId": tenant_id, "status": present() })
            .limit(limit)
            .session(session)
            .await
    }

    /// Number of members whose last attempt failed in any upstream, by tenant; tenants without such are omitted. At most
    /// `MAX_FAILING` are counted.
    pub async fn count_failing(
        &self,
        tenants: &[TenantId],
    ) -> Result<HashMap<TenantId, u64>, StoreError> {
        let failing = Upstream::ALL.map(|upstream| {
            let status = format!("provisioningStatus.{upstream}");
            doc! { "tenantId": { "$in": tenants.to_vec() }, status: "error" }
        });
        let stages = vec![
            doc! { "$match": { "$or": failing.to_vec() } },
            doc! { "$limit": MAX_FAILING },
        ];
        count_by_tenant(&self.members, stages, "$tenantId").await
    }
}
