//! Permissions of the caller, as `/api/account` lists them.

use std::collections::BTreeSet;

use dezky_upstreams::clients::stalwart::Stalwart;
use serde_json::{Value, json};

use super::{
    State,
    error::{MethodError, SetError},
    object::Kind,
    properties::{Object, Properties as _},
};

/// Permissions of the role Admin beyond those of the role User, as far as they are simulated.
const OF_ADMINS: [&str; 3] = ["fetchAnyBlob", "impersonate", "unlimitedRequests"];

impl State {
    /// Permissions of a caller of this role.
    fn permissions(&self, may_manage: bool) -> BTreeSet<String> {
        let mut granted: BTreeSet<String> = Stalwart::user_role().map(str::to_owned).collect();
        if may_manage {
            for kind in Kind::ALL {
                let verbs = ["Create", "Destroy", "Get", "Query", "Update"];
                granted.extend(verbs.map(|verb| format!("sys{}{verb}", kind.name())));
            }
            granted.extend(OF_ADMINS.map(str::to_owned));
            granted.retain(|permission| !self.withheld.contains(permission));
        }
        granted
    }

    /// Body of `/api/account`.
    pub(super) fn account(&self, may_manage: bool) -> Value {
        json!({
            "permissions": self.permissions(may_manage),
            "edition": "oss",
            "locale": "en_US",
        })
    }

    /// Whether the caller may call this method.
    pub(super) fn authorize(
        &self,
        kind: Kind,
        verb: &str,
        arguments: &Object,
        may_manage: bool,
    ) -> Result<(), MethodError> {
        let needed: Vec<&str> = match verb {
            "get" => vec!["Get"],
            "query" => vec!["Query"],
            _ => [
                ("create", "Create"),
                ("update", "Update"),
                ("destroy", "Destroy"),
            ]
            .into_iter()
            .filter_map(|(part, verb)| arguments.contains_key(part).then_some(verb))
            .collect(),
        };
        let lacks = |verb: &&str| self.withheld.contains(&format!("sys{}{verb}", kind.name()));
        if may_manage && !needed.iter().any(lacks) {
            return Ok(());
        }
        Err(MethodError::new(
            "forbidden",
            "You are not authorized to perform this action",
        ))
    }

    /// Whether the caller may give an account its permissions: it needs all of them itself.
    pub(super) fn authorize_grant(&self, kind: Kind, changes: &Object) -> Result<(), SetError> {
        if kind != Kind::Account || changes.members("permissions").is_none() {
            return Ok(());
        }
        let missing: Vec<&str> = Stalwart::user_role()
            .filter(|permission| self.withheld.contains(*permission))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(SetError(json!({
            "type": "forbidden",
            "description": format!("You are not authorized to grant permissions: {}", missing.join(", ")),
        })))
    }
}
