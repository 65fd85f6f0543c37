//! Mail domains: finding them, making them ours, and what their DNS should say.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::json;

use super::{
    Stalwart, failed,
    jmap::{Call, result_of},
};
use crate::clients::{ClientError, Ensured, Mode, Operation};
use dezky_shared::queue::error_code::ErrorCode;

/// A mail domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain {
    /// Stalwart's id of it.
    pub id: String,
    /// Its name: lower case, no trailing dot, ASCII.
    pub name: String,
    /// Whose it is: `dezky:<tenantId>` when it is ours.
    pub description: Option<String>,
}

impl Domain {
    /// Whether it was made for this tenant.
    pub fn belongs_to(&self, tenant_id: &str) -> bool {
        self.description.as_deref() == Some(&mark(tenant_id))
    }
}

impl Stalwart {
    /// Finds the domain of exactly this name; an alias of another domain is not found.
    pub async fn find_domain(&self, name: &str) -> Result<Option<Domain>, ClientError> {
        Ok(self.look_up(&canonical(name)).await?.map(Domain::from))
    }

    /// Makes sure that the domain exists, is this tenant's, and signs its mail with keys that Stalwart makes.
    ///
    /// A domain that somebody else made, and a name that is another domain's alias, is a conflict.
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

        let description = Some(mark(tenant_id));
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
            Err(refusal) => {
                let Some(holder) = refusal.holder("Domain") else {
                    return Err(reply.refused(&refusal));
                };
                let holder = self.get_domain(holder).await?;
                self.adopt(holder, &name, tenant_id, mode).await
            }
        }
    }

    /// Whether the domain has a key for each algorithm it signs with.
    ///
    /// Stalwart makes the keys some time after the domain; until then the zone file lacks them.
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
            return Err(gone("dkim_ready"));
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

    /// What the domain's DNS should say, as the lines of a BIND zone file.
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
            .ok_or_else(|| gone("zone_file"))
    }

    /// Decides whether a domain that exists is the tenant's, and repairs what we own of it.
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
            let detail = format!("{name} is not {}", mark(tenant_id));
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

    /// Has reports about the domain's mail (DMARC, TLS) sent to `address`, or to its postmaster.
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

        // Without a domain, Stalwart adds its own.
        let wanted = format!("mailto:{}", address.unwrap_or("postmaster"));
        let get = json!({ "ids": [domain_id], "properties": ["reportAddressUri"] });
        let get = Call::new("x:Domain/get", get);
        let reply = self
            .call(Operation::read("get_report_address"), [get])
            .await?;
        let found = reply.list::<Reports>(0)?.pop();
        let found = found.ok_or_else(|| gone("get_report_address"))?;
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
                .map_err(|refusal| reply.refused(&refusal))?;
        }
        Ok(ensured)
    }

    async fn enable_dkim(&self, domain_id: &str) -> Result<(), ClientError> {
        let update =
            json!({ "update": { domain_id: { "dkimManagement": { "@type": "Automatic" } } } });
        let update = Call::new("x:Domain/set", update);
        let reply = self.call(Operation::write("enable_dkim"), [update]).await?;
        reply.updated()?.map_err(|refusal| reply.refused(&refusal))
    }

    /// Stops the making of keys, so that those destroyed next stay away. A domain that stays after all gets new ones
    /// when it is next ensured.
    pub(super) async fn disable_dkim(&self, domain: &Domain) -> Result<(), ClientError> {
        let update =
            json!({ "update": { &domain.id: { "dkimManagement": { "@type": "Manual" } } } });
        let update = Call::new("x:Domain/set", update);
        let reply = self
            .call(Operation::write("disable_dkim"), [update])
            .await?;
        match reply.updated()? {
            Err(refusal) if !refusal.is_not_found() => Err(reply.refused(&refusal)),
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
        reply.list(0)?.pop().ok_or_else(|| gone("get_domain"))
    }
}

/// The properties of a [`Record`].
const PROPERTIES: [&str; 3] = ["name", "description", "dkimManagement"];

/// A domain as Stalwart shows it.
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

/// The description that makes a domain this tenant's.
fn mark(tenant_id: &str) -> String {
    format!("dezky:{tenant_id}")
}

/// The form in which Stalwart keeps names; its filters do not bring ours into it.
fn canonical(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// Whether Stalwart would keep this name as it is. It drops what it does not like without a word.
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

/// A domain that was there a moment ago: whoever tries again looks again.
fn gone(operation: &'static str) -> ClientError {
    ClientError::Unavailable(failed(operation, "the domain is gone".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_in_the_form_stalwart_keeps() {
        assert_eq!(canonical("ACME.Test."), "acme.test");
    }

    #[test]
    fn only_names_that_stalwart_keeps_as_they_are_count_as_domain_names() {
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
