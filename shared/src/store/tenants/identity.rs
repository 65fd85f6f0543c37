//! Tenants by their identities elsewhere: groups at the identity provider, and domains.

use std::collections::HashMap;

use bson::doc;
use futures::TryStreamExt as _;
use serde::Deserialize;

use super::{Id, TenantRepository, distinct};
use crate::{id::TenantId, store::StoreError, tenant::TenantStatus};

/// Tenant with its group at the identity provider.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupHolder {
    /// Tenant.
    #[serde(rename = "_id")]
    pub id: TenantId,
    /// Group.
    pub authentik_group_id: String,
}

impl TenantRepository {
    /// The tenants that hold `groups` (ids at the identity provider), of any status.
    pub async fn list_group_holders(
        &self,
        groups: &[String],
    ) -> Result<Vec<GroupHolder>, StoreError> {
        let holders = doc! { "authentikGroupId": { "$in": distinct(groups) } };
        let found = self
            .tenants
            .clone_with_type::<GroupHolder>()
            .find(holders)
            .projection(doc! { "authentikGroupId": 1 })
            .await?;
        found.try_collect().await
    }

    /// The tenant that owns this domain, unless it is terminated.
    pub async fn find_domain_owner(&self, domain: &str) -> Result<Option<TenantId>, StoreError> {
        let owners = self.domain_owners(&[domain.to_owned()]).await?;
        Ok(owners.into_values().next())
    }

    /// The tenants that own these domains, by domain. Terminated ones own none.
    pub async fn domain_owners(
        &self,
        domains: &[String],
    ) -> Result<HashMap<String, TenantId>, StoreError> {
        #[derive(serde::Deserialize)]
        struct Owner {
            #[serde(rename = "_id")]
            id: TenantId,
            domains: Vec<String>,
        }
        let owners = doc! {
            "domains": { "$in": domains },
            // As the index has it.
            "domains.0": { "$exists": true },
            "status": { "$ne": TenantStatus::Terminated.name() },
        };
        let tenants = self.tenants.clone_with_type::<Owner>();
        let found = tenants.find(owners).projection(doc! { "domains": 1 });
        let owners: Vec<Owner> = found.await?.try_collect().await?;
        let owned = owners.into_iter().flat_map(|owner| {
            let domains = owner.domains.into_iter();
            domains.map(move |domain| (domain, owner.id))
        });
        Ok(owned
            .filter(|(domain, _)| domains.contains(domain))
            .collect())
    }

    /// Those of `groups` (ids at the identity provider) that belong to a tenant other than `except` whose members may
    /// sign in.
    pub async fn groups_granting_sign_in(
        &self,
        groups: &[String],
        except: TenantId,
    ) -> Result<Vec<String>, StoreError> {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Group {
            authentik_group_id: String,
        }
        let open = doc! {
            "authentikGroupId": { "$in": distinct(groups) },
            "_id": { "$ne": except },
            "status": { "$in": ["pending", "active"] },
        };
        let found = self
            .tenants
            .clone_with_type::<Group>()
            .find(open)
            .projection(doc! { "authentikGroupId": 1 })
            .await?;
        found
            .map_ok(|tenant| tenant.authentik_group_id)
            .try_collect()
            .await
    }

    /// Tenants with one of `groups` (ids at the identity provider) whose members may not sign in.
    pub async fn tenants_blocking_sign_in(
        &self,
        groups: &[String],
    ) -> Result<Vec<TenantId>, StoreError> {
        let closed = doc! {
            "authentikGroupId": { "$in": distinct(groups) },
            "status": { "$in": ["suspended", "terminating"] },
        };
        let found = self
            .tenants
            .clone_with_type::<Id>()
            .find(closed)
            .projection(doc! { "_id": 1 })
            .await?;
        found.map_ok(|tenant| tenant.id).try_collect().await
    }
}
