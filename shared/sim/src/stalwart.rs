//! Stalwart 0.16 as far as mail domains, accounts, lists and DKIM keys are managed over JMAP.
//!
//! A fresh server holds its own domain `provider.test` and its administrator, as a real one does after its
//! bootstrap. What was recorded from a real server stands in `tests/fixtures/stalwart`, and both the simulator
//! and the client are held to it. Not simulated: API keys other than the one token, tenants, the queue, mail.

mod classify;
mod dkim;
mod domain_name;
mod http;
mod methods;
mod object;
mod patch;
mod query;
mod request;
mod rules;
mod zone;

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::{Map, Value, json};

use self::object::{Id, Kind, Object, Properties as _, Store};
pub use self::zone::HOST;
use crate::{effects::Effects, server::Server};

/// A simulated Stalwart.
///
/// Effects are what requests changed; what a test adds as an operator, and keys the server makes, are not among
/// them.
#[derive(Debug)]
pub struct StalwartSim {
    /// Where it is, what goes wrong there, and what happened.
    pub server: Server,
    mail: Mail,
}

/// The state, shared by the requests and the task that makes DKIM keys.
#[derive(Debug, Clone)]
struct Mail {
    state: Arc<Mutex<State>>,
    effects: Effects,
}

impl Mail {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct State {
    objects: Store,
    token_accepted: bool,
    /// How long a request takes.
    latency: Duration,
    /// How many requests of an account are served at the same time, if there is a limit.
    concurrency: Option<usize>,
    in_flight: usize,
    most_in_flight: usize,
    /// After how many failed logins the caller is banned, if ever.
    ban_after: Option<u32>,
    failed_logins: u32,
    /// The next write loses a race.
    race_lost: bool,
    /// Until when a domain has all its keys.
    dkim_delay: Duration,
    /// How many keys still appear after others were destroyed.
    late_dkim_keys: u32,
}

/// An account, as the simulator holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimAccount {
    /// Its id.
    pub id: String,
    /// Its address.
    pub email: String,
    /// The addresses it receives mail for beside its own.
    pub aliases: Vec<String>,
    /// Whether its owner can sign in.
    pub can_sign_in: bool,
}

/// A DKIM key, as the simulator holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimDkimSignature {
    /// The domain whose mail it signs.
    pub domain: String,
    /// Such as `Dkim1RsaSha256`.
    pub algorithm: String,
    /// The label below `_domainkey`.
    pub selector: String,
}

impl StalwartSim {
    /// The API key it accepts.
    pub const TOKEN: &str = "API_sim-stalwart";
    /// The administrator's address.
    pub const ADMIN: &str = "admin@provider.test";
    /// The administrator's password.
    pub const ADMIN_PASSWORD: &str = "sim-stalwart-administrator";
    /// The domain that the server itself belongs to.
    pub const OWN_DOMAIN: &str = "provider.test";

    /// Serves a fresh Stalwart on `address`.
    pub async fn start(address: SocketAddr) -> io::Result<Self> {
        let mail = Mail {
            state: Arc::new(Mutex::new(State {
                objects: Store::bootstrapped(),
                token_accepted: true,
                latency: Duration::ZERO,
                concurrency: None,
                in_flight: 0,
                most_in_flight: 0,
                ban_after: None,
                failed_logins: 0,
                race_lost: false,
                dkim_delay: Duration::from_millis(200),
                late_dkim_keys: 0,
            })),
            effects: Effects::default(),
        };
        let server = Server::start(
            address,
            http::router(mail.clone()),
            classify::classify,
            mail.effects.clone(),
        )
        .await?;
        Ok(Self { server, mail })
    }

    /// Refuses the API key from now on.
    pub fn revoke_token(&self) {
        self.mail.lock().token_accepted = false;
    }

    /// Accepts the API key again.
    pub fn accept_token(&self) {
        self.mail.lock().token_accepted = true;
    }

    /// Makes every request take this long.
    pub fn take_time(&self, latency: Duration) {
        self.mail.lock().latency = latency;
    }

    /// Refuses an account's fifth request at the same time, as the server does to keys that have no special
    /// permission.
    pub fn limit_concurrency(&self) {
        self.mail.lock().concurrency = Some(4);
    }

    /// The most requests that were being served at the same time.
    pub fn most_in_flight(&self) -> usize {
        self.mail.lock().most_in_flight
    }

    /// Bans the caller for good after this many failed logins; a real server does after 100.
    pub fn ban_after(&self, failed_logins: u32) {
        self.mail.lock().ban_after = Some(failed_logins);
    }

    /// Lifts the ban and forgets the failed logins.
    pub fn lift_ban(&self) {
        self.mail.lock().failed_logins = 0;
    }

    /// Lets the next write lose a race against another.
    pub fn lose_next_race(&self) {
        self.mail.lock().race_lost = true;
    }

    /// How long it takes from now on until a domain has all its keys; with zero it is born with them.
    pub fn dkim_delay(&self, delay: Duration) {
        self.mail.lock().dkim_delay = delay;
    }

    /// Makes keys appear with the domain, or after a moment.
    pub fn instant_dkim(&self, instant: bool) {
        self.dkim_delay(if instant {
            Duration::ZERO
        } else {
            Duration::from_millis(200)
        });
    }

    /// Lets one more key appear after each of the next calls that destroy keys: a task was still running.
    pub fn late_dkim_keys(&self, keys: u32) {
        self.mail.lock().late_dkim_keys = keys;
    }

    /// Adds a domain as an operator would, and gives its id. `extra` overrides its properties.
    pub fn add_domain(&self, name: &str, extra: Value) -> String {
        self.add(Kind::Domain, json!({ "name": name }), extra)
    }

    /// Changes a domain's description as an operator would.
    pub fn describe_domain(&self, name: &str, description: &str) {
        self.change_domain(name, json!({ "description": description }));
    }

    /// Overrides properties of a domain as an operator would.
    pub fn change_domain(&self, name: &str, properties: Value) {
        let mut state = self.mail.lock();
        let id = state.objects.domain_called(name);
        let id = id.unwrap_or_else(|| panic!("there is no domain {name}"));
        change(&mut state, Kind::Domain, id, properties);
    }

    /// Overrides properties of a mailbox as an operator would.
    pub fn change_account(&self, email: &str, properties: Value) {
        let mut state = self.mail.lock();
        let mut accounts = state.objects.all(Kind::Account);
        let found = accounts.find(|(_, account)| state.objects.email(account) == email);
        let (id, _) = found.unwrap_or_else(|| panic!("there is no account {email}"));
        drop(accounts);
        change(&mut state, Kind::Account, id, properties);
    }

    /// Adds a mailbox as an operator would, and gives its id. `extra` overrides its properties; aliases are
    /// whole addresses.
    pub fn add_account(
        &self,
        email: &str,
        password: &str,
        aliases: &[&str],
        extra: Value,
    ) -> String {
        let account = json!({
            "@type": "User",
            "credentials": { "0": { "@type": "Password", "secret": password } },
        });
        self.add(
            Kind::Account,
            self.addressed(account, email, aliases),
            extra,
        )
    }

    /// Adds a mailbox as somebody else would who does not know whether its domain is still there. False if it is not.
    pub fn make_mailbox(&self, email: &str) -> bool {
        let (name, domain) = email.split_once('@').expect("an address has an @");
        let mut state = self.mail.lock();
        let Some(domain_id) = state.objects.domain_called(domain) else {
            return false;
        };
        let mailbox = Object::from_iter([
            ("@type".to_owned(), json!("User")),
            ("name".to_owned(), json!(name)),
            ("domainId".to_owned(), json!(domain_id.to_string())),
        ]);
        state.create(Kind::Account, mailbox).is_ok()
    }

    /// Adds a mailing list without recipients as an operator would, and gives its id.
    pub fn add_list(&self, email: &str, aliases: &[&str]) -> String {
        let list = self.addressed(json!({}), email, aliases);
        self.add(Kind::MailingList, list, json!({}))
    }

    /// The domains' names, without the server's own, in the order of their making.
    pub fn domains(&self) -> Vec<String> {
        let state = self.mail.lock();
        let names = state
            .objects
            .all(Kind::Domain)
            .map(|(_, domain)| domain.text("name"));
        names
            .filter(|name| *name != Self::OWN_DOMAIN)
            .map(str::to_owned)
            .collect()
    }

    /// The accounts, without the administrator, in the order of their making.
    pub fn accounts(&self) -> Vec<SimAccount> {
        let state = self.mail.lock();
        let accounts = state
            .objects
            .all(Kind::Account)
            .map(|(id, account)| SimAccount {
                id: id.to_string(),
                email: state.objects.email(account),
                aliases: state.objects.alias_addresses(account),
                can_sign_in: http::may_sign_in(account),
            });
        accounts
            .filter(|account| account.email != Self::ADMIN)
            .collect()
    }

    /// The addresses of the mailing lists, in the order of their making.
    pub fn lists(&self) -> Vec<String> {
        let state = self.mail.lock();
        let lists = state.objects.all(Kind::MailingList);
        lists.map(|(_, list)| state.objects.email(list)).collect()
    }

    /// The DKIM keys, in the order of their making.
    pub fn dkim_signatures(&self) -> Vec<SimDkimSignature> {
        let state = self.mail.lock();
        let keys = state.objects.all(Kind::DkimSignature);
        keys.map(|(_, key)| SimDkimSignature {
            domain: state.objects.domain_name(key.text("domainId")),
            algorithm: key.text("@type").to_owned(),
            selector: key.text("selector").to_owned(),
        })
        .collect()
    }

    /// Everything it holds, as its `get` methods would show it.
    pub fn snapshot(&self) -> Value {
        let state = self.mail.lock();
        let of = |kind: Kind| -> Vec<Value> {
            let all = state.objects.all(kind);
            all.map(|(id, object)| Value::Object(state.objects.shown(kind, id, object)))
                .collect()
        };
        json!({
            "domains": of(Kind::Domain),
            "accounts": of(Kind::Account),
            "mailingLists": of(Kind::MailingList),
            "dkimSignatures": of(Kind::DkimSignature),
        })
    }

    fn add(&self, kind: Kind, object: Value, extra: Value) -> String {
        let (Value::Object(mut object), Value::Object(extra)) = (object, extra) else {
            panic!("properties are a JSON object");
        };
        object.extend(extra);
        let mut state = self.mail.lock();
        let id = state
            .create(kind, object)
            .unwrap_or_else(|refusal| panic!("Stalwart would refuse it: {refusal}"));
        drop(state);
        dkim::make_keys(&self.mail, kind, id);
        id.to_string()
    }

    /// Gives `object` an address and aliases.
    fn addressed(&self, mut object: Value, email: &str, aliases: &[&str]) -> Value {
        let state = self.mail.lock();
        let address = |email: &str| -> Map<String, Value> {
            let (name, domain) = email.split_once('@').expect("an address has an @");
            let id: Id = state
                .objects
                .domain_called(domain)
                .unwrap_or_else(|| panic!("there is no domain {domain}"));
            Object::from_iter([
                ("name".to_owned(), json!(name)),
                ("domainId".to_owned(), json!(id.to_string())),
            ])
        };
        let aliases: Map<String, Value> = aliases
            .iter()
            .enumerate()
            .map(|(position, alias)| (position.to_string(), Value::Object(address(alias))))
            .collect();
        let members = object.as_object_mut().expect("it is an object");
        members.extend(address(email));
        members.insert("aliases".to_owned(), Value::Object(aliases));
        object
    }
}

fn change(state: &mut State, kind: Kind, id: Id, properties: Value) {
    let mut object = state.objects.get(kind, id).cloned().unwrap_or_default();
    let Value::Object(properties) = properties else {
        panic!("properties are a JSON object");
    };
    object.extend(properties);
    state.objects.replace(kind, id, object);
}
