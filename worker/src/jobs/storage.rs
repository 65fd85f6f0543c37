//! Measurement of tenants' storage: of one tenant by its stored ids, and of all at night by one list of all spaces, and one of
//! all personal spaces.
//!
//! Both only read the upstreams, and replace parts of the storage reports. Personal spaces are measured at night only: the
//! file server has no list of those of a tenant, and one call per member takes too long.

mod all;
mod one;

use dezky_shared::{
    id::TenantId,
    storage_report::{MailUsage, MailboxUsage},
    upstream::{MailDomain, STORAGE_FILES, STORAGE_MAIL, STORAGE_PERSONAL, Upstream},
};
use dezky_upstreams::clients::{ClientError, stalwart::Stalwart};

use super::tenant::ReadOnlySink;
use crate::steps::{StepContext, Steps};

/// Result of the steps, stored as the reason.
const MEASURED: &str = "Measured";

/// Measures one tenant.
pub(super) fn measure() -> Steps {
    Steps::parallel()
        .partial(Upstream::Ocis, STORAGE_FILES, one::files)
        .partial(Upstream::Stalwart, STORAGE_MAIL, one::mail)
        .reporting_to(ReadOnlySink)
}

/// Measures all tenants.
pub(super) fn measure_all() -> Steps {
    Steps::parallel()
        .partial(Upstream::Ocis, STORAGE_FILES, all::files)
        .partial(Upstream::Ocis, STORAGE_PERSONAL, all::personal)
        .partial(Upstream::Stalwart, STORAGE_MAIL, all::mail)
}

/// Usage of the mailboxes in a tenant's stored domains.
async fn usage_of(
    run: &StepContext,
    client: &Stalwart,
    tenant: TenantId,
    domains: &[MailDomain],
) -> Result<MailUsage, ClientError> {
    let as_of = run.ctx.store.now();
    let mut mailboxes: Vec<MailboxUsage> = Vec::new();
    let tenant = tenant.to_string();
    for domain in client.find_known_domains(&tenant, domains).await? {
        mailboxes.extend(client.list_usage(&domain.id).await?);
    }
    Ok(MailUsage::of(mailboxes, as_of))
}
