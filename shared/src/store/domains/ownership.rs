//! Whose a name is: giving it, taking it, and keeping the tenant's document in step.

use std::collections::BTreeMap;

use bson::{DateTime, doc};
use futures::TryStreamExt as _;
use mongodb::ClientSession;

use super::DomainRepository;
use crate::{
    domain::{Dmarc, Domain, OwnershipProof},
    id::{DomainId, TenantId},
    store::StoreError,
    tenant::Tenant,
};

/// What came of making the collection hold what an operator wrote.
#[derive(Debug, Clone, PartialEq)]
pub struct DomainSync {
    /// The domains that are to be removed.
    pub given_up: Vec<DomainId>,
    /// The claims of others that are lost.
    pub lost: Vec<Domain>,
}

impl DomainRepository {
    /// Makes `domain`, which the caller writes after, its tenant's own, and tells everyone else who claims the name:
    /// those claims are returned.
    ///
    /// A claim that is made in the same moment is not told here: it finds the owner when it is first looked at.
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

    /// Makes `domain`, which the caller writes after, the primary one in the place of another.
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

    /// Takes `domain` from its tenant, or its tenant's claim, and forgets it.
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
            // One that was added while this one was on its way out.
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

    /// Forgets everything a tenant owns and claims: it is gone. Whoever else claims what it owned may prove it now.
    pub async fn remove_all(
        &self,
        session: &mut ClientSession,
        tenant_id: TenantId,
        now: DateTime,
    ) -> Result<(), StoreError> {
        let mut known = self.list_in(session, tenant_id).await?;
        self.domains
            .delete_many(doc! { "tenantId": tenant_id })
            .session(&mut *session)
            .await?;
        known.retain(Domain::is_owned);
        let names: Vec<String> = known.into_iter().map(|domain| domain.name).collect();
        self.recheck_competing_claims(session, &names, now).await
    }

    /// Makes the collection hold what an operator wrote into `tenant.domains`, which were `before`: each of them is
    /// vouched for, and the primary one stays, if it is still there. What is owned and not among them any more is to
    /// be removed, and stays owned until the mail server has let go of it: what others prove before that would be
    /// served to this tenant. Whoever calls has a [`RemoveDomain`](crate::queue::args::RemoveDomain) made of each that is
    /// given up.
    pub async fn sync_from_tenant(
        &self,
        session: &mut ClientSession,
        tenant: &mut Tenant,
        before: &[String],
        now: DateTime,
    ) -> Result<DomainSync, StoreError> {
        let known = self.list_in(session, tenant.id).await?;
        let mut known: BTreeMap<String, Domain> = known
            .into_iter()
            .map(|domain| (domain.name.clone(), domain))
            .collect();
        let given_up: Vec<DomainId> = known
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
            let claim = known.remove(name);
            let mut domain = claim
                .clone()
                .unwrap_or_else(|| Domain::claim(tenant.id, name, Dmarc::default(), now));
            if !domain.is_owned() {
                domain.mark_owned(OwnershipProof::Operator, now);
                granted.push(name.as_str());
            }
            domain.primary = tenant.primary_domain.as_ref() == Some(name);
            domain.wants_primary = false;
            // Only who puts a name back takes its removal back.
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

    /// All that `tenant` owns and claims, oldest first. A tenant of before there was this collection gets its
    /// documents now.
    pub async fn backfill(
        &self,
        session: &mut ClientSession,
        tenant: &mut Tenant,
        now: DateTime,
    ) -> Result<Vec<Domain>, StoreError> {
        let known = self.list_in(session, tenant.id).await?;
        let is_known = |name: &String| {
            known
                .iter()
                .any(|domain| domain.is_owned() && domain.name == *name)
        };
        if tenant.domains.iter().all(is_known) {
            return Ok(known);
        }
        let before = tenant.domains.clone();
        self.sync_from_tenant(session, tenant, &before, now).await?;
        self.list_in(session, tenant.id).await
    }

    /// Tells every other tenant that claims one of `names` that it is `owner`'s.
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
        let mut found = self.domains.find(others).session(&mut *session).await?;
        let mut others: Vec<Domain> = found.stream(session).try_collect().await?;
        for domain in &mut others {
            domain.mark_lost(now);
            domain.revision += 1;
            domain.updated_at = now;
            self.save(session, domain).await?;
        }
        Ok(others)
    }
}
