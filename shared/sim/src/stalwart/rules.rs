//! Validation and normalisation of objects: names, references, credentials, permissions, quotas.

use serde_json::{Value, json};

use super::{
    State,
    dkim::{self, ALGORITHMS},
    domain_name,
    error::{SetError, object_id},
    object::{Id, Kind, Store},
    properties::{Object, Properties as _},
};

impl State {
    /// Validates and stores a new object.
    pub(super) fn create(&mut self, kind: Kind, given: Object) -> Result<Id, SetError> {
        if kind.has_variants() && given.text("@type").is_empty() {
            return Err(SetError::missing_type());
        }
        for name in given.keys() {
            if kind.server_set().contains(&name.as_str()) {
                return Err(SetError::invalid_patch(
                    "Cannot modify server set property",
                    name,
                ));
            }
            if !kind.has_property(name) {
                return Err(SetError::invalid_patch("Invalid key for object", ""));
            }
        }
        if let Some(missing) = kind
            .required()
            .iter()
            .find(|name| !given.contains_key(**name))
        {
            let error = json!({ "type": "Required", "property": missing });
            let error = json!({ "type": "validationFailed", "validationErrors": [error] });
            return Err(SetError(error));
        }

        let mut object = kind.defaults();
        object.extend(given);
        if kind == Kind::DkimSignature {
            let public_key = dkim::public_key(object.text("@type"));
            object.insert("publicKey".into(), json!(public_key));
        }
        let object = self.objects.checked(kind, None, object)?;
        Ok(self.objects.insert(kind, object))
    }
}

impl Store {
    /// The normalised object. `id` is its own if it is stored already.
    pub(super) fn checked(
        &self,
        kind: Kind,
        id: Option<Id>,
        mut object: Object,
    ) -> Result<Object, SetError> {
        match kind {
            Kind::Domain => {
                normalise_domain(&mut object)?;
                let aliases = object.members("aliases").into_iter().flatten();
                let mut names = aliases
                    .map(|(alias, _)| alias.as_str())
                    .chain([object.text("name")]);
                let holder = names.find_map(|name| {
                    self.domain_called(name)
                        .filter(|holder| Some(*holder) != id)
                });
                if let Some(holder) = holder {
                    return Err(SetError::taken("name", Kind::Domain, holder));
                }
            }
            Kind::Account | Kind::MailingList => {
                normalise_addressed(kind, &mut object)?;
                for address in addresses(&object) {
                    self.must_be_a_domain(address.text("domainId"))?;
                    let of_another = |(of, holder): &(Kind, Id)| (*of, Some(*holder)) != (kind, id);
                    if let Some((kind, id)) = self.holder(address).filter(of_another) {
                        return Err(SetError::taken("email", kind, id));
                    }
                }
            }
            Kind::DkimSignature => self.must_be_a_domain(object.text("domainId"))?,
        }
        Ok(object)
    }

    /// Objects that depend on a domain, in the form of `objectIsLinked`.
    pub(super) fn dependants(&self, domain: Id) -> Vec<Value> {
        let id = domain.to_string();
        let mut dependants = Vec::new();
        for kind in [Kind::Account, Kind::DkimSignature, Kind::MailingList] {
            let linked = self.all(kind).filter(|(_, object)| {
                addresses(object).any(|address| address.text("domainId") == id)
            });
            dependants.extend(linked.map(|(id, _)| object_id(kind.name(), &id.to_string())));
        }
        if self.domain_called(super::StalwartSim::OWN_DOMAIN) == Some(domain) {
            dependants.push(object_id("SystemSettings", "singleton"));
        }
        dependants
    }

    fn must_be_a_domain(&self, id: &str) -> Result<(), SetError> {
        let domain = id.parse().ok().and_then(|id| self.get(Kind::Domain, id));
        domain
            .map(|_| ())
            .ok_or_else(|| SetError::unknown_domain(id))
    }

    /// Owner of an address. Accounts, lists and their aliases share one namespace per domain.
    fn holder(&self, address: &Object) -> Option<(Kind, Id)> {
        let same = |other: &Object| {
            ["name", "domainId"]
                .iter()
                .all(|part| other.text(part) == address.text(part))
        };
        [Kind::Account, Kind::MailingList]
            .into_iter()
            .find_map(|kind| {
                let mut all = self.all(kind);
                all.find(|(_, object)| addresses(object).any(same))
                    .map(|(id, _)| (kind, id))
            })
    }
}

/// The address of an object, and those of its aliases.
fn addresses(object: &Object) -> impl Iterator<Item = &Object> {
    let aliases = object.members("aliases").into_iter().flatten();
    aliases
        .filter_map(|(_, alias)| alias.as_object())
        .chain([object])
}

/// A property that is a text, like any, is not empty. Checked before the rules for its form.
fn require_text(object: &Object, property: &str) -> Result<(), SetError> {
    if object.text(property).is_empty() {
        return Err(SetError::invalid_patch(
            "Invalid value for property.",
            property,
        ));
    }
    Ok(())
}

fn normalise_domain(domain: &mut Object) -> Result<(), SetError> {
    require_text(domain, "name")?;
    let invalid = |property| SetError::invalid_patch("Invalid domain name", property);
    let name = domain_name::normalised(domain.text("name")).ok_or_else(|| invalid("name"))?;
    domain.insert("name".into(), json!(name));
    let aliases: Option<Object> = domain
        .members("aliases")
        .into_iter()
        .flatten()
        .map(|(alias, value)| Some((domain_name::normalised(alias)?, value.clone())))
        .collect();
    let aliases = aliases.ok_or_else(|| invalid("aliases"))?;
    domain.insert("aliases".into(), Value::Object(aliases));

    let management = match domain.variant("dkimManagement") {
        "Manual" => json!({ "@type": "Manual" }),
        "Automatic" => {
            let mut management = json!({
                "algorithms": { ALGORITHMS[0]: true, ALGORITHMS[1]: true },
                "selectorTemplate": "v{version}-{algorithm}-{date-%Y%m%d}",
                "rotateAfter": 7_776_000_000_u64, "retireAfter": 604_800_000, "deleteAfter": 2_592_000_000_u64,
            });
            let given = domain
                .members("dkimManagement")
                .cloned()
                .unwrap_or_default();
            if let Some(management) = management.as_object_mut() {
                management.extend(given);
            }
            management
        }
        _ => return Err(SetError::missing_type()),
    };
    domain.insert("dkimManagement".into(), management);
    Ok(())
}

fn normalise_addressed(kind: Kind, addressed: &mut Object) -> Result<(), SetError> {
    require_text(addressed, "name")?;
    let name = local_part(addressed.text("name"));
    addressed.insert("name".into(), json!(name));
    for list in ["aliases", "credentials"] {
        if kind.is_list(list) && addressed.contains_key(list) {
            let items = renumbered(addressed.members(list));
            addressed.insert(list.into(), Value::Object(items));
        }
    }
    for (_, alias) in addressed
        .get_mut("aliases")
        .and_then(Value::as_object_mut)
        .into_iter()
        .flatten()
    {
        let given = alias.as_object().cloned().unwrap_or_default();
        *alias = json!({ "enabled": true, "description": null });
        let name = local_part(given.text("name"));
        let members = alias.as_object_mut().expect("it was just set to an object");
        members.extend(given);
        members.insert("name".into(), json!(name));
    }
    if kind == Kind::Account {
        normalise_credentials(addressed)?;
        normalise_permissions(addressed)?;
        check_quotas(addressed)?;
    }
    Ok(())
}

fn local_part(name: &str) -> String {
    name.chars()
        .filter(|character| !character.is_whitespace())
        .collect::<String>()
        .to_lowercase()
}

/// A list with consecutive positions, regardless of the positions in the request.
fn renumbered(list: Option<&Object>) -> Object {
    let mut items: Vec<(u64, &Value)> = list
        .into_iter()
        .flatten()
        .map(|(position, item)| (position.parse().unwrap_or(u64::MAX), item))
        .collect();
    items.sort_by_key(|(position, _)| *position);
    let items = items.into_iter().map(|(_, item)| item.clone());
    items
        .enumerate()
        .map(|(position, item)| (position.to_string(), item))
        .collect()
}

fn normalise_credentials(account: &mut Object) -> Result<(), SetError> {
    let credentials = account
        .get_mut("credentials")
        .and_then(Value::as_object_mut);
    for (_, credential) in credentials.into_iter().flatten() {
        let secret = credential["secret"].as_str().unwrap_or_default();
        if secret.chars().count() < 8 {
            return Err(SetError::weak_secret(
                "Password must be at least 8 characters long.",
            ));
        }
        // Stand-in for the server's strength estimate.
        if ["password", "12345678", "qwerty"]
            .iter()
            .any(|common| secret.starts_with(common))
        {
            return Err(SetError::weak_secret(
                "Password is too weak. This is a very common password. Add another word or two. Uncommon words are better.",
            ));
        }
        let given = credential.as_object().cloned().unwrap_or_default();
        *credential = json!({ "credentialId": "a", "expiresAt": null, "allowedIps": {} });
        credential
            .as_object_mut()
            .expect("it was just set to an object")
            .extend(given);
    }
    Ok(())
}

fn normalise_permissions(account: &mut Object) -> Result<(), SetError> {
    let permissions = match account.variant("permissions") {
        "Inherit" => json!({ "@type": "Inherit" }),
        kind @ ("Merge" | "Replace") => {
            let mut permissions = json!({ "@type": kind });
            for set in ["enabledPermissions", "disabledPermissions"] {
                let given = account
                    .members("permissions")
                    .and_then(|given| given.members(set));
                let mut given = given.cloned().unwrap_or_default();
                // Members that are false are dropped.
                given.retain(|_, value| *value != Value::Bool(false));
                if !given.keys().all(|permission| is_permission(permission)) {
                    let property = format!("permissions/{set}");
                    return Err(SetError::invalid_patch(
                        "Invalid key for object property",
                        &property,
                    ));
                }
                permissions[set] = Value::Object(given);
            }
            permissions
        }
        _ => return Err(SetError::missing_type()),
    };
    account.insert("permissions".into(), permissions);
    Ok(())
}

/// Whether the permission exists, judged by its family.
fn is_permission(name: &str) -> bool {
    let families = [
        "jmap",
        "imap",
        "pop3",
        "sieve",
        "dav",
        "sys",
        "email",
        "calendar",
        "unlimited",
    ];
    let single = [
        "authenticate",
        "authenticateWithAlias",
        "impersonate",
        "interactAi",
        "fetchAnyBlob",
    ];
    single.contains(&name)
        || families.iter().any(|family| {
            let rest = name.strip_prefix(family).unwrap_or_default();
            rest.starts_with(|character: char| character.is_ascii_uppercase())
        })
}

fn check_quotas(account: &Object) -> Result<(), SetError> {
    for (quota, value) in account.members("quotas").into_iter().flatten() {
        if !quota.starts_with("max") {
            return Err(SetError::invalid_patch(
                "Invalid key for object property",
                "quotas",
            ));
        }
        if !value.is_u64() {
            return Err(SetError::invalid_patch(
                "Invalid value for unsigned integer property (expected non-negative integer)",
                "quotas",
            ));
        }
    }
    Ok(())
}
