//! Stored objects: four kinds, their defaults, and their form in responses.

use std::{collections::BTreeMap, fmt, str::FromStr};

use dezky_shared::platform::clock;
use serde_json::{Value, json};

use super::{
    StalwartSim,
    properties::{Object, Properties as _},
    zone,
};

/// Kind of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Account,
    DkimSignature,
    Domain,
    MailingList,
}

impl Kind {
    pub(super) const ALL: [Self; 4] = [
        Self::Account,
        Self::DkimSignature,
        Self::Domain,
        Self::MailingList,
    ];

    /// Name in methods and in an `objectId`.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Account => "Account",
            Self::DkimSignature => "DkimSignature",
            Self::Domain => "Domain",
            Self::MailingList => "MailingList",
        }
    }

    /// Kind and verb of a method such as `x:Domain/get`.
    pub(super) fn of_method(method: &str) -> Option<(Self, &str)> {
        let (name, verb) = method.strip_prefix("x:")?.split_once('/')?;
        let kind = Self::ALL.into_iter().find(|kind| kind.name() == name)?;
        Some((kind, verb))
    }

    /// Properties of an object that is created with its required properties only.
    pub(super) fn defaults(self) -> Object {
        let defaults = match self {
            Self::Domain => json!({
                "aliases": {}, "isEnabled": true, "description": null, "logo": null,
                "certificateManagement": { "@type": "Manual" },
                "dkimManagement": { "@type": "Automatic" },
                "dnsManagement": { "@type": "Manual" },
                "memberTenantId": null, "directoryId": null, "catchAllAddress": null,
                "subAddressing": { "@type": "Enabled" }, "allowRelaying": false,
                "reportAddressUri": "mailto:postmaster",
            }),
            Self::Account => json!({
                "credentials": {}, "memberGroupIds": {}, "memberTenantId": null,
                "roles": { "@type": "User" }, "permissions": { "@type": "Inherit" }, "quotas": {},
                "aliases": {}, "description": null, "locale": "en_US", "timeZone": null,
                "encryptionAtRest": { "@type": "Disabled" },
            }),
            Self::MailingList => json!({
                "description": null, "aliases": {}, "memberTenantId": null, "recipients": {},
            }),
            Self::DkimSignature => json!({
                "auid": null, "canonicalization": "relaxed/relaxed", "expire": null,
                "headers": { "From": true, "To": true, "Date": true, "Subject": true, "Message-ID": true },
                "report": true, "thirdParty": null, "thirdPartyHash": null, "memberTenantId": null,
                "nextTransitionAt": null, "stage": "active",
            }),
        };
        match defaults {
            Value::Object(defaults) => defaults,
            _ => Object::new(),
        }
    }

    /// Required properties.
    pub(super) const fn required(self) -> &'static [&'static str] {
        match self {
            Self::Domain => &["name"],
            Self::Account | Self::MailingList => &["name", "domainId"],
            Self::DkimSignature => &["domainId", "selector", "privateKey"],
        }
    }

    /// Properties that only the server writes.
    pub(super) const fn server_set(self) -> &'static [&'static str] {
        match self {
            Self::Domain => &["createdAt", "dnsZoneFile"],
            Self::Account => &["createdAt", "emailAddress", "usedDiskQuota"],
            Self::MailingList => &["emailAddress"],
            Self::DkimSignature => &["createdAt", "publicKey"],
        }
    }

    /// Whether objects have variants, distinguished by `@type`.
    pub(super) const fn has_variants(self) -> bool {
        matches!(self, Self::Account | Self::DkimSignature)
    }

    /// Whether clients may write the property.
    pub(super) fn has_property(self, name: &str) -> bool {
        self.required().contains(&name)
            || self.defaults().contains_key(name)
            || (name == "@type" && self.has_variants())
    }

    /// Whether the property is a list: an object whose keys are positions.
    pub(super) fn is_list(self, name: &str) -> bool {
        match self {
            Self::Account | Self::MailingList => matches!(name, "aliases" | "credentials"),
            Self::Domain | Self::DkimSignature => false,
        }
    }
}

/// Object id: a number in the server's own base 32. Unique per kind and never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Id(u64);

const DIGITS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz792013";

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = Vec::new();
        let mut rest = self.0;
        loop {
            digits.push(char::from(DIGITS[usize::from((rest % 32) as u8)]));
            rest /= 32;
            if rest == 0 {
                break;
            }
        }
        f.write_str(&digits.iter().rev().collect::<String>())
    }
}

impl FromStr for Id {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut number: u64 = 0;
        for byte in text.bytes() {
            let digit = DIGITS.iter().position(|digit| *digit == byte).ok_or(())?;
            number = number
                .checked_mul(32)
                .and_then(|number| number.checked_add(digit as u64))
                .ok_or(())?;
        }
        (!text.is_empty()).then_some(Self(number)).ok_or(())
    }
}

/// All objects.
#[derive(Debug)]
pub(super) struct Store {
    objects: BTreeMap<(Kind, Id), Object>,
    last: BTreeMap<Kind, u64>,
}

impl Store {
    /// A server after its bootstrap: its own domain and its administrator.
    pub(super) fn bootstrapped() -> Self {
        let mut store = Self {
            objects: BTreeMap::new(),
            // Ids of keys are derived from the time, and long.
            last: BTreeMap::from([(Kind::DkimSignature, 350_000_000_000_000_000)]),
        };
        let mut domain = Kind::Domain.defaults();
        domain.insert("name".into(), json!(StalwartSim::OWN_DOMAIN));
        domain.insert("dkimManagement".into(), json!({ "@type": "Manual" }));
        let domain = store.insert(Kind::Domain, domain);
        let mut admin = Kind::Account.defaults();
        let (name, _) = StalwartSim::ADMIN.split_once('@').unwrap_or_default();
        admin.extend([
            ("@type".into(), json!("User")),
            ("name".into(), json!(name)),
            ("domainId".into(), json!(domain.to_string())),
            ("roles".into(), json!({ "@type": "Admin" })),
            (
                "credentials".into(),
                json!({ "0": { "@type": "Password", "secret": StalwartSim::ADMIN_PASSWORD } }),
            ),
        ]);
        store.insert(Kind::Account, admin);
        store
    }

    /// Stores a new object under a new id.
    pub(super) fn insert(&mut self, kind: Kind, mut object: Object) -> Id {
        let last = self.last.entry(kind).or_default();
        *last += 1;
        let id = Id(*last);
        if kind != Kind::MailingList {
            let now = clock::now().try_to_rfc3339_string().unwrap_or_default();
            object.insert("createdAt".into(), json!(now));
        }
        self.objects.insert((kind, id), object);
        id
    }

    pub(super) fn get(&self, kind: Kind, id: Id) -> Option<&Object> {
        self.objects.get(&(kind, id))
    }

    pub(super) fn replace(&mut self, kind: Kind, id: Id, object: Object) {
        self.objects.insert((kind, id), object);
    }

    pub(super) fn remove(&mut self, kind: Kind, id: Id) {
        self.objects.remove(&(kind, id));
    }

    /// All objects of a kind, oldest first.
    pub(super) fn all(&self, kind: Kind) -> impl Iterator<Item = (Id, &Object)> {
        self.objects
            .iter()
            .filter(move |((of, _), _)| *of == kind)
            .map(|((_, id), object)| (*id, object))
    }

    /// Objects of a kind that belong to a domain.
    pub(super) fn within(&self, kind: Kind, domain: Id) -> impl Iterator<Item = (Id, &Object)> {
        let domain = domain.to_string();
        self.all(kind)
            .filter(move |(_, object)| object.text("domainId") == domain)
    }

    /// Finds a domain by name or alias.
    pub(super) fn domain_called(&self, name: &str) -> Option<Id> {
        let mut domains = self.all(Kind::Domain);
        domains
            .find(|(_, domain)| {
                domain.text("name") == name
                    || domain
                        .members("aliases")
                        .is_some_and(|aliases| aliases.contains_key(name))
            })
            .map(|(id, _)| id)
    }

    /// Name of the domain with this id; empty if there is none.
    pub(super) fn domain_name(&self, id: &str) -> String {
        let domain = id.parse().ok().and_then(|id| self.get(Kind::Domain, id));
        domain.map_or_else(String::new, |domain| domain.text("name").to_owned())
    }

    /// Address of an account, a list or an alias.
    pub(super) fn email(&self, addressed: &Object) -> String {
        let domain = self.domain_name(addressed.text("domainId"));
        format!("{}@{domain}", addressed.text("name"))
    }

    /// Addresses of all aliases of an account or a list.
    pub(super) fn alias_addresses(&self, addressed: &Object) -> Vec<String> {
        let aliases = addressed.members("aliases").into_iter().flatten();
        aliases
            .filter_map(|(_, alias)| alias.as_object())
            .map(|alias| self.email(alias))
            .collect()
    }

    /// Natural key of an object, for effects.
    pub(super) fn natural_key(&self, kind: Kind, object: &Object) -> String {
        match kind {
            Kind::Domain => object.text("name").to_owned(),
            Kind::Account | Kind::MailingList => self.email(object),
            Kind::DkimSignature => {
                let domain = self.domain_name(object.text("domainId"));
                format!("{domain} {}", object.text("@type"))
            }
        }
    }

    /// An object in the form of `get`: with computed properties, secrets masked.
    pub(super) fn shown(&self, kind: Kind, id: Id, object: &Object) -> Object {
        let mut shown = object.clone();
        shown.insert("id".into(), json!(id.to_string()));
        match kind {
            Kind::Domain => {
                let keys = self.within(Kind::DkimSignature, id).map(|(_, key)| key);
                shown.insert("dnsZoneFile".into(), json!(zone::file(object, keys)));
            }
            Kind::Account => {
                shown.insert("emailAddress".into(), json!(self.email(object)));
                shown.entry("usedDiskQuota").or_insert_with(|| json!(0));
                let credentials = shown.get_mut("credentials").and_then(Value::as_object_mut);
                credentials
                    .into_iter()
                    .flatten()
                    .for_each(|(_, credential)| mask(credential));
            }
            Kind::MailingList => {
                shown.insert("emailAddress".into(), json!(self.email(object)));
            }
            Kind::DkimSignature => shown.get_mut("privateKey").into_iter().for_each(mask),
        }
        shown
    }
}

fn mask(holder: &mut Value) {
    if let Some(secret) = holder.get_mut("secret") {
        *secret = json!("****");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_encoded_as_recorded() {
        let recorded = ["b", "c", "z", "7", "9", "2", "0", "1", "3", "ba", "bb"];

        let ids: Vec<Id> = recorded.iter().map(|id| id.parse().unwrap()).collect();

        assert!(ids.is_sorted());
        assert_eq!(ids[9], Id(ids[8].0 + 1));
        for (id, text) in ids.iter().zip(recorded) {
            assert_eq!(id.to_string(), text);
        }
    }
}
