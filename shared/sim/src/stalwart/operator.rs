//! Changes that an operator makes on the server, without a request, and what it holds.

use serde_json::{Map, Value, json};

use super::{
    SimAccount, SimDkimSignature, StalwartSim, State, dkim, http,
    object::{Id, Kind},
    properties::{Object, Properties as _},
};

impl StalwartSim {
    /// Adds a domain as an operator. `extra` overrides its properties. Returns its id.
    pub fn add_domain(&self, name: &str, extra: Value) -> String {
        self.add(Kind::Domain, json!({ "name": name }), extra)
    }

    /// Changes a domain's description as an operator.
    pub fn describe_domain(&self, name: &str, description: &str) {
        self.change_domain(name, json!({ "description": description }));
    }

    /// Overrides properties of a domain as an operator.
    pub fn change_domain(&self, name: &str, properties: Value) {
        let mut state = self.mail.lock();
        let id = state.objects.domain_called(name);
        let id = id.unwrap_or_else(|| panic!("no domain {name}"));
        change(&mut state, Kind::Domain, id, properties);
    }

    /// Overrides properties of an account as an operator.
    pub fn change_account(&self, email: &str, properties: Value) {
        let mut state = self.mail.lock();
        let mut accounts = state.objects.all(Kind::Account);
        let found = accounts.find(|(_, account)| state.objects.email(account) == email);
        let (id, _) = found.unwrap_or_else(|| panic!("no account {email}"));
        drop(accounts);
        change(&mut state, Kind::Account, id, properties);
    }

    /// Adds an account as an operator. `extra` overrides its properties; aliases are whole addresses. Returns its id.
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

    /// Adds an account concurrently to the removal of its domain. Returns false if the domain is gone.
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

    /// Adds a mailing list without recipients as an operator. Returns its id.
    pub fn add_list(&self, email: &str, aliases: &[&str]) -> String {
        let list = self.addressed(json!({}), email, aliases);
        self.add(Kind::MailingList, list, json!({}))
    }

    /// Names of the domains, without the server's own, oldest first.
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

    /// Accounts without the administrator, oldest first.
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
                quota: account
                    .members("quotas")
                    .and_then(|quotas| quotas.get("maxDiskQuota")?.as_u64()),
            });
        accounts
            .filter(|account| account.email != Self::ADMIN)
            .collect()
    }

    /// The password of the account with this address, `Some(None)` without one; `None` without an account.
    pub fn mailbox_password(&self, email: &str) -> Option<Option<String>> {
        let state = self.mail.lock();
        let mut accounts = state.objects.all(Kind::Account);
        let (_, account) = accounts.find(|(_, account)| state.objects.email(account) == email)?;
        let mut credentials = account.members("credentials").into_iter().flatten();
        let password = credentials.find_map(|(_, credential)| credential["secret"].as_str());
        Some(password.map(str::to_owned))
    }

    /// Sets the recipients of a mailing list as an operator.
    pub fn set_recipients(&self, list: &str, recipients: &[&str]) {
        let mut state = self.mail.lock();
        let mut lists = state.objects.all(Kind::MailingList);
        let found = lists.find(|(_, object)| state.objects.email(object) == list);
        let (id, _) = found.unwrap_or_else(|| panic!("no list {list}"));
        drop(lists);
        let recipients: Object = recipients
            .iter()
            .map(|recipient| ((*recipient).to_owned(), json!(true)))
            .collect();
        change(
            &mut state,
            Kind::MailingList,
            id,
            json!({ "recipients": recipients }),
        );
    }

    /// Addresses of the mailing lists, oldest first.
    pub fn lists(&self) -> Vec<String> {
        let state = self.mail.lock();
        let lists = state.objects.all(Kind::MailingList);
        lists.map(|(_, list)| state.objects.email(list)).collect()
    }

    /// DKIM keys, oldest first.
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

    /// The whole state, in the form of the `get` methods.
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
            .unwrap_or_else(|refusal| panic!("rejected: {refusal}"));
        drop(state);
        dkim::make_keys(&self.mail, kind, id);
        id.to_string()
    }

    /// Sets the address and the aliases of `object`.
    fn addressed(&self, mut object: Value, email: &str, aliases: &[&str]) -> Value {
        let state = self.mail.lock();
        let address = |email: &str| -> Map<String, Value> {
            let (name, domain) = email.split_once('@').expect("an address has an @");
            let id: Id = state
                .objects
                .domain_called(domain)
                .unwrap_or_else(|| panic!("no domain {domain}"));
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
