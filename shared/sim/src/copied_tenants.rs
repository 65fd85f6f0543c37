//! Copies of a provisioned tenant, stored in bulk together with what they have upstream: thousands of tenants in their
//! final state within seconds, rather than provisioned one by one.
//!
//! Copied are the tenant's document, its Authentik group and its oCIS space. A domain is not, since a domain belongs to
//! one tenant.

use anyhow::Context as _;
use bson::{Document, doc};
use dezky_shared::id::TenantId;
use dezky_upstreams::clients::ocis::space_name;
use mongodb::Database;
use serde_json::{Value, json};

use crate::{authentik::AuthentikSim, ocis::OcisSim};

/// Copies per insert.
const BATCH: usize = 5_000;

/// The tenant to copy, and where its copies are stored.
#[derive(Debug, Clone, Copy)]
pub struct Template<'a> {
    /// Slug of an active tenant without domains, provisioned in Authentik and oCIS.
    pub slug: &'a str,
    /// The product's database.
    pub database: &'a Database,
    /// Holds its group.
    pub authentik: &'a AuthentikSim,
    /// Holds its space.
    pub ocis: &'a OcisSim,
}

impl Template<'_> {
    /// Adds `count` copies, with the slugs `<prefix>-<number>`. Fails if there is no such tenant, or a slug is taken.
    pub async fn copy(&self, prefix: &str, count: usize) -> anyhow::Result<()> {
        let tenants = self.database.collection::<Document>("tenants");
        let original = tenants.find_one(doc! { "slug": self.slug }).await?;
        let original = original.context("the tenant to copy does not exist")?;
        for from in (0..count).step_by(BATCH) {
            let batch = from..count.min(from + BATCH);
            let copies = self.copies(&original, prefix, batch)?;
            tenants.insert_many(copies).await?;
        }
        Ok(())
    }

    /// The documents of these numbers, whose groups and spaces are added upstream.
    fn copies(
        &self,
        original: &Document,
        prefix: &str,
        numbers: std::ops::Range<usize>,
    ) -> anyhow::Result<Vec<Document>> {
        let space = original.get_str("ocisSpaceId")?;
        let group = self.authentik.group_named(self.slug);
        let attributes = group.context("the tenant has no group")?.attributes;
        let tenants: Vec<(TenantId, String)> = numbers
            .map(|number| (TenantId::new(), format!("{prefix}-{number}")))
            .collect();
        let spaces = tenants
            .iter()
            .map(|(id, slug)| (space_name(slug, slug), format!("project/{id}")));
        let spaces = self.ocis.copy_space(space, spaces);
        let copies = tenants.into_iter().zip(spaces).map(|((id, slug), space)| {
            let mut attributes = Value::Object(attributes.clone());
            attributes["tenantId"] = json!(id.to_string());
            attributes["tenantSlug"] = json!(slug);
            let group = self.authentik.add_group(&slug, &attributes);
            let mut copy = original.clone();
            copy.extend(doc! {
                "_id": id,
                "slug": &slug,
                "name": &slug,
                "authentikGroupId": group.id.to_string(),
                "ocisSpaceId": space,
            });
            copy
        });
        Ok(copies.collect())
    }
}
