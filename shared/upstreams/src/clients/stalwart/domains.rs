//! Mail domains: lookup, creation, and expected DNS records.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::json;

use super::{
    Stalwart, failed,
    jmap::{Call, result_of},
};
use crate::clients::{ClientError, Ensured, Mode, Operation};
use dezky_shared::queue::error_code::ErrorCode;

/// Mail domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain {
    /// Stalwart's id.
    pub id: String,
    /// Name: lower case, no trailing dot, ASCII.
    pub name: String,
    /// Ownership marker: `dezky:<tenantId>` on our domains.
    pub description: Option<String>,
}

impl Domain {
    /// Whether the domain belongs to this tenant.
    pub fn belongs_to(&self, tenant_id: &str) -> bool {
        self.description.as_deref() == Some(&ownership_marker(tenant_id))
    }
}

impl Stalwart {
    /// Finds the domain with exactly this name; aliases of other domains do not count.
    pub async fn find_domain(&self, name: &str) -> Result<Option<Domain>, ClientError> {
        Ok(self.look_up(&canonical(name)).await?.map(Domain::from))
    }

    /// Ensures that the domain exists, belongs to this tenant, and has automatic DKIM keys.
    ///
    /// A domain with another marker, or a name that is an alias of another domain, is a conflict.
    pub async fn ensure_domain(
        &self,
        name: &str,
        tenant_id: &str,
        mode: Mode,
    ) -> Result<Ensured<Domain>, ClientError> {
        let name = canonical(name);
        if !is_domain_name(&name) {
            return Err(ClientError::UserAction {
                call: failed(
                    "create_domain",
                    "not a domain name in its ASCII form".into(),
                ),
                code: ErrorCode::DomainInvalid,
            });
        }
        if let Some(found) = self.look_up(&name).await? {
            return self.adopt(found, &name, tenant_id, mode).await;
        }
        let changes = vec!["domain created".to_owned()];
        if mode == Mode::DryRun {
            return Ok(Ensured {
                value: None,
                changes,
            });
        }

        let description = Some(ownership_marker(tenant_id));
        let create = json!({ "create": { "d": { "name": name, "description": description } } });
        let create = Call::new("x:Domain/set", create);
        let reply = self
            .call(Operation::write("create_domain"), [create])
            .await?;
        match reply.created()? {
            Ok(id) => Ok(Ensured {
                value: Some(Domain {
                    id,
                    name,
                    description,
                }),
                changes,
            }),
            Err(set_error) => {
                let Some(holder) = set_error.holder("Domain") else {
                    return Err(reply.refused(&set_error));
                };
                let holder = self.get_domain(holder).await?;
                self.adopt(holder, &name, tenant_id, mode).await
            }
        }
    }

    /// Whether the domain has a DKIM key for each of its algorithms.
    ///
    /// Stalwart creates the keys some time after the domain; until then the zone file lacks them.
    pub async fn dkim_ready(&self, domain_id: &str) -> Result<bool, ClientError> {
        #[derive(Deserialize)]
        struct Key {
            #[serde(rename = "@type")]
            algorithm: String,
        }

        let calls = [
            Call::new(
                "x:Domain/get",
                json!({ "ids": [domain_id], "properties": PROPERTIES }),
            ),
            Call::new(
                "x:DkimSignature/query",
                json!({ "filter": { "domainId": domain_id } }),
            ),
            Call::new(
                "x:DkimSignature/get",
                json!({ "#ids": result_of(1, "x:DkimSignature/query", "/ids") }),
            ),
        ];
        let reply = self.call(Operation::read("dkim_ready"), calls).await?;
        let Some(domain) = reply.list::<Record>(0)?.pop() else {
            return Err(deleted("dkim_ready"));
        };
        let keys: Vec<Key> = reply.list(2)?;
        let made: BTreeSet<&str> = keys.iter().map(|key| key.algorithm.as_str()).collect();
        let wanted = domain.dkim_management;
        Ok(wanted.is_automatic()
            && wanted
                .algorithms
                .keys()
                .all(|algorithm| made.contains(algorithm.as_str())))
    }

    /// Expected DNS records, as the lines of a BIND zone file.
    pub async fn zone_file(&self, domain_id: &str) -> Result<String, ClientError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Zone {
            dns_zone_file: String,
        }

        let get = Call::new(
            "x:Domain/get",
            json!({ "ids": [domain_id], "properties": ["dnsZoneFile"] }),
        );
        let reply = self.call(Operation::read("zone_file"), [get]).await?;
        let zone = reply.list::<Zone>(0)?.pop();
        zone.map(|zone| zone.dns_zone_file)
            .ok_or_else(|| deleted("zone_file"))
    }

    /// Checks that an existing domain belongs to the tenant, and repairs drift.
    async fn adopt(
        &self,
        found: Record,
        name: &str,
        tenant_id: &str,
        mode: Mode,
    ) -> Result<Ensured<Domain>, ClientError> {
        let signs = found.dkim_management.is_automatic();
        let domain = Domain::from(found);
        if domain.name != name {
            let detail = format!("{name} is an alias of {}", domain.name);
            return Err(ClientError::Conflict(failed("ensure_domain", detail)));
        }
        if !domain.belongs_to(tenant_id) {
            let detail = format!("{name} is not {}", ownership_marker(tenant_id));
            return Err(ClientError::Conflict(failed("ensure_domain", detail)));
        }

        let mut changes = Vec::new();
        if !signs {
            changes.push("automatic DKIM keys switched on".to_owned());
            if mode == Mode::Apply {
                self.enable_dkim(&domain.id).await?;
            }
        }
        Ok(Ensured {
            value: Some(domain),
            changes,
        })
    }

    /// Ensures that reports about the domain's mail (DMARC, TLS) go to `address`, or to its postmaster.
    pub async fn ensure_report_address(
        &self,
        domain_id: &str,
        address: Option<&str>,
        mode: Mode,
    ) -> Result<Ensured<()>, ClientError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Reports {
            report_address_uri: Option<String>,
        }

        // Stalwart appends its own domain to an address without one.
        let wanted = format!("mailto:{}", address.unwrap_or("postmaster"));
        let get = json!({ "ids": [domain_id], "properties": ["reportAddressUri"] });
        let get = Call::new("x:Domain/get", get);
        let reply = self
            .call(Operation::read("get_report_address"), [get])
            .await?;
        let found = reply.list::<Reports>(0)?.pop();
        let found = found.ok_or_else(|| deleted("get_report_address"))?;
        let mut ensured = Ensured {
            value: Some(()),
            changes: Vec::new(),
        };
        if found.report_address_uri.as_deref() == Some(&wanted) {
            return Ok(ensured);
        }
        ensured.changes.push("report address set".to_owned());
        if mode == Mode::Apply {
            let update = json!({ "update": { domain_id: { "reportAddressUri": wanted } } });
            let update = Call::new("x:Domain/set", update);
            let reply = self
                .call(Operation::write("set_report_address"), [update])
                .await?;
            reply
                .updated()?
                .map_err(|set_error| reply.refused(&set_error))?;
        }
        Ok(ensured)
    }

    async fn enable_dkim(&self, domain_id: &str) -> Result<(), ClientError> {
        let update =
            json!({ "update": { domain_id: { "dkimManagement": { "@type": "Automatic" } } } });
        let update = Call::new("x:Domain/set", update);
        let reply = self.call(Operation::write("enable_dkim"), [update]).await?;
        reply
            .updated()?
            .map_err(|set_error| reply.refused(&set_error))
    }

    /// Disables automatic DKIM keys, so that destroyed keys are not recreated. If the domain is kept after all, the
    /// next `ensure_domain` recreates them.
    pub(super) async fn disable_dkim(&self, domain: &Domain) -> Result<(), ClientError> {
        let update =
            json!({ "update": { &domain.id: { "dkimManagement": { "@type": "Manual" } } } });
        let update = Call::new("x:Domain/set", update);
        let reply = self
            .call(Operation::write("disable_dkim"), [update])
            .await?;
        match reply.updated()? {
            Err(set_error) if !set_error.is_not_found() => Err(reply.refused(&set_error)),
            _ => Ok(()),
        }
    }

    pub(super) async fn look_up(&self, name: &str) -> Result<Option<Record>, ClientError> {
        let calls = [
            Call::new("x:Domain/query", json!({ "filter": { "name": name } })),
            Call::new(
                "x:Domain/get",
                json!({ "#ids": result_of(0, "x:Domain/query", "/ids"), "properties": PROPERTIES }),
            ),
        ];
        let reply = self.call(Operation::read("find_domain"), calls).await?;
        let found: Vec<Record> = reply.list(1)?;
        Ok(found.into_iter().find(|domain| domain.name == name))
    }

    async fn get_domain(&self, id: &str) -> Result<Record, ClientError> {
        let get = json!({ "ids": [id], "properties": PROPERTIES });
        let get = Call::new("x:Domain/get", get);
        let reply = self.call(Operation::read("get_domain"), [get]).await?;
        reply.list(0)?.pop().ok_or_else(|| deleted("get_domain"))
    }
}

/// Requested properties of a [`Record`].
const PROPERTIES: [&str; 3] = ["name", "description", "dkimManagement"];

/// Domain, as returned by Stalwart.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    id: String,
    name: String,
    description: Option<String>,
    dkim_management: DkimManagement,
}

#[derive(Deserialize)]
struct DkimManagement {
    #[serde(rename = "@type")]
    kind: String,
    #[serde(default)]
    algorithms: BTreeMap<String, bool>,
}

impl DkimManagement {
    fn is_automatic(&self) -> bool {
        self.kind == "Automatic"
    }
}

impl From<Record> for Domain {
    fn from(record: Record) -> Self {
        Self {
            id: record.id,
            name: record.name,
            description: record.description,
        }
    }
}

/// Ownership marker of this tenant's domains.
fn ownership_marker(tenant_id: &str) -> String {
    format!("dezky:{tenant_id}")
}

/// Canonical form in which Stalwart stores names; its filters do not normalise ours.
fn canonical(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// Whether Stalwart would store this name unchanged. It silently drops characters that it rejects.
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
    ClientError::Unavailable(failed(operation, "the domain was deleted".into()))
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
