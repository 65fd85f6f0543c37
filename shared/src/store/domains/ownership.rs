//! Domain ownership: granting it, releasing it, and keeping the tenant's document in sync.

use std::collections::BTreeMap;

use bson::{DateTime, Document, doc};
use futures::TryStreamExt as _;
use mongodb::ClientSession;

use super::DomainRepository;
use crate::{
    domain::{Dmarc, Domain, OwnershipProof},
    id::{DomainId, TenantId},
    store::{StoreError, VersionedRepository as _, lenient::decode},
    tenant::Tenant,
};

/// Result of syncing the collection with the domains an operator set on the tenant.
#[derive(Debug, Clone, PartialEq)]
pub struct DomainSync {
    /// Domains to be removed.
    pub given_up: Vec<DomainId>,
    /// Competing claims that were lost.
    pub lost: Vec<Domain>,
}

impl DomainRepository {
    /// Marks `domain` as owned and rejects all competing claims, which are returned. The caller saves `domain`.
    ///
    /// A claim created concurrently is not rejected here: its first check finds the owner.
    pub async fn grant(
        &self,
        session: &mut ClientSession,
        domain: &mut Domain,
        tenant: &mut Tenant,
        by: OwnershipProof,
        now: DateTime,
    ) -> Result<Vec<Domain>, StoreError> {
        domain.mark_owned(by, now);
        domain.updated_at = now;
        tenant.add_domain(&domain.name);
        if domain.wants_primary || tenant.primary_domain.is_none() {
            self.make_primary(session, domain, tenant, now).await?;
        }
        self.reject_competing_claims(session, &[&domain.name], tenant.id, now)
            .await
    }

    /// Makes `domain` the primary one, replacing another. The caller saves `domain`.
    pub async fn make_primary(
        &self,
        session: &mut ClientSession,
        domain: &mut Domain,
        tenant: &mut Tenant,
        now: DateTime,
    ) -> Result<(), StoreError> {
        let other = doc! { "tenantId": tenant.id, "primary": true, "_id": { "$ne": domain.id } };
        let update = doc! {
            "$unset": { "primary": "" },
            "$set": { "updatedAt": now },
            "$inc": { "generation": 1_i64, "revision": 1_i64 },
        };
        self.domains
            .update_many(other, update)
            .session(session)
            .await?;
        domain.primary = true;
        domain.wants_primary = false;
        tenant.primary_domain = Some(domain.name.clone());
        Ok(())
    }

    /// Deletes `domain`, whether owned or claimed, and removes it from the tenant.
    pub async fn remove(
        &self,
        session: &mut ClientSession,
        domain: &Domain,
        tenant: &mut Tenant,
    ) -> Result<(), StoreError> {
        self.domains
            .delete_one(doc! { "_id": domain.id })
            .session(&mut *session)
            .await?;
        if domain.is_owned() {
            tenant.domains.retain(|name| *name != domain.name);
            tenant.former_domains.retain(|name| *name != domain.name);
        }
        if tenant.primary_domain.as_ref() == Some(&domain.name) {
            // A domain added during the removal.
            tenant.primary_domain = tenant.domains.first().cloned();
            if let Some(heir) = &tenant.primary_domain {
                let heir = doc! { "name": heir, "tenantId": tenant.id };
                let update = doc! {
                    "$set": { "primary": true },
                    "$inc": { "generation": 1_i64, "revision": 1_i64 },
                };
                self.domains
                    .update_one(heir, update)
                    .session(session)
                    .await?;
            }
        }
        Ok(())
    }

    /// Deletes all domains and claims of a purged tenant, and makes competing claims to its names due.
    pub async fn remove_all(
        &self,
        session: &mut ClientSession,
        tenant_id: TenantId,
        now: DateTime,
    ) -> Result<(), StoreError> {
        let mut existing = self.list_in(session, tenant_id).await?;
        self.domains
            .delete_many(doc! { "tenantId": tenant_id })
            .session(&mut *session)
            .await?;
        existing.retain(Domain::is_owned);
        let names: Vec<String> = existing.into_iter().map(|domain| domain.name).collect();
        self.recheck_competing_claims(session, &names, now).await
    }

    /// Syncs the collection with `tenant.domains` as set by an operator; `before` is the previous list. New names are
    /// marked as set by an operator, and the primary domain is kept if it is still listed. An owned domain that is no
    /// longer listed is marked for removal, and stays owned until the mail server has released it: otherwise mail for a
    /// tenant that proves it next would be served to this one. The caller enqueues a
    /// [`RemoveDomain`](crate::queue::args::RemoveDomain) for each domain given up.
    pub async fn sync_from_tenant(
        &self,
        session: &mut ClientSession,
        tenant: &mut Tenant,
        before: &[String],
        now: DateTime,
    ) -> Result<DomainSync, StoreError> {
        let existing = self.list_in(session, tenant.id).await?;
        let mut existing: BTreeMap<String, Domain> = existing
            .into_iter()
            .map(|domain| (domain.name.clone(), domain))
            .collect();
        let given_up: Vec<DomainId> = existing
            .values()
            .filter(|domain| domain.is_owned() && !tenant.domains.contains(&domain.name))
            .map(|domain| domain.id)
            .collect();
        if !given_up.is_empty() {
            let update = doc! {
                "$set": { "removing": true, "updatedAt": now },
                "$unset": { "primary": "", "wantsPrimary": "" },
                "$inc": { "generation": 1_i64, "revision": 1_i64 },
            };
            self.domains
                .update_many(doc! { "_id": { "$in": &given_up } }, update)
                .session(&mut *session)
                .await?;
        }
        let primary = tenant.primary_domain.take();
        tenant.primary_domain = primary
            .filter(|name| tenant.domains.contains(name))
            .or_else(|| tenant.domains.first().cloned());

        let mut granted = Vec::new();
        let mut new = Vec::new();
        for name in &tenant.domains {
            let claim = existing.remove(name);
            let mut domain = claim
                .clone()
                .unwrap_or_else(|| Domain::claim(tenant.id, name, Dmarc::default(), now));
            if !domain.is_owned() {
                domain.mark_owned(OwnershipProof::Operator, now);
                granted.push(name.as_str());
            }
            domain.primary = tenant.primary_domain.as_ref() == Some(name);
            domain.wants_primary = false;
            // Only re-adding a name reverts its removal.
            domain.removing &= before.contains(name);
            match claim {
                None => new.push(domain),
                Some(claim) if claim == domain => {}
                Some(_) => {
                    domain.generation += 1;
                    domain.revision += 1;
                    domain.updated_at = now;
                    self.save(session, &domain).await?;
                }
            }
        }
        if !new.is_empty() {
            self.domains
                .insert_many(&new)
                .session(&mut *session)
                .await?;
        }
        let lost = self
            .reject_competing_claims(session, &granted, tenant.id, now)
            .await?;
        Ok(DomainSync { given_up, lost })
    }

    /// All domains and claims of `tenant`, oldest first. Backfills the collection for a tenant that predates it.
    pub async fn backfill(
        &self,
        session: &mut ClientSession,
        tenant: &mut Tenant,
        now: DateTime,
    ) -> Result<Vec<Domain>, StoreError> {
        let existing = self.list_in(session, tenant.id).await?;
        let exists = |name: &String| {
            existing
                .iter()
                .any(|domain| domain.is_owned() && domain.name == *name)
        };
        if tenant.domains.iter().all(exists) {
            return Ok(existing);
        }
        let before = tenant.domains.clone();
        self.sync_from_tenant(session, tenant, &before, now).await?;
        self.list_in(session, tenant.id).await
    }

    /// Rejects every other tenant's claim to one of `names`, because `owner` owns them now. One that only a newer build can
    /// decode is left to its next check, which finds the owner.
    async fn reject_competing_claims(
        &self,
        session: &mut ClientSession,
        names: &[&str],
        owner: TenantId,
        now: DateTime,
    ) -> Result<Vec<Domain>, StoreError> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let others = doc! {
            "name": { "$in": names },
            "tenantId": { "$ne": owner },
            "ownedBy": { "$exists": false },
        };
        let claims = self.domains.clone_with_type::<Document>();
        let mut found = claims.find(others).session(&mut *session).await?;
        let others: Vec<Document> = found.stream(session).try_collect().await?;
        let mut others: Vec<Domain> = others.into_iter().filter_map(decode).collect();
        for domain in &mut others {
            domain.mark_lost(now);
            domain.revision += 1;
            domain.updated_at = now;
            self.save(session, domain).await?;
        }
        Ok(others)
    }
}
