//! Allowance repository: one document per plan.

use std::{collections::BTreeMap, sync::Arc};

use bson::{DateTime, Document, doc};
use futures::TryStreamExt as _;
use mongodb::Collection;

use super::{
    Store, StoreError, Versioned, VersionedRepository, lenient::skip_undecodable, to_document,
};
use crate::{allowance::Allowance, billing::Plan};

/// Allowances of all plans.
#[derive(Debug, Clone)]
pub struct AllowanceRepository {
    allowances: Collection<Allowance>,
}

impl Versioned for Allowance {
    type Id = Plan;

    fn id(&self) -> Plan {
        self.plan
    }

    fn revision(&self) -> i64 {
        self.revision
    }

    fn touch(&mut self, now: DateTime) {
        self.revision += 1;
        self.updated_at = now;
    }
}

impl VersionedRepository for AllowanceRepository {
    type Document = Allowance;

    fn documents(&self) -> &Collection<Allowance> {
        &self.allowances
    }
}

impl AllowanceRepository {
    /// The repository in `store`.
    pub fn new(store: &Arc<Store>) -> Self {
        Self {
            allowances: store.collection("allowances"),
        }
    }

    /// The allowance of a plan: the default until the api has stored one.
    pub async fn of_plan(&self, plan: Plan) -> Result<Allowance, StoreError> {
        let stored = self.find(plan).await?;
        Ok(stored.unwrap_or_else(|| default_of(plan)))
    }

    /// The allowance of every plan. Skips those of a newer build.
    pub async fn list_all(&self) -> Result<BTreeMap<Plan, Allowance>, StoreError> {
        let defaults = Plan::ALL.map(|plan| (plan, default_of(plan)));
        let mut allowances = BTreeMap::from(defaults);
        let stored = self.allowances.clone_with_type::<Document>();
        let stored = skip_undecodable(stored.find(doc! {}).await?);
        let stored: Vec<Allowance> = stored.try_collect().await?;
        allowances.extend(
            stored
                .into_iter()
                .map(|allowance| (allowance.plan, allowance)),
        );
        Ok(allowances)
    }

    /// Stores the default allowance of each plan that has none. Safe to run in several processes at once.
    pub async fn add_missing(&self, now: DateTime) -> Result<(), StoreError> {
        for plan in Plan::ALL {
            let mut default = to_document(&Allowance::default_of(plan, now))?;
            default.remove("_id");
            self.allowances
                .update_one(doc! { "_id": plan }, doc! { "$setOnInsert": default })
                .upsert(true)
                .await?;
        }
        Ok(())
    }
}

fn default_of(plan: Plan) -> Allowance {
    Allowance::default_of(plan, DateTime::from_millis(0))
}
