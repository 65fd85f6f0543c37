//! Tenant: a company's workspace, with its desired and its actual state.
//!
//! Callers write the desired state (and increment `generation`); jobs write the actual state (`provisioning_status`,
//! `conditions`). The state the upstreams should have follows from the document alone: [`Tenant::desired_state`].

mod provisioning;

use std::{fmt, str::FromStr};

use bson::DateTime;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;

pub(crate) use self::provisioning::ProvisioningMut;
pub use self::provisioning::{
    Condition, ConditionStatus, PerUpstream, ProvisioningState, condition_type, reason,
};
use crate::{
    audit::words,
    billing::{BillingInfo, Plan},
    branding::TenantBranding,
    id::{JobId, PartnerId, TenantId},
    security_policy::SecurityPolicy,
    upstream::{MailDomain, Upstream},
};

/// Maximum number of indexed words of a tenant: a hundred domains have about as many labels twice.
const MAX_WORDS: usize = 256;

/// Status of a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum TenantStatus {
    /// Not yet provisioned in every upstream.
    Pending,
    /// Provisioned.
    Active,
    /// Suspended: members cannot sign in, nothing is deleted.
    Suspended,
    /// Scheduled for removal at `purge_at`, suspended until then.
    Terminating,
    /// Removed. The document stays, so that its slug is never reused.
    Terminated,
}

impl TenantStatus {
    /// Every status.
    pub const ALL: [Self; 5] = [
        Self::Pending,
        Self::Active,
        Self::Suspended,
        Self::Terminating,
        Self::Terminated,
    ];

    /// Name in documents and on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Terminating => "terminating",
            Self::Terminated => "terminated",
        }
    }
}

impl fmt::Display for TenantStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for TenantStatus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|status| status.name() == text)
            .ok_or_else(|| {
                "expected pending, active, suspended, terminating or terminated".to_owned()
            })
    }
}

/// Desired state of a tenant in the upstreams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DesiredState {
    /// Provisioned, and members can sign in.
    Active,
    /// Provisioned, and members cannot sign in.
    Suspended,
    /// Removed.
    Gone,
}

/// Person for whom a workspace is created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Owner {
    /// E-mail address in lower case: the username at the identity provider.
    pub email: String,
    /// Display name.
    pub name: String,
    /// Id at the identity provider, once known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
}

/// Tenant, as stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tenant {
    /// Unique id.
    #[serde(rename = "_id")]
    pub id: TenantId,
    /// Name in URLs and of the tenant's group: immutable, never reused.
    pub slug: String,
    /// Display name.
    pub name: String,
    /// Current status.
    pub status: TenantStatus,
    /// Status before termination, restored by a restore.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_before: Option<TenantStatus>,
    /// Time of removal from the upstreams.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purge_at: Option<DateTime>,
    /// Purchased plan.
    pub plan: Plan,
    /// Owned mail domains, a projection of the domains collection: lower case, A-labels. A domain belongs to at most
    /// one tenant.
    #[serde(default)]
    pub domains: Vec<String>,
    /// Domain of new mailboxes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary_domain: Option<String>,
    /// Domains given up and not yet removed from the mail server.
    #[serde(default)]
    pub former_domains: Vec<String>,
    /// Managing partner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partner_id: Option<PartnerId>,
    /// Industry of the company.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub industry: Option<String>,
    /// Brand color, `#rrggbb`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub brand_color: Option<String>,
    /// Person for whom the workspace was created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
    /// Group id at the identity provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authentik_group_id: Option<String>,
    /// Space id on the file server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ocis_space_id: Option<String>,
    /// Whether the tenant certainly has no space on the file server: none was requested since it was created, or since
    /// its space was removed. If neither this nor an id is stored, a create has an unknown outcome, and its space has to
    /// be looked for, unless the tenant is [fresh](Self::fresh_for); so it is for tenants of older builds.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ocis_space_absent: bool,
    /// Job that was enqueued with the tenant, for each upstream of which no other has recorded a call for it. Only
    /// attempts of this job that left no record may have created anything there. Missing for tenants of older builds,
    /// for which an upstream has to be searched.
    #[serde(default, skip_serializing_if = "is_default")]
    pub fresh_for: PerUpstream<Option<JobId>>,
    /// First domain provisioned on the mail server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stalwart_domain: Option<String>,
    /// Domains on the mail server.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mail_domains: Vec<MailDomain>,
    /// Customer id at the payment provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stripe_customer_id: Option<String>,
    /// Billing details.
    #[serde(default, skip_serializing_if = "is_default")]
    pub billing_info: BillingInfo,
    /// Branding of the workspace.
    #[serde(default, skip_serializing_if = "is_default")]
    pub branding: TenantBranding,
    /// Security policy of sign-in.
    #[serde(default, skip_serializing_if = "is_default")]
    pub security_policy: SecurityPolicy,
    /// Incremented by every write of a caller.
    pub generation: i64,
    /// Provisioning state in each upstream.
    pub provisioning_status: PerUpstream<ProvisioningState>,
    /// Last error in each upstream, safe to show.
    #[serde(default)]
    pub provisioning_errors: PerUpstream<Option<String>>,
    /// Conditions: the provisioning states in full.
    #[serde(default)]
    pub conditions: Vec<Condition>,
    /// Time until which an in-doubt write may still land; no further write is sent before.
    #[serde(default)]
    pub unknown_until: PerUpstream<Option<DateTime>>,
    /// Words of the slug, the name and the domains, for the search.
    #[serde(default)]
    pub words: Vec<String>,
    /// Incremented by every write.
    pub revision: i64,
    /// Creation time.
    pub created_at: DateTime,
    /// Time of the last change.
    pub updated_at: DateTime,
}

impl Tenant {
    /// Computes the words of the search. Called after a change of the name or of the domains.
    pub fn index_words(&mut self) {
        let texts = [&self.slug, &self.name].into_iter().chain(&self.domains);
        let mut found: Vec<String> = texts.flat_map(|text| words(text)).collect();
        found.sort();
        found.dedup();
        found.truncate(MAX_WORDS);
        self.words = found;
    }

    /// Whether no upstream is `pending`: the desired state is applied, or its last attempt failed.
    pub fn is_settled(&self) -> bool {
        let states = Upstream::ALL.map(|upstream| *self.provisioning_status.get(upstream));
        !states.contains(&ProvisioningState::Pending)
    }

    /// Desired state at `now`.
    pub fn desired_state(&self, now: DateTime) -> DesiredState {
        match self.status {
            TenantStatus::Pending | TenantStatus::Active => DesiredState::Active,
            TenantStatus::Terminating if self.purge_at.is_some_and(|at| at <= now) => {
                DesiredState::Gone
            }
            TenantStatus::Suspended | TenantStatus::Terminating => DesiredState::Suspended,
            TenantStatus::Terminated => DesiredState::Gone,
        }
    }

    /// Whether the upstreams should have the same state for `other`, another version of this tenant. Settings that no
    /// upstream holds, such as branding or the security policy, do not count.
    pub fn desires_same_as(&self, other: &Self) -> bool {
        self.desired() == other.desired()
    }

    /// Digest of the state that the upstreams should have, equal for versions that
    /// [desire the same](Self::desires_same_as).
    pub fn desired_digest(&self) -> String {
        let desired = serde_json::to_vec(&self.desired());
        let desired = desired.expect("texts, names and times serialise to JSON");
        let digest = Sha256::digest(desired);
        let first = digest[..8].try_into().expect("a digest has 32 bytes");
        format!("{:016x}", u64::from_be_bytes(first))
    }

    fn desired(&self) -> impl PartialEq + Serialize + '_ {
        let owner = self.owner.as_ref();
        // What reports themselves change does not count: a pending tenant becomes active, and a former domain is
        // forgotten once it is removed.
        let status = match self.status {
            TenantStatus::Pending => TenantStatus::Active,
            status => status,
        };
        (
            (status, self.purge_at),
            (&self.slug, &self.name, self.plan, &self.domains),
            (self.partner_id, owner.map(|it| (&it.email, &it.name))),
        )
    }

    /// Adds `name` to the owned domains.
    pub fn add_domain(&mut self, name: &str) {
        if !self.domains.iter().any(|owned| owned == name) {
            self.domains.push(name.to_owned());
        }
        self.former_domains.retain(|former| former != name);
        self.index_words();
    }

    /// Whether the tenant owns the domain of this e-mail address.
    pub fn owns_domain_of(&self, email: &str) -> bool {
        let domain = email.rsplit_once('@').map(|(_, domain)| domain);
        domain.is_some_and(|domain| self.domains.iter().any(|owned| owned == domain))
    }

    /// The mail server's id of the domain that the tenant owns by this name, if it is known.
    pub fn mail_domain_id(&self, name: &str) -> Option<&str> {
        let mut known = self.mail_domains.iter();
        let known = known.find(|domain| domain.name == name)?;
        Some(&known.id)
    }

    /// The condition of `upstream`.
    pub fn condition(&self, upstream: Upstream) -> Option<&Condition> {
        let kind = condition_type(upstream);
        self.conditions
            .iter()
            .find(|condition| condition.kind == kind)
    }

    /// Replaces the condition of the same type. The transition time is kept if the status is unchanged.
    pub fn set_condition(&mut self, condition: Condition) {
        condition.set_in(&mut self.conditions);
    }

    /// Resets the state of `upstreams` to pending: a new desired state has to be applied there.
    pub fn set_pending(&mut self, upstreams: &[Upstream], now: DateTime) {
        self.provisioning_mut().set_pending(upstreams, now);
    }

    /// The provisioning states with their conditions.
    pub(crate) fn provisioning_mut(&mut self) -> ProvisioningMut<'_> {
        ProvisioningMut {
            generation: self.generation,
            status: &mut self.provisioning_status,
            errors: &mut self.provisioning_errors,
            conditions: &mut self.conditions,
        }
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
