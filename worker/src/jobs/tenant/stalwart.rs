//! Tenant in Stalwart: the mail domains and access to their mailboxes.

use dezky_shared::{
    domain::Domain as Claim,
    tenant::{DesiredState, Tenant, reason},
    upstream::{MailDomain, Upstream},
};
use dezky_upstreams::clients::{
    ClientError, Ensured,
    stalwart::{Account, AccountPage, Domain, MailFreeze, Removal, Stalwart},
};

use super::{
    applies, converged_reason,
    freshness::is_fresh,
    members::{Listed, repair},
    status::TenantRefs,
    tenant_of,
};
use crate::{
    jobs::{domain, item_work::ItemWork},
    steps::{StepContext, StepFailure, StepSuccess},
};

/// Converges the domains and their mailboxes to the desired state.
pub(super) async fn converge(run: StepContext) -> Result<StepSuccess, StepFailure> {
    let (tenant, desired_state) = tenant_of(&run)?;
    let Some(client) = &run.ctx.clients.stalwart else {
        return Ok(StepSuccess::skipped(reason::INTEGRATION_DISABLED));
    };
    let has_none = tenant.domains.is_empty()
        && tenant.former_domains.is_empty()
        && tenant.mail_domains.is_empty();
    if has_none && desired_state == DesiredState::Active {
        return Ok(without_domains(reason::NO_DOMAIN));
    }
    let client = client.with_deadline(&run.deadline);
    if desired_state != DesiredState::Gone && has_no_domain_yet(&run, tenant) {
        return provision(&run, &client, tenant, desired_state, None).await;
    }
    let id = tenant.id.to_string();
    let owned = client.list_domains(&id, &tenant.mail_domains).await?;
    match desired_state {
        DesiredState::Gone if has_none && owned.is_empty() => Ok(without_domains(reason::REMOVED)),
        DesiredState::Gone => remove(&run, &client, &owned).await,
        _ if has_none && owned.is_empty() => Ok(without_domains(reason::NO_DOMAIN)),
        DesiredState::Active | DesiredState::Suspended => {
            provision(&run, &client, tenant, desired_state, Some(owned)).await
        }
    }
}

/// Whether the mail server has no domain of the tenant, except one that the job of a domain has provisioned.
fn has_no_domain_yet(run: &StepContext, tenant: &Tenant) -> bool {
    is_fresh(run, tenant, Upstream::Stalwart)
        && !tenant.domains.is_empty()
        && tenant.former_domains.is_empty()
        && tenant.mail_domains.is_empty()
}

fn without_domains(reason: &'static str) -> StepSuccess {
    StepSuccess::skipped(reason).with_refs(TenantRefs {
        stalwart_domain: Some(None),
        ..TenantRefs::default()
    })
}

/// Ensures the tenant's domains, and the access to the mailboxes of all its domains: of those being removed, and of those
/// that an operator renamed, too. `owned` are the domains that the tenant has; `None` if it has none yet, so that they are
/// created without a look-up.
async fn provision(
    run: &StepContext,
    client: &Stalwart,
    tenant: &Tenant,
    desired_state: DesiredState,
    owned: Option<Vec<Domain>>,
) -> Result<StepSuccess, StepFailure> {
    let claims = run.ctx.domains.list_owned(tenant.id).await?;
    let mut work = ItemWork::resume(run, Upstream::Stalwart.name());
    let mut ensured = Vec::new();
    for name in &tenant.domains {
        let claim = claims.iter().find(|claim| claim.name == *name);
        // Its own job removes it.
        if claim.is_some_and(|claim| claim.removing) {
            continue;
        }
        let desired = domain::desired(tenant, name, claim);
        let result = match &owned {
            None => client.create_domain(&desired.as_ref()).await,
            Some(owned) => {
                client
                    .ensure_domain(&desired.as_ref(), owned, run.mode)
                    .await
            }
        };
        if let Some(result) = work.capture(result)? {
            work.changes.extend(result.changes.iter().cloned());
            ensured.push((name, result));
        }
    }
    let owned = owned.unwrap_or_default();
    let served = remove_former(run, client, tenant, owned, &ensured, &mut work).await?;
    work.refs.stalwart_domain = Some(tenant.domains.first().cloned());
    work.refs.mail_domains = Some(mail_domains(tenant, &served, &ensured));
    let outdated = outdated_claims(run, claims, &ensured);
    work.changes.extend(differing(&outdated, &ensured));
    if applies(run.mode) {
        domain::refresh(run, outdated).await?;
    }
    let accounts = set_access(run, client, &served, desired_state, &mut work).await?;
    if !work.is_unfinished() {
        repair(run, tenant, &Listed::mailboxes(accounts), &mut work).await?;
    }
    work.finish(converged_reason(desired_state))
}

/// Domains that were ensured, with their names.
type EnsuredDomains<'a> = [(&'a String, Ensured<Domain>)];

/// Removes the domains that the tenant released, and returns the remaining ones, the new ones included. The mailboxes of a
/// domain that is still in use follow the tenant's state.
async fn remove_former(
    run: &StepContext,
    client: &Stalwart,
    tenant: &Tenant,
    mut owned: Vec<Domain>,
    ensured: &EnsuredDomains<'_>,
    work: &mut ItemWork<'_>,
) -> Result<Vec<Domain>, StepFailure> {
    for name in &tenant.former_domains {
        let Some(former) = domain::former(name, Some(tenant), &owned).cloned() else {
            work.refs.removed_domains.push(name.clone());
            continue;
        };
        let removed = client.remove_domain(&former, &owned, run.mode).await;
        if let Some(removed) = work.capture(removed)? {
            work.changes.extend(removed.changes);
            work.refs.removed_domains.push(name.clone());
            owned.retain(|it| it.id != former.id);
        }
    }
    let values = ensured
        .iter()
        .filter_map(|(_, ensured)| ensured.value.clone());
    let new: Vec<Domain> = values
        .filter(|domain| owned.iter().all(|it| it.id != domain.id))
        .collect();
    owned.extend(new);
    Ok(owned)
}

/// The ids to store: each under the name by which the tenant owns the domain, also while the server calls it otherwise.
fn mail_domains(
    tenant: &Tenant,
    served: &[Domain],
    ensured: &EnsuredDomains<'_>,
) -> Vec<MailDomain> {
    let name_of = |domain: &Domain| {
        let is_same = |(_, it): &&(&String, Ensured<Domain>)| {
            it.value.as_ref().map(|it| &it.id) == Some(&domain.id)
        };
        if let Some((name, _)) = ensured.iter().find(is_same) {
            return (*name).clone();
        }
        let mut known = tenant.mail_domains.iter();
        let known = known.find(|known| known.id == domain.id);
        known.map_or_else(|| domain.name.clone(), |known| known.name.clone())
    };
    served
        .iter()
        .map(|domain| MailDomain {
            id: domain.id.clone(),
            name: name_of(domain),
        })
        .collect()
}

/// The claims of domains that changed, or whose expected records are outdated: each has a job of its own.
fn outdated_claims(
    run: &StepContext,
    mut claims: Vec<Claim>,
    ensured: &EnsuredDomains<'_>,
) -> Vec<Claim> {
    claims.retain(|claim| match ensured_as(claim, ensured) {
        Some(Ensured { value, changes }) if changes.is_empty() => value
            .as_ref()
            .is_none_or(|it| domain::is_outdated(run, claim, &it.zone_file)),
        Some(_) => true,
        // Its removal is pending, or its own job reports why it cannot be provisioned.
        None => claim.removing || !domain::is_provisioned(claim),
    });
    claims
}

/// The changes that the jobs of these claims will make, of which those of this step say nothing.
fn differing(outdated: &[Claim], ensured: &EnsuredDomains<'_>) -> Vec<String> {
    let is_silent = |claim: &&Claim| {
        let ensured = ensured_as(claim, ensured);
        ensured.is_some_and(|ensured| ensured.changes.is_empty())
    };
    let silent = outdated.iter().filter(is_silent);
    silent
        .map(|claim| format!("domain {} differs", claim.name))
        .collect()
}

fn ensured_as<'a>(claim: &Claim, ensured: &'a EnsuredDomains<'_>) -> Option<&'a Ensured<Domain>> {
    let mut ensured = ensured.iter();
    let found = ensured.find(|(name, _)| **name == claim.name);
    found.map(|(_, ensured)| ensured)
}

/// Freezes the mailboxes of the domains, or unfreezes those that a suspension froze, page by page. Returns the mailboxes as
/// they were listed. A domain that was just created has none.
async fn set_access(
    run: &StepContext,
    client: &Stalwart,
    domains: &[Domain],
    desired_state: DesiredState,
    work: &mut ItemWork<'_>,
) -> Result<Vec<Account>, StepFailure> {
    let mut listed = Vec::new();
    let note = match desired_state {
        DesiredState::Active => "mailboxes opened",
        _ => "mailboxes closed",
    };
    let (mut before, mut total) = (0, 0);
    for domain in domains.iter().filter(|domain| !domain.is_new) {
        let mut next = Some(0);
        while let Some(position) = next {
            if !work.has_time() {
                work.leave_rest();
                return Ok(listed);
            }
            let page = client.account_page(&domain.id, position).await;
            let Some(page) = work.capture(page)? else {
                break;
            };
            let AccountPage {
                accounts,
                total: in_domain,
                next: after,
            } = page;
            next = after;
            if position == 0 {
                total += in_domain;
            }
            let changed = match desired_state {
                DesiredState::Active => {
                    client
                        .unfreeze_accounts(&accounts, MailFreeze::Tenant, run.mode)
                        .await
                }
                _ => {
                    client
                        .freeze_accounts(&accounts, MailFreeze::Tenant, run.mode)
                        .await
                }
            };
            before += accounts.len();
            if let Some(changed) = work.capture(changed)? {
                let advanced = changed.changes.len();
                let refused = changed.failures.len();
                work.begin(note, before.saturating_sub(advanced + refused), total);
                work.advance(advanced);
                work.changes.extend(changed.changes);
                for failure in changed.failures {
                    work.capture::<()>(Err(failure))?;
                }
            }
            listed.extend(accounts);
        }
    }
    Ok(listed)
}

/// Removes all domains of the tenant, with their mailboxes.
async fn remove(
    run: &StepContext,
    client: &Stalwart,
    owned: &[Domain],
) -> Result<StepSuccess, StepFailure> {
    let mut work = ItemWork::resume(run, Upstream::Stalwart.name());
    for domain in owned {
        if !work.has_time() {
            work.leave_rest();
            break;
        }
        let mut removal = Removal::until(run.yield_after);
        let purged: Result<(), ClientError> =
            client.purge_domain(domain, run.mode, &mut removal).await;
        work.begin("mailboxes and lists removed", 0, removal.found());
        work.advance(removal.removed());
        work.changes.extend(removal.changes());
        if work.capture(purged)?.is_some() && !removal.is_complete() {
            work.leave_rest();
            break;
        }
    }
    if !work.is_unfinished() {
        work.check_failures()?;
        work.refs.stalwart_domain = Some(None);
        work.refs.mail_domains = Some(Vec::new());
    }
    work.finish(reason::REMOVED)
}
