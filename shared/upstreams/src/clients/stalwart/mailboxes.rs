//! Mailboxes of members: lookup, creation, repair, password and removal.
//!
//! A mailbox is identified by its stored id together with its domain, else by its name in the domain. Everything in a
//! tenant's domain is the tenant's, so an existing mailbox of the member's address is adopted. An address that is an alias
//! or a list of another object is a conflict.

use std::collections::BTreeMap;

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value, json};

use super::{
    Account, Alias, MailFreeze, Stalwart, failed,
    jmap::{Call, result_of},
    suspension::{PROPERTIES, Permissions},
};
use crate::clients::{ClientError, Operation};

/// Quota of the disk space, in bytes.
const DISK_QUOTA: &str = "maxDiskQuota";

/// Desired state of a mailbox.
#[derive(Debug, Clone)]
pub struct DesiredMailbox<'a> {
    /// Local part of the address.
    pub name: &'a str,
    /// Stalwart's id of the domain.
    pub domain_id: &'a str,
    /// Account id last stored.
    pub known_id: Option<&'a str>,
    /// Display name.
    pub display_name: &'a str,
    /// Further addresses.
    pub aliases: Vec<Alias>,
    /// Quota in bytes; 0 is unlimited.
    pub quota: u64,
}

/// A mailbox as it is now.
#[derive(Debug, Clone)]
pub struct EnsuredMailbox {
    /// The mailbox.
    pub account: Account,
    /// Whether it was created now, with the given password.
    pub is_new: bool,
    /// Changes made, for operators.
    pub changes: Vec<String>,
}

impl DesiredMailbox<'_> {
    fn aliases(&self) -> BTreeMap<String, Alias> {
        let aliases = self.aliases.iter().cloned().enumerate();
        aliases
            .map(|(position, alias)| (position.to_string(), alias))
            .collect()
    }

    /// Whether `account` has exactly the desired aliases, in any order.
    fn has_aliases(&self, account: &Account) -> bool {
        let mut desired = self.aliases.clone();
        let mut actual: Vec<Alias> = account.aliases.values().cloned().collect();
        desired.sort();
        actual.sort();
        desired == actual
    }

    /// Whether `account` has the name, addresses, display name and quota.
    pub fn is_met_by(&self, account: &Account) -> bool {
        account.name == self.name
            && account.description.as_deref().unwrap_or_default() == self.display_name
            && self.has_aliases(account)
            && self.has_quota(account)
    }

    fn has_quota(&self, account: &Account) -> bool {
        let actual = account.quotas.get(DISK_QUOTA).and_then(Value::as_u64);
        actual.unwrap_or(0) == self.quota
    }

    /// `quotas`, with this one: the server takes a missing one for unlimited.
    fn quotas(&self, mut quotas: Map<String, Value>) -> Map<String, Value> {
        if self.quota > 0 {
            quotas.insert(DISK_QUOTA.to_owned(), self.quota.into());
        } else {
            quotas.remove(DISK_QUOTA);
        }
        quotas
    }
}

impl Stalwart {
    /// The mailbox with the stored id or, if there is none, with the name. Both in one request.
    pub async fn find_mailbox(
        &self,
        domain_id: &str,
        name: &str,
        known_id: Option<&str>,
    ) -> Result<Option<Account>, ClientError> {
        let query = json!({ "filter": { "domainId": domain_id, "name": name, "@type": "User" } });
        let named = json!({
            "#ids": result_of(0, "x:Account/query", "/ids"),
            "properties": PROPERTIES,
        });
        let ids: Vec<&str> = known_id.into_iter().collect();
        let known = json!({ "ids": ids, "properties": PROPERTIES });
        let calls = [
            Call::new("x:Account/query", query),
            Call::new("x:Account/get", named),
            Call::new("x:Account/get", known),
        ];
        let reply = self.call(Operation::read("find_mailbox"), calls).await?;
        let mut found: Vec<Account> = reply.list(2)?;
        let mut named: Vec<Account> = reply.list(1)?;
        // The filter is not normalised, and an id may denote another account once the server was restored from a backup.
        named.retain(|account| account.name == name);
        found.extend(named);
        found.retain(|account| account.domain_id == domain_id);
        Ok(found.into_iter().next())
    }

    /// Ensures that the mailbox exists with its addresses, display name and quota. A new one gets `password` and is frozen
    /// by `freezes`; without a password, it cannot be signed in to until one is set.
    pub async fn ensure_mailbox(
        &self,
        desired: &DesiredMailbox<'_>,
        password: Option<&SecretString>,
        freezes: &[MailFreeze],
    ) -> Result<EnsuredMailbox, ClientError> {
        let DesiredMailbox {
            name,
            domain_id,
            known_id,
            ..
        } = *desired;
        if let Some(account) = self.find_mailbox(domain_id, name, known_id).await? {
            let changes = self.repair_mailbox(&account, desired).await?;
            return Ok(EnsuredMailbox {
                account,
                is_new: false,
                changes,
            });
        }
        if !self.create_mailbox(desired, password, freezes).await? {
            return Err(ClientError::Conflict(failed(
                "create_account",
                format!("{name} or one of its aliases belongs to another account or list"),
            )));
        }
        // The create returns the id only, and the server normalises what it stores.
        let created = self.find_mailbox(domain_id, name, None).await?;
        let account = created.ok_or_else(|| {
            let detail = "the mailbox was removed while it was created".to_owned();
            ClientError::StateChanged(failed("find_mailbox", detail))
        })?;
        Ok(EnsuredMailbox {
            account,
            is_new: true,
            changes: vec!["mailbox created".to_owned()],
        })
    }

    /// False if one of the addresses is taken.
    async fn create_mailbox(
        &self,
        desired: &DesiredMailbox<'_>,
        password: Option<&SecretString>,
        freezes: &[MailFreeze],
    ) -> Result<bool, ClientError> {
        let mut mailbox = json!({
            "@type": "User",
            "name": desired.name,
            "domainId": desired.domain_id,
            "description": desired.display_name,
            "aliases": desired.aliases(),
            "quotas": desired.quotas(Map::new()),
        });
        if let Some(password) = password {
            mailbox["credentials"] = json!({ "0": credential(password) });
        }
        if !freezes.is_empty() {
            mailbox["permissions"] = json!(Permissions::inherited(freezes));
        }
        let create = json!({ "create": { "m": mailbox } });
        let create = Call::new("x:Account/set", create);
        let reply = self
            .call(Operation::write("create_account"), [create])
            .await?;
        match reply.created()? {
            Ok(_) => Ok(true),
            Err(set_error) if set_error.is_taken() => Ok(false),
            Err(set_error) => Err(reply.refused(&set_error)),
        }
    }

    /// Repairs drift. Returns the changes.
    async fn repair_mailbox(
        &self,
        account: &Account,
        desired: &DesiredMailbox<'_>,
    ) -> Result<Vec<String>, ClientError> {
        let mut changes = Vec::new();
        if account.name != desired.name {
            changes.push("mailbox name restored".to_owned());
        }
        if account.description.as_deref().unwrap_or_default() != desired.display_name {
            changes.push("display name of the mailbox changed".to_owned());
        }
        if !desired.has_aliases(account) {
            changes.push("aliases changed".to_owned());
        }
        if !desired.has_quota(account) {
            changes.push("quota of the mailbox changed".to_owned());
        }
        if !changes.is_empty() {
            let update = json!({
                "name": desired.name,
                "description": desired.display_name,
                // The positions of single aliases are not stable.
                "aliases": desired.aliases(),
                "quotas": desired.quotas(account.quotas.clone()),
            });
            let operation = Operation::write("update_account");
            self.update_account(operation, &account.id, &update).await?;
        }
        Ok(changes)
    }

    /// Sets the password of a mailbox. Nothing else of its credentials is replaced: that would delete app passwords.
    pub async fn set_mailbox_password(
        &self,
        account: &Account,
        password: &SecretString,
    ) -> Result<(), ClientError> {
        let update = if account.credentials.contains_key("0") {
            json!({ "credentials/0/secret": password.expose_secret() })
        } else {
            json!({ "credentials": { "0": credential(password) } })
        };
        let operation = Operation::write("set_mailbox_password");
        self.update_account(operation, &account.id, &update).await
    }

    /// Destroys a mailbox with its mail; `false` if it did not exist.
    pub async fn destroy_mailbox(&self, account: &Account) -> Result<bool, ClientError> {
        let operation = Operation::write("destroy_accounts");
        let ids = [account.id.clone()];
        let destroyed = self.destroy("x:Account/set", operation, &ids).await?;
        Ok(destroyed > 0)
    }

    async fn update_account(
        &self,
        operation: Operation,
        id: &str,
        changes: &Value,
    ) -> Result<(), ClientError> {
        let update = Map::from_iter([(id.to_owned(), changes.clone())]);
        let update = Call::new("x:Account/set", json!({ "update": update }));
        let reply = self.call(operation, [update]).await?;
        match reply.updated()? {
            Ok(()) => Ok(()),
            Err(set_error) if set_error.is_taken() => Err(ClientError::Conflict(failed(
                operation.name,
                "the address or one of the aliases belongs to another account or list".to_owned(),
            ))),
            Err(set_error) => Err(reply.refused(&set_error)),
        }
    }
}

fn credential(password: &SecretString) -> Value {
    json!({ "@type": "Password", "secret": password.expose_secret() })
}
