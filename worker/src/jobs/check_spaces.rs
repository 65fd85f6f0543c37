//! Daily check of all spaces for duplicates and strays.
//!
//! A job of a tenant reads the tenant's space by its stored id, and so does not see a second one: of a create that landed
//! after it was given up, or of a tenant restored from a backup. This check lists all spaces once a day for all tenants
//! together. It reports, and changes nothing: only an operator can tell which of two spaces holds the tenant's files.

use std::collections::BTreeMap;

use dezky_shared::{
    id::TenantId,
    store::tenants::SpaceHolder,
    tenant::{TenantStatus, reason},
    upstream::Upstream,
};
use dezky_upstreams::clients::ocis::{ListedSpace, marked_tenant};
use tokio::sync::mpsc;

use crate::{
    context::Context,
    metrics,
    steps::{StepContext, StepFailure, StepSuccess, Steps},
};

/// Spaces held in memory and looked up per batch.
const BATCH: usize = 500;
/// Findings stored in the job. All are logged.
const MAX_STORED: usize = 100;

pub(super) fn steps() -> Steps {
    Steps::parallel().partial(Upstream::Ocis, "spaces", each_space)
}

async fn each_space(run: StepContext) -> Result<StepSuccess, StepFailure> {
    let Some(client) = &run.ctx.clients.ocis else {
        return Ok(StepSuccess::skipped(reason::INTEGRATION_DISABLED));
    };
    let client = client.with_deadline(&run.deadline);
    // A list for a lesser account lacks most spaces.
    client.require_full_view().await?;
    let (spaces, mut listed) = mpsc::channel(BATCH);
    let check = async {
        let mut findings = Findings::default();
        let mut batch = Vec::with_capacity(BATCH);
        while listed.recv_many(&mut batch, BATCH).await > 0 {
            check_batch(&run.ctx, &batch, &mut findings).await?;
            batch.clear();
        }
        // Owned here, so that an error ends the list.
        drop(listed);
        Ok::<_, StepFailure>(findings)
    };
    let (listed, findings) = tokio::join!(client.list_spaces(spaces), check);
    let findings = findings?;
    listed?;
    metrics::stray_spaces(findings.count);
    Ok(StepSuccess::ok(reason::NO_TENANT, findings.into_changes()))
}

/// Findings of a check.
#[derive(Default)]
struct Findings {
    count: usize,
    stored: Vec<String>,
}

impl Findings {
    fn add(&mut self, finding: String) {
        tracing::warn!("Stray space: {finding}");
        self.count += 1;
        if self.stored.len() < MAX_STORED {
            self.stored.push(finding);
        }
    }

    fn into_changes(mut self) -> Vec<String> {
        let omitted = self.count - self.stored.len();
        if omitted > 0 {
            self.stored
                .push(format!("and {omitted} more, in the worker's log"));
        }
        self.stored
    }
}

async fn check_batch(
    ctx: &Context,
    spaces: &[ListedSpace],
    findings: &mut Findings,
) -> Result<(), StepFailure> {
    let ids: Vec<String> = spaces.iter().map(|space| space.id.clone()).collect();
    let mut holders: BTreeMap<String, Vec<TenantId>> = BTreeMap::new();
    for holder in ctx.tenants.list_space_holders(&ids).await? {
        let id = holder.ocis_space_id.unwrap_or_default();
        holders.entry(id).or_default().push(holder.id);
    }
    let marked: Vec<TenantId> = spaces.iter().filter_map(tenant_of).collect();
    let marked = ctx.tenants.list_spaces_of(&marked).await?;
    let marked: BTreeMap<TenantId, SpaceHolder> = marked
        .into_iter()
        .map(|tenant| (tenant.id, tenant))
        .collect();
    for space in spaces {
        let holders = holders.get(&space.id).map_or(&[][..], Vec::as_slice);
        if let Some(finding) = finding_of(space, holders, &marked) {
            findings.add(finding);
        }
    }
    Ok(())
}

/// The tenant whose marker a space carries.
fn tenant_of(space: &ListedSpace) -> Option<TenantId> {
    marked_tenant(&space.drive_alias)?.parse().ok()
}

/// Finding about a space, if any. `holders` are the tenants that store it.
fn finding_of(
    space: &ListedSpace,
    holders: &[TenantId],
    marked: &BTreeMap<TenantId, SpaceHolder>,
) -> Option<String> {
    let id = &space.id;
    match holders {
        [] => {}
        // Its tenant's next job restores the marker.
        [_] => return None,
        several => {
            let several: Vec<_> = several.iter().map(ToString::to_string).collect();
            return Some(format!(
                "{id} is stored for several tenants: {}",
                several.join(", ")
            ));
        }
    }
    let tenant = tenant_of(space)?;
    let Some(known) = marked.get(&tenant) else {
        return Some(format!(
            "{id} is marked as that of tenant {tenant}, which does not exist"
        ));
    };
    match &known.ocis_space_id {
        Some(stored) => Some(format!(
            "{id} is marked as that of tenant {tenant}, which has {stored}"
        )),
        None if known.status == TenantStatus::Terminated => Some(format!(
            "{id} is marked as that of tenant {tenant}, which is terminated"
        )),
        None if known.ocis_space_absent => Some(format!(
            "{id} is marked as that of tenant {tenant}, which has none"
        )),
        // Its own job looks for it.
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(id: &str, alias: &str) -> ListedSpace {
        let space = serde_json::json!({ "id": id, "driveAlias": alias, "driveType": "project" });
        serde_json::from_value(space).unwrap()
    }

    #[test]
    fn a_space_is_reported_unless_one_tenant_stores_it_or_may_still_look_for_it() {
        let [tenant, other] = [TenantId::new(), TenantId::new()];
        let found = |holders: &[TenantId], status, stored: Option<&str>| {
            let known = SpaceHolder {
                id: tenant,
                status,
                ocis_space_id: stored.map(str::to_owned),
                ocis_space_absent: false,
            };
            let space = listed("a$1", &format!("project/{tenant}"));
            finding_of(&space, holders, &BTreeMap::from([(tenant, known)]))
        };
        let unknown = |alias: &str| finding_of(&listed("a$1", alias), &[], &BTreeMap::new());

        assert_eq!(found(&[tenant], TenantStatus::Active, Some("a$1")), None);
        assert_eq!(found(&[other], TenantStatus::Active, Some("a$2")), None);
        assert_eq!(found(&[], TenantStatus::Pending, None), None);
        let duplicate = found(&[], TenantStatus::Active, Some("a$2")).unwrap();
        assert!(duplicate.contains("a$1") && duplicate.contains("a$2"));
        assert!(found(&[], TenantStatus::Terminated, None).is_some());
        assert!(found(&[tenant, other], TenantStatus::Active, Some("a$1")).is_some());
        assert!(unknown(&format!("project/{other}")).is_some());
        assert_eq!(unknown("project/other-team"), None);
    }
}
