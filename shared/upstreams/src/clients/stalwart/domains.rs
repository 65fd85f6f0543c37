//! Mail domains: lookup, creation, repair, and DKIM keys.
//!
//! A domain is identified by its id together with its name or its marker: an operator may rename a domain or edit its
//! description, and a server restored from a backup may reuse an id. The marker alone suffices too, since only
//! administrators of the server can write it; the name alone does not.

mod dkim;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use self::dkim::DkimManagement;
pub use self::dkim::Zone;
use super::{
    Stalwart, failed,
    jmap::{Call, result_of},
};
use crate::clients::{ClientError, Ensured, Mode, Operation};
use dezky_shared::{queue::error_code::ErrorCode, upstream::MailDomain};

/// Beginning of every ownership marker.
const MARKER: &str = "dezky:";

/// Mail domain, as returned by Stalwart.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Domain {
    /// Stalwart's id.
    pub id: String,
    /// Name: lower case, no trailing dot, ASCII.
    pub name: String,
    /// Ownership marker: `dezky:<tenantId>` on our domains.
    pub description: Option<String>,
    /// Expected DNS records, as the lines of a BIND zone file. Empty for a new domain.
    #[serde(rename = "dnsZoneFile", default)]
    pub zone_file: String,
    /// Whether this client has just created it, so that it has no mailboxes. A domain that was read is not new.
    #[serde(skip)]
    pub is_new: bool,
    #[serde(default)]
    report_address_uri: Option<String>,
    dkim_management: DkimManagement,
}

impl Domain {
    /// Whether the domain has this tenant's marker.
    pub fn belongs_to(&self, tenant_id: &str) -> bool {
        self.description.as_deref() == Some(&ownership_marker(tenant_id))
    }

    /// Whether the domain is one of the `known` ones, renamed or without its marker. A domain with the marker of another
    /// tenant is not.
    pub(super) fn is_known(&self, known: &[MailDomain]) -> bool {
        let marker = self.description.as_deref().unwrap_or_default();
        let same = |known: &MailDomain| known.id == self.id && known.name == self.name;
        !marker.starts_with(MARKER) && known.iter().any(same)
    }
}

/// Desired state of a domain.
#[derive(Debug, Clone, Copy)]
pub struct DesiredDomain<'a> {
    /// Name.
    pub name: &'a str,
    /// Owning tenant.
    pub tenant_id: &'a str,
    /// Id last stored for this name.
    pub known_id: Option<&'a str>,
    /// Address of reports about the domain's mail (DMARC, TLS); `None` leaves it as it is.
    pub report_address: Option<&'a str>,
}

impl DesiredDomain<'_> {
    fn report_address_uri(&self) -> Option<String> {
        let address = self.report_address?;
        Some(format!("mailto:{address}"))
    }
}

/// Address of reports that Stalwart completes with the domain itself.
pub const POSTMASTER: &str = "postmaster";

impl Stalwart {
    /// Finds the domain with exactly this name; aliases of other domains do not count.
    pub async fn find_domain(&self, name: &str) -> Result<Option<Domain>, ClientError> {
        let name = canonical(name);
        let found = self.query_domains(&json!({ "name": name })).await?;
        Ok(found.into_iter().find(|domain| domain.name == name))
    }

    /// The tenant's domains, whatever their current names: those with its marker, and the `known` ones.
    pub async fn list_domains(
        &self,
        tenant_id: &str,
        known: &[MailDomain],
    ) -> Result<Vec<Domain>, ClientError> {
        let ids: Vec<&str> = known.iter().map(|known| known.id.as_str()).collect();
        let [query, get] = domains_where(&json!({ "text": tenant_id }));
        let known_ones = json!({ "ids": ids, "properties": PROPERTIES });
        let calls = [query, get, Call::new("x:Domain/get", known_ones)];
        let reply = self.call(Operation::read("list_domains"), calls).await?;
        // The filter compares words.
        let mut owned: Vec<Domain> = reply.list(1)?;
        owned.retain(|domain| domain.belongs_to(tenant_id));
        for domain in reply.list::<Domain>(2)? {
            let is_new = owned.iter().all(|owned| owned.id != domain.id);
            if is_new && domain.is_known(known) {
                owned.push(domain);
            }
        }
        Ok(owned)
    }

    /// Ensures that the domain exists, belongs to this tenant, and has automatic DKIM keys. `owned` are the tenant's
    /// [domains](Self::list_domains), of which a renamed one gets its name back.
    ///
    /// A domain that is not the tenant's, or a name that is an alias of another domain, is a conflict.
    pub async fn ensure_domain(
        &self,
        desired: &DesiredDomain<'_>,
        owned: &[Domain],
        mode: Mode,
    ) -> Result<Ensured<Domain>, ClientError> {
        let name = checked_name(desired.name)?;
        let desired = DesiredDomain {
            name: &name,
            ..*desired
        };
        if let Some(domain) = owned.iter().find(|domain| domain.name == name) {
            return self.repair(domain.clone(), &desired, mode).await;
        }
        if let Some(holder) = self.holder_of(&name).await? {
            return self.repair_if_owned(holder, &desired, mode).await;
        }
        let renamed = owned
            .iter()
            .find(|domain| Some(domain.id.as_str()) == desired.known_id);
        if let Some(renamed) = renamed {
            return self.repair(renamed.clone(), &desired, mode).await;
        }
        self.create(&desired, mode).await
    }

    /// Creates a domain of a tenant that certainly has none, without a look-up. If the name is taken, its holder is
    /// looked up, and repaired or a conflict as in [`ensure_domain`](Self::ensure_domain).
    pub async fn create_domain(
        &self,
        desired: &DesiredDomain<'_>,
    ) -> Result<Ensured<Domain>, ClientError> {
        let name = checked_name(desired.name)?;
        let desired = DesiredDomain {
            name: &name,
            ..*desired
        };
        self.create(&desired, Mode::Apply).await
    }

    async fn create(
        &self,
        desired: &DesiredDomain<'_>,
        mode: Mode,
    ) -> Result<Ensured<Domain>, ClientError> {
        let changes = vec!["domain created".to_owned()];
        if mode == Mode::DryRun {
            return Ok(Ensured {
                value: None,
                changes,
            });
        }
        let description = ownership_marker(desired.tenant_id);
        let mut domain = json!({ "name": desired.name, "description": description });
        if let Some(uri) = desired.report_address_uri() {
            domain["reportAddressUri"] = uri.into();
        }
        let create = Call::new("x:Domain/set", json!({ "create": { "d": domain } }));
        let reply = self
            .call(Operation::write("create_domain"), [create])
            .await?;
        match reply.created()? {
            Ok(id) => Ok(Ensured {
                value: Some(Domain {
                    id,
                    name: desired.name.to_owned(),
                    description: Some(description),
                    zone_file: String::new(),
                    is_new: true,
                    report_address_uri: desired.report_address_uri(),
                    dkim_management: DkimManagement::default(),
                }),
                changes,
            }),
            Err(set_error) => {
                let Some(holder) = set_error.holder("Domain") else {
                    return Err(reply.refused(&set_error));
                };
                let holder = self.get_domain(holder).await?;
                self.repair_if_owned(holder, desired, mode).await
            }
        }
    }

    /// Repairs a domain that holds the desired name, if it is the tenant's.
    async fn repair_if_owned(
        &self,
        holder: Domain,
        desired: &DesiredDomain<'_>,
        mode: Mode,
    ) -> Result<Ensured<Domain>, ClientError> {
        let (name, marker) = (desired.name, ownership_marker(desired.tenant_id));
        if holder.name == name && holder.belongs_to(desired.tenant_id) {
            return self.repair(holder, desired, mode).await;
        }
        let conflict = if holder.name == name {
            format!("{name} is not {marker}; delete it, or set its description to {marker}")
        } else {
            format!("{name} is an alias of {}", holder.name)
        };
        Err(ClientError::Conflict(failed("ensure_domain", conflict)))
    }

    /// Repairs drift of one of the tenant's domains.
    async fn repair(
        &self,
        mut domain: Domain,
        desired: &DesiredDomain<'_>,
        mode: Mode,
    ) -> Result<Ensured<Domain>, ClientError> {
        let mut changes = Vec::new();
        let mut update = Map::new();
        if domain.name != desired.name {
            changes.push("domain name restored".to_owned());
            update.insert("name".to_owned(), desired.name.into());
            desired.name.clone_into(&mut domain.name);
        }
        if !domain.belongs_to(desired.tenant_id) {
            changes.push("domain description restored".to_owned());
            let marker = ownership_marker(desired.tenant_id);
            update.insert("description".to_owned(), marker.clone().into());
            domain.description = Some(marker);
        }
        let uri = desired.report_address_uri();
        if uri.is_some() && domain.report_address_uri != uri {
            changes.push("report address set".to_owned());
            update.insert("reportAddressUri".to_owned(), uri.clone().into());
            domain.report_address_uri = uri;
        }
        let signs = domain.dkim_management.is_automatic();
        if !signs {
            changes.push("automatic DKIM keys switched on".to_owned());
        }
        if mode == Mode::Apply {
            if !update.is_empty() {
                self.update_domain(
                    Operation::write("update_domain"),
                    &domain.id,
                    &update.into(),
                )
                .await?;
            }
            if !signs {
                self.enable_dkim(&domain.id).await?;
            }
        }
        Ok(Ensured {
            value: Some(domain),
            changes,
        })
    }

    async fn update_domain(
        &self,
        operation: Operation,
        domain_id: &str,
        update: &Value,
    ) -> Result<(), ClientError> {
        let update = json!({ "update": { domain_id: update } });
        let update = Call::new("x:Domain/set", update);
        let reply = self.call(operation, [update]).await?;
        reply
            .updated()?
            .map_err(|set_error| reply.refused(&set_error))
    }

    /// The domain that has this name or alias.
    async fn holder_of(&self, name: &str) -> Result<Option<Domain>, ClientError> {
        if let Some(domain) = self.find_domain(name).await? {
            return Ok(Some(domain));
        }
        let aliased = self.query_domains(&json!({ "aliases": name })).await?;
        Ok(aliased.into_iter().next())
    }

    async fn query_domains(&self, filter: &Value) -> Result<Vec<Domain>, ClientError> {
        let calls = domains_where(filter);
        let reply = self.call(Operation::read("find_domain"), calls).await?;
        reply.list(1)
    }

    async fn get_domain(&self, id: &str) -> Result<Domain, ClientError> {
        let get = json!({ "ids": [id], "properties": PROPERTIES });
        let get = Call::new("x:Domain/get", get);
        let reply = self.call(Operation::read("get_domain"), [get]).await?;
        reply.list(0)?.pop().ok_or_else(|| deleted("get_domain"))
    }
}

/// Calls that query domains and get them.
fn domains_where(filter: &Value) -> [Call; 2] {
    let get = json!({
        "#ids": result_of(0, "x:Domain/query", "/ids"),
        "properties": PROPERTIES,
    });
    [
        Call::new("x:Domain/query", json!({ "filter": filter })),
        Call::new("x:Domain/get", get),
    ]
}

/// Requested properties of a [`Domain`].
const PROPERTIES: [&str; 5] = [
    "name",
    "description",
    "dkimManagement",
    "reportAddressUri",
    "dnsZoneFile",
];

/// Ownership marker of this tenant's domains.
fn ownership_marker(tenant_id: &str) -> String {
    format!("{MARKER}{tenant_id}")
}

/// Canonical form in which Stalwart stores names; its filters do not normalise ours.
fn canonical(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// The canonical name of a domain to be provisioned, if Stalwart stores it unchanged.
fn checked_name(name: &str) -> Result<String, ClientError> {
    let name = canonical(name);
    if is_domain_name(&name) {
        return Ok(name);
    }
    Err(ClientError::UserAction {
        call: failed(
            "create_domain",
            "not a domain name in its ASCII form".into(),
        ),
        code: ErrorCode::DomainInvalid,
    })
}

/// Whether the name is a hostname that Stalwart stores unchanged. It silently drops some characters, and accepts
/// underscores.
fn is_domain_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.contains('.') && name.split('.').all(is_label)
}

/// Error for a domain that disappeared during the operation: a retry looks it up again.
fn deleted(operation: &'static str) -> ClientError {
    ClientError::StateChanged(failed(operation, "the domain was deleted".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_in_canonical_form() {
        assert_eq!(canonical("ACME.Test."), "acme.test");
    }

    #[test]
    fn only_names_stored_unchanged_are_domain_names() {
        for name in ["acme.test", "a.b-c.co.uk", "xn--bcher-kva.test", "1.test"] {
            assert!(is_domain_name(name), "{name}");
        }
        for name in [
            "",
            "acme",
            "acme..test",
            ".test",
            "-a.test",
            "a-.test",
            "bücher.test",
            "a b.test",
            "a_b.test",
        ] {
            assert!(!is_domain_name(name), "{name}");
        }
        assert!(!is_domain_name(&format!("{}.test", "a".repeat(64))));
        assert!(!is_domain_name(&format!("{}test", "a.".repeat(125))));
    }
}
