//! Filters and orders of tenant lists.

use std::str::FromStr;

use bson::{Document, doc};

use crate::{
    billing::Plan,
    id::{PartnerId, TenantId},
    store::{StoreError, to_bson},
    tenant::TenantStatus,
};

/// Order of a tenant list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TenantOrder {
    /// Oldest first.
    #[default]
    Oldest,
    /// Newest first.
    Newest,
    /// By slug.
    Slug,
    /// By slug, backwards.
    SlugDescending,
}

impl TenantOrder {
    /// Every order.
    pub const ALL: [Self; 4] = [Self::Oldest, Self::Newest, Self::Slug, Self::SlugDescending];

    /// Name on the wire: the field, after a hyphen if the order is descending.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Oldest => "createdAt",
            Self::Newest => "-createdAt",
            Self::Slug => "slug",
            Self::SlugDescending => "-slug",
        }
    }

    /// Whether the list is ordered by slug; otherwise by id, which is the order of creation.
    pub const fn is_by_slug(self) -> bool {
        matches!(self, Self::Slug | Self::SlugDescending)
    }

    const fn is_descending(self) -> bool {
        matches!(self, Self::Newest | Self::SlugDescending)
    }

    /// The sort keys.
    pub(super) fn keys(self) -> Document {
        let direction = if self.is_descending() { -1 } else { 1 };
        let field = if self.is_by_slug() { "slug" } else { "_id" };
        doc! { field: direction }
    }

    /// The operator that selects the documents after a position.
    const fn beyond(self) -> &'static str {
        if self.is_descending() { "$lt" } else { "$gt" }
    }
}

impl FromStr for TenantOrder {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut all = Self::ALL.into_iter();
        all.find(|order| order.name() == text)
            .ok_or_else(|| "expected createdAt, -createdAt, slug or -slug".to_owned())
    }
}

/// Filter of a tenant list.
#[derive(Debug, Clone, Default)]
pub struct TenantFilter {
    /// One of these, or managed by `visible_partner`; all if both are missing.
    pub visible: Option<Vec<TenantId>>,
    /// Also tenants managed by this partner.
    pub visible_partner: Option<PartnerId>,
    /// Filter by status.
    pub status: Option<TenantStatus>,
    /// Filter by plan.
    pub plan: Option<Plan>,
    /// Filter by managing partner.
    pub partner_id: Option<PartnerId>,
    /// With all of these [words](crate::audit::words) in the slug, the name or a domain.
    pub words: Vec<String>,
    /// Order of the list.
    pub order: TenantOrder,
    /// Only items after this id (page cursor), in an order by id.
    pub after: Option<TenantId>,
    /// Only items after this slug (page cursor), in an order by slug.
    pub after_slug: Option<String>,
}

impl TenantFilter {
    /// The filter as a query. Each alternative of a disjunction is a scan that an index yields in the order of the list,
    /// so that the scans are merged and end with the page.
    pub(super) fn document(&self) -> Result<Document, StoreError> {
        let mut alternatives = Vec::new();
        match (&self.visible, self.visible_partner) {
            (None, None) => alternatives = self.managed_by(self.partner_id)?,
            (ids, visible_partner) => {
                if let Some(ids) = ids {
                    alternatives.push(self.among(ids)?);
                }
                if let Some(partner) = visible_partner
                    && self.partner_id.is_none_or(|other| other == partner)
                {
                    alternatives.extend(self.managed_by(Some(partner))?);
                }
            }
        }
        Ok(match (alternatives.pop(), alternatives.is_empty()) {
            // Another partner's tenants.
            (None, _) => doc! { "_id": { "$in": [] } },
            (Some(only), true) => only,
            (Some(last), false) => {
                alternatives.push(last);
                doc! { "$or": alternatives }
            }
        })
    }

    /// The tenants that match, of these.
    fn among(&self, ids: &[TenantId]) -> Result<Document, StoreError> {
        // Not left to MongoDB, which would also read the ids before the page.
        let rest = ids.iter().copied();
        let rest = rest.filter(|id| {
            self.after.is_none_or(|after| {
                if self.order.is_descending() {
                    *id < after
                } else {
                    *id > after
                }
            })
        });
        let mut filter = doc! { "_id": { "$in": rest.collect::<Vec<_>>() } };
        self.start_after_slug(&mut filter);
        self.restrict(&mut filter, self.partner_id)?;
        if let Some(status) = self.status {
            filter.insert("status", status.name());
        }
        Ok(filter)
    }

    /// The tenants that match, of this partner if one is given. An index by partner or plan is ordered by id within each
    /// status only.
    fn managed_by(&self, partner: Option<PartnerId>) -> Result<Vec<Document>, StoreError> {
        let mut filter = Document::new();
        if let Some(after) = self.after {
            filter.insert("_id", doc! { self.order.beyond(): after });
        }
        self.start_after_slug(&mut filter);
        self.restrict(&mut filter, partner)?;
        // The index of the search yields the order for any status.
        let is_ordered = partner.is_none() && self.plan.is_none()
            || self.order.is_by_slug()
            || !self.words.is_empty();
        let statuses = match self.status {
            Some(status) => vec![status],
            None if is_ordered => return Ok(vec![filter]),
            None => TenantStatus::ALL.to_vec(),
        };
        let of_status = statuses.into_iter().map(|status| {
            let mut filter = filter.clone();
            filter.insert("status", status.name());
            filter
        });
        Ok(of_status.collect())
    }

    fn restrict(
        &self,
        filter: &mut Document,
        partner: Option<PartnerId>,
    ) -> Result<(), StoreError> {
        if let Some(partner) = partner {
            filter.insert("partnerId", partner);
        }
        if let Some(plan) = &self.plan {
            filter.insert("plan", to_bson(plan)?);
        }
        if !self.words.is_empty() {
            filter.insert("words", doc! { "$all": &self.words });
        }
        Ok(())
    }

    fn start_after_slug(&self, filter: &mut Document) {
        if let Some(after) = &self.after_slug {
            filter.insert("slug", doc! { self.order.beyond(): after });
        }
    }
}
