//! Mailing lists that deliver to a mailbox.
//!
//! The recipients of a list are plain texts, without a reference to the account: the server destroys a mailbox that a list
//! names, and mail to the list then bounces.

use std::collections::BTreeSet;

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

use super::{
    Stalwart,
    jmap::{Call, result_of},
};
use crate::clients::{ClientError, Operation};

/// Lists whose domain is read in one call.
const PAGE: usize = 500;
/// Lists whose recipients are read in one call: each may have thousands.
const BATCH: usize = 20;

impl Stalwart {
    /// Addresses of the lists in these domains that name one of `recipients`, sorted.
    ///
    /// Reads the domain of every list of the server, since its query has no filter by domain or recipient, and the
    /// recipients of the lists in these domains. A list of another domain is not counted: its owner could otherwise
    /// prevent the removal of any mailbox.
    pub async fn find_lists_naming(
        &self,
        domain_ids: &BTreeSet<&str>,
        recipients: &[String],
    ) -> Result<Vec<String>, ClientError> {
        let mut naming = BTreeSet::new();
        let ids = self.lists_in(domain_ids).await?;
        for ids in ids.chunks(BATCH) {
            let get = json!({ "ids": ids, "properties": ["emailAddress", "recipients"] });
            let get = Call::new("x:MailingList/get", get);
            let reply = self.call(Operation::read("get_lists"), [get]).await?;
            let lists: Vec<Recipients> = reply.list(0)?;
            let lists = lists.into_iter().filter(|list| list.has_any(recipients));
            naming.extend(lists.map(|list| list.email_address));
        }
        Ok(naming.into_iter().collect())
    }

    /// Ids of the lists in these domains.
    pub(super) async fn lists_in(
        &self,
        domain_ids: &BTreeSet<&str>,
    ) -> Result<Vec<String>, ClientError> {
        let mut ids = Vec::new();
        if domain_ids.is_empty() {
            return Ok(ids);
        }
        let add = |list: ListDomain| {
            if domain_ids.contains(&*list.domain_id) {
                ids.push(list.id);
            }
        };
        self.each_list(&["domainId"], add).await?;
        Ok(ids)
    }

    /// Passes these properties of every list of the server to `each`, page by page.
    pub(super) async fn each_list<T: DeserializeOwned>(
        &self,
        properties: &[&str],
        mut each: impl FnMut(T) + Send,
    ) -> Result<(), ClientError> {
        for number in 0.. {
            // With a limit, any other order loses and repeats entries.
            let query = json!({
                "sort": [{ "property": "id", "isAscending": true }],
                "position": number * PAGE,
                "limit": PAGE,
            });
            let get = json!({
                "#ids": result_of(0, "x:MailingList/query", "/ids"),
                "properties": properties,
            });
            let calls = [
                Call::new("x:MailingList/query", query),
                Call::new("x:MailingList/get", get),
            ];
            let reply = self.call(Operation::read("list_lists"), calls).await?;
            for list in reply.list::<T>(1)? {
                each(list);
            }
            if reply.found(0)?.ids.len() < PAGE {
                break;
            }
        }
        Ok(())
    }
}

/// A list without its recipients.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListDomain {
    id: String,
    domain_id: String,
}

/// A list with its recipients: an object whose keys are the addresses.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Recipients {
    email_address: String,
    #[serde(default)]
    recipients: Map<String, Value>,
}

impl Recipients {
    /// Whether one of these addresses, in lower case, is a recipient.
    fn has_any(&self, addresses: &[String]) -> bool {
        let mut recipients = self.recipients.keys();
        recipients.any(|recipient| addresses.contains(&recipient.trim().to_lowercase()))
    }
}
