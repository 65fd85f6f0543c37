//! Removal of domains.
//!
//! Stalwart refuses to destroy a domain with dependants, its own DKIM keys included, and returns all of them. The
//! attempt therefore doubles as the query: the returned dependants are removed, and the attempt is repeated. Automatic
//! keys are disabled before the keys are destroyed; a running task may still add some, hence several rounds. A mailbox
//! created meanwhile stops the removal, and the domain stays, without keys until the next `ensure_domain`.

use std::{collections::BTreeSet, fmt::Write as _};

use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::{
    Domain, Stalwart, failed,
    jmap::{Call, ObjectId},
};
use crate::clients::{ClientError, Ensured, Mode, Operation};
use dezky_shared::queue::error_code::ErrorCode;

/// Maximum number of attempts to destroy a domain.
const ROUNDS: usize = 5;
/// Maximum number of objects read or destroyed in one call.
const BATCH: usize = 100;
/// Maximum number of addresses in an error.
const MAX_ADDRESSES: usize = 20;

/// Dependants that may be destroyed with the domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cascade {
    /// DKIM keys.
    Keys,
    /// DKIM keys, mailboxes and lists.
    Everything,
}

impl Stalwart {
    /// Removes a domain that the tenant gave up, with its DKIM keys.
    ///
    /// A domain in use by accounts or lists is left unchanged, and the customer has to act. A dry run reads which lists of
    /// the server, and which mailboxes of the tenant's `owned` domains, have an address in it.
    pub async fn remove_domain(
        &self,
        domain: &Domain,
        owned: &[Domain],
        mode: Mode,
    ) -> Result<Ensured<()>, ClientError> {
        let mut removal = Removal::default();
        match mode {
            Mode::Apply => self.remove(domain, Cascade::Keys, &mut removal).await?,
            Mode::DryRun => {
                let users = self.addresses_in(domain, owned).await?;
                if !users.is_empty() {
                    return Err(in_use(&users));
                }
                self.plan_removal(domain, &mut removal).await?;
            }
        }
        Ok(Ensured::with(removal.changes()))
    }

    /// Removes a domain of a deleted tenant, with all its mailboxes and lists, and counts them in `removal`, also on an
    /// error. The rest is left once the removal's time is used up: [`Removal::is_complete`].
    ///
    /// Accounts and lists of other domains lose their aliases in it. A dry run reads the domain of every list of the server,
    /// and does not count aliases.
    pub async fn purge_domain(
        &self,
        domain: &Domain,
        mode: Mode,
        removal: &mut Removal,
    ) -> Result<(), ClientError> {
        match mode {
            Mode::Apply => self.remove(domain, Cascade::Everything, removal).await,
            Mode::DryRun => {
                self.plan_removal(domain, removal).await?;
                let domains = BTreeSet::from([domain.id.as_str()]);
                removal.lists = self.lists_in(&domains).await?.len();
                Ok(())
            }
        }
    }

    async fn plan_removal(
        &self,
        domain: &Domain,
        removal: &mut Removal,
    ) -> Result<(), ClientError> {
        let keys = json!({ "filter": { "domainId": domain.id } });
        let keys = Call::new("x:DkimSignature/query", keys);
        let reply = self.call(Operation::read("list_keys"), [keys]).await?;
        removal.keys = reply.found(0)?.ids.len();
        removal.accounts = self.account_page(&domain.id, 0).await?.total;
        removal.domain = true;
        Ok(())
    }

    async fn remove(
        &self,
        domain: &Domain,
        extent: Cascade,
        removal: &mut Removal,
    ) -> Result<(), ClientError> {
        let mut blockers = Vec::new();
        for round in 0..ROUNDS {
            blockers = match self.destroy_domain(domain).await? {
                Attempt::Destroyed => {
                    removal.domain = true;
                    return Ok(());
                }
                Attempt::Gone => {
                    removal.was_gone = true;
                    return Ok(());
                }
                Attempt::Blocked(blockers) => blockers,
            };
            let ids_of = |object: &str| -> Vec<String> {
                let mine = blockers.iter().filter(|blocker| blocker.object == object);
                mine.map(|blocker| blocker.id.clone()).collect()
            };
            let (accounts, lists) = (ids_of(ACCOUNTS.object), ids_of(LISTS.object));
            if extent == Cascade::Keys && !(accounts.is_empty() && lists.is_empty()) {
                let mut users = self.addresses(ACCOUNTS, &accounts, domain).await?;
                users.extend(self.addresses(LISTS, &lists, domain).await?);
                return Err(in_use(&users));
            }
            let keys = ids_of("DkimSignature");
            if !keys.is_empty() && removal.keys == 0 {
                self.disable_dkim(&domain.id).await?;
            }
            if accounts.len() + lists.len() + keys.len() < blockers.len() {
                break;
            }
            if round == 0 {
                removal.found = accounts.len() + lists.len();
            }
            self.delete_members(ACCOUNTS, &accounts, domain, removal)
                .await?;
            self.delete_members(LISTS, &lists, domain, removal).await?;
            if removal.is_over() {
                return Ok(());
            }
            removal.keys += self
                .destroy(
                    "x:DkimSignature/set",
                    Operation::write("destroy_dkim_signatures"),
                    &keys,
                )
                .await?;
        }
        let names: Vec<String> = blockers
            .iter()
            .take(10)
            .map(|blocker| format!("{} {}", blocker.object, blocker.id))
            .collect();
        let detail = format!("still used by {}", names.join(", "));
        Err(ClientError::Conflict(failed("destroy_domain", detail)))
    }

    async fn destroy_domain(&self, domain: &Domain) -> Result<Attempt, ClientError> {
        let destroy = Call::new("x:Domain/set", json!({ "destroy": [domain.id] }));
        let reply = self
            .call(Operation::write("destroy_domain"), [destroy])
            .await?;
        let outcome = reply.destroyed()?;
        let Some(set_error) = outcome.not_destroyed.get(&domain.id) else {
            return Ok(Attempt::Destroyed);
        };
        if set_error.is_not_found() {
            return Ok(Attempt::Gone);
        }
        match set_error.dependants() {
            Some(blockers) => Ok(Attempt::Blocked(blockers.to_vec())),
            None => Err(reply.refused(set_error)),
        }
    }

    /// Destroys the accounts or lists whose main address is in the domain; the others lose their aliases in it. Leaves
    /// the rest once the removal's time is used up.
    async fn delete_members(
        &self,
        kind: AddressKind,
        ids: &[String],
        domain: &Domain,
        removal: &mut Removal,
    ) -> Result<(), ClientError> {
        for ids in ids.chunks(BATCH) {
            if removal.is_over() {
                break;
            }
            let get = json!({ "ids": ids, "properties": ["name", "domainId", "aliases"] });
            let get = Call::new(kind.get, get);
            let reply = self.call(kind.look, [get]).await?;
            let (inside, outside): (Vec<Addressed>, Vec<Addressed>) = reply
                .list(0)?
                .into_iter()
                .partition(|addressed: &Addressed| addressed.domain_id == domain.id);
            for addressed in outside {
                removal.aliases += self.drop_aliases(kind, &addressed, domain).await?;
            }
            let inside: Vec<String> = inside.into_iter().map(|addressed| addressed.id).collect();
            let destroyed = self.destroy(kind.set, kind.destroy, &inside).await?;
            *removal.count_of(kind) += destroyed;
        }
        Ok(())
    }

    /// Addresses of these accounts or lists in the domain.
    async fn addresses(
        &self,
        kind: AddressKind,
        ids: &[String],
        domain: &Domain,
    ) -> Result<Vec<String>, ClientError> {
        let mut addresses = Vec::new();
        for ids in ids.chunks(BATCH) {
            let get = json!({ "ids": ids, "properties": ["name", "domainId", "aliases"] });
            let get = Call::new(kind.get, get);
            let reply = self.call(kind.look, [get]).await?;
            let found: Vec<Addressed> = reply.list(0)?;
            addresses.extend(found.iter().flat_map(|it| it.addresses_in(domain)));
        }
        Ok(addresses)
    }

    /// Addresses in the domain of the mailboxes of these `owned` domains, and of all lists.
    async fn addresses_in(
        &self,
        domain: &Domain,
        owned: &[Domain],
    ) -> Result<Vec<String>, ClientError> {
        let mut addresses = Vec::new();
        for owned in owned {
            let accounts = self.list_accounts(&owned.id).await?;
            addresses.extend(accounts.iter().flat_map(|it| it.addresses_in(domain)));
        }
        let properties = ["name", "domainId", "aliases"];
        let add = |list: Addressed| addresses.extend(list.addresses_in(domain));
        self.each_list(&properties, add).await?;
        Ok(addresses)
    }

    /// Removes the aliases in the domain in one write. Their indexes are not stable, so the list is replaced.
    async fn drop_aliases(
        &self,
        kind: AddressKind,
        addressed: &Addressed,
        domain: &Domain,
    ) -> Result<usize, ClientError> {
        let kept: Map<String, Value> = addressed
            .aliases
            .values()
            .filter(|alias| alias.get("domainId") != Some(&json!(domain.id)))
            .enumerate()
            .map(|(position, alias)| (position.to_string(), alias.clone()))
            .collect();
        let dropped = addressed.aliases.len() - kept.len();
        let update = json!({ "update": { &addressed.id: { "aliases": kept } } });
        let update = Call::new(kind.set, update);
        let reply = self.call(kind.drop_aliases, [update]).await?;
        match reply.updated()? {
            Ok(()) => Ok(dropped),
            Err(set_error) if set_error.is_not_found() => Ok(0),
            Err(set_error) => Err(reply.refused(&set_error)),
        }
    }

    /// Destroys objects and returns their number. Objects with dependants are left for the next round.
    pub(super) async fn destroy(
        &self,
        method: &'static str,
        operation: Operation,
        ids: &[String],
    ) -> Result<usize, ClientError> {
        let mut count = 0;
        for ids in ids.chunks(BATCH) {
            let destroy = Call::new(method, json!({ "destroy": ids }));
            let reply = self.call(operation, [destroy]).await?;
            let outcome = reply.destroyed()?;
            let refusals = outcome.not_destroyed.values();
            for set_error in refusals {
                if !set_error.is_not_found() && set_error.dependants().is_none() {
                    return Err(reply.refused(set_error));
                }
            }
            count += outcome.destroyed.len();
        }
        Ok(count)
    }
}

/// Result of an attempt to destroy a domain.
enum Attempt {
    Destroyed,
    /// The domain did not exist.
    Gone,
    Blocked(Vec<ObjectId>),
}

/// Kind of object with addresses in a domain.
#[derive(Clone, Copy)]
struct AddressKind {
    object: &'static str,
    get: &'static str,
    set: &'static str,
    look: Operation,
    drop_aliases: Operation,
    destroy: Operation,
}

const ACCOUNTS: AddressKind = AddressKind {
    object: "Account",
    get: "x:Account/get",
    set: "x:Account/set",
    look: Operation::read("get_accounts"),
    drop_aliases: Operation::write("remove_account_aliases"),
    destroy: Operation::write("destroy_accounts"),
};

const LISTS: AddressKind = AddressKind {
    object: "MailingList",
    get: "x:MailingList/get",
    set: "x:MailingList/set",
    look: Operation::read("get_lists"),
    drop_aliases: Operation::write("remove_list_aliases"),
    destroy: Operation::write("destroy_lists"),
};

/// Addresses of an account or list.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Addressed {
    id: String,
    name: String,
    domain_id: String,
    #[serde(default)]
    aliases: Map<String, Value>,
}

impl Addressed {
    fn addresses_in(&self, domain: &Domain) -> Vec<String> {
        let own = (self.domain_id == domain.id).then_some(self.name.as_str());
        let aliases = self
            .aliases
            .values()
            .filter(|alias| alias.get("domainId") == Some(&json!(domain.id)))
            .filter_map(|alias| alias.get("name")?.as_str());
        own.into_iter()
            .chain(aliases)
            .map(|name| format!("{name}@{}", domain.name))
            .collect()
    }
}

/// Objects removed, or to be removed in a dry run.
#[derive(Debug, Default)]
pub struct Removal {
    /// Time at which the rest is left; `None` is never.
    until: Option<Instant>,
    /// Accounts and lists that used the domain at first.
    found: usize,
    was_gone: bool,
    domain: bool,
    accounts: usize,
    lists: usize,
    aliases: usize,
    keys: usize,
}

impl Removal {
    /// A removal that leaves the rest at `until`, if it has removed anything by then.
    pub fn until(until: Instant) -> Self {
        Self {
            until: Some(until),
            ..Self::default()
        }
    }

    /// Whether the domain is removed, with all that used it.
    pub fn is_complete(&self) -> bool {
        self.domain || self.was_gone
    }

    /// Number of removed objects.
    pub fn removed(&self) -> usize {
        self.accounts + self.lists + self.aliases + self.keys + usize::from(self.domain)
    }

    /// Number of accounts and lists that used the domain at first.
    pub fn found(&self) -> usize {
        self.found
    }

    /// The removed objects in words.
    pub fn changes(&self) -> Vec<String> {
        let counted = |count: usize, what: &str| {
            (count > 0).then(|| format!("{} removed", plural(count, what)))
        };
        let changes = [
            counted(self.accounts, "account"),
            counted(self.lists, "list"),
            counted(self.aliases, "alias"),
            counted(self.keys, "DKIM key"),
            self.domain.then(|| "domain removed".to_owned()),
        ];
        changes.into_iter().flatten().collect()
    }

    fn is_over(&self) -> bool {
        self.removed() > 0 && self.until.is_some_and(|until| Instant::now() >= until)
    }

    fn count_of(&mut self, kind: AddressKind) -> &mut usize {
        if kind.object == ACCOUNTS.object {
            &mut self.accounts
        } else {
            &mut self.lists
        }
    }
}

/// Error that lists the addresses still in use.
fn in_use(users: &[String]) -> ClientError {
    let mut detail = users
        .iter()
        .take(MAX_ADDRESSES)
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(", ");
    if users.len() > MAX_ADDRESSES {
        let _ = write!(detail, " and {} more", users.len() - MAX_ADDRESSES);
    }
    ClientError::UserAction {
        call: failed("destroy_domain", detail),
        code: ErrorCode::DomainInUse,
    }
}

fn plural(count: usize, what: &str) -> String {
    let ending = match (count, what.ends_with('s')) {
        (1, _) => "",
        (_, true) => "es",
        (_, false) => "s",
    };
    format!("{count} {what}{ending}")
}
