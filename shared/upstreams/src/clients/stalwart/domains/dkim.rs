//! DKIM keys of a domain, and the DNS records that publish them.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::json;

use super::{
    super::{
        Stalwart,
        jmap::{Call, result_of},
    },
    Domain, PROPERTIES, deleted,
};
use crate::clients::{ClientError, Operation};

/// Expected DNS records of a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    /// Lines of a BIND zone file.
    pub file: String,
    /// Whether it contains a DKIM key for each of the domain's algorithms. Stalwart creates the keys some time after the
    /// domain.
    pub has_all_keys: bool,
}

impl Stalwart {
    /// Expected DNS records. The keys are read before the zone file, so that a complete one is complete.
    pub async fn zone(&self, domain_id: &str) -> Result<Zone, ClientError> {
        #[derive(Deserialize)]
        struct Key {
            #[serde(rename = "@type")]
            algorithm: String,
        }

        let calls = [
            Call::new(
                "x:DkimSignature/query",
                json!({ "filter": { "domainId": domain_id } }),
            ),
            Call::new(
                "x:DkimSignature/get",
                json!({ "#ids": result_of(0, "x:DkimSignature/query", "/ids") }),
            ),
            Call::new(
                "x:Domain/get",
                json!({ "ids": [domain_id], "properties": PROPERTIES }),
            ),
        ];
        let reply = self.call(Operation::read("read_zone"), calls).await?;
        let keys: Vec<Key> = reply.list(1)?;
        let made: BTreeSet<&str> = keys.iter().map(|key| key.algorithm.as_str()).collect();
        let Some(domain) = reply.list::<Domain>(2)?.pop() else {
            return Err(deleted("read_zone"));
        };
        let management = domain.dkim_management;
        let mut algorithms = management.algorithms.keys();
        Ok(Zone {
            file: domain.zone_file,
            has_all_keys: management.is_automatic()
                && algorithms.all(|algorithm| made.contains(algorithm.as_str())),
        })
    }

    /// Makes Stalwart create the missing DKIM keys: it does so only when automatic keys are switched on. If the process
    /// dies in between, the next [`ensure_domain`](Self::ensure_domain) switches them on.
    pub async fn recreate_dkim(&self, domain_id: &str) -> Result<(), ClientError> {
        self.disable_dkim(domain_id).await?;
        self.enable_dkim(domain_id).await
    }

    pub(super) async fn enable_dkim(&self, domain_id: &str) -> Result<(), ClientError> {
        let automatic = json!({ "dkimManagement": { "@type": "Automatic" } });
        self.update_domain(Operation::write("enable_dkim"), domain_id, &automatic)
            .await
    }

    /// Disables automatic DKIM keys, so that destroyed keys are not recreated. If the domain is kept after all, the
    /// next `ensure_domain` recreates them.
    pub(in crate::clients::stalwart) async fn disable_dkim(
        &self,
        domain_id: &str,
    ) -> Result<(), ClientError> {
        let manual = json!({ "dkimManagement": { "@type": "Manual" } });
        self.update_domain(Operation::write("disable_dkim"), domain_id, &manual)
            .await
    }
}

/// Whether Stalwart creates the domain's DKIM keys, and of which algorithms.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct DkimManagement {
    #[serde(rename = "@type")]
    kind: String,
    #[serde(default)]
    algorithms: BTreeMap<String, bool>,
}

/// That of a new domain.
impl Default for DkimManagement {
    fn default() -> Self {
        Self {
            kind: "Automatic".to_owned(),
            algorithms: BTreeMap::new(),
        }
    }
}

impl DkimManagement {
    pub(super) fn is_automatic(&self) -> bool {
        self.kind == "Automatic"
    }
}
