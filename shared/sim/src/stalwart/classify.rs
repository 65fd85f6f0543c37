//! Classification of requests, which also determines the names of effects.

use http::Method;
use serde_json::Value;

use super::{
    object::Kind,
    properties::{Object, Properties as _},
};
use crate::server::Classified;

/// Operation of a request: its first write, otherwise the purpose of its reads.
pub(super) fn classify(_: &Method, path: &str, _: &http::HeaderMap, body: &[u8]) -> Classified {
    let read = |operation| Classified {
        operation,
        write: false,
    };
    if path.starts_with("/healthz") {
        return read("probe");
    }
    if path == "/api/account" {
        return read("get_own_permissions");
    }
    if !path.starts_with("/jmap") || path == "/jmap/session" {
        return read("session");
    }
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let calls: Vec<(&str, &Object)> = body["methodCalls"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|call| Some((call[0].as_str()?, call[1].as_object()?)))
        .collect();
    match calls
        .iter()
        .find_map(|(method, arguments)| write_name(method, arguments))
    {
        Some(operation) => Classified {
            operation,
            write: true,
        },
        None => read(read_name(&calls)),
    }
}

fn write_name(method: &str, arguments: &Object) -> Option<&'static str> {
    let (kind, "set") = Kind::of_method(method)? else {
        return None;
    };
    let first = |part| {
        arguments
            .members(part)
            .and_then(|part| part.values().next())
    };
    if first("create").is_some() {
        return Some(create_name(kind));
    }
    match first("update").and_then(Value::as_object) {
        Some(changes) => Some(update_name(kind, changes)),
        None => Some(destroy_name(kind)),
    }
}

/// Effect name of a create.
pub(super) const fn create_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Domain => "create_domain",
        Kind::Account => "create_account",
        Kind::MailingList => "create_list",
        Kind::DkimSignature => "create_dkim_signature",
    }
}

/// Effect name of an update, by the changed properties.
pub(super) fn update_name(kind: Kind, changes: &Object) -> &'static str {
    let changes_permissions = changes.members("permissions");
    match kind {
        Kind::Domain if changes.contains_key("dkimManagement") => {
            match changes.variant("dkimManagement") {
                "Manual" => "disable_dkim",
                _ => "enable_dkim",
            }
        }
        Kind::Domain => "update_domain",
        Kind::Account => match changes_permissions {
            Some(permissions) => {
                let disabled = permissions.members("disabledPermissions");
                if disabled.is_some_and(|disabled| disabled.contains_key("authenticate")) {
                    "freeze_account"
                } else {
                    "unfreeze_account"
                }
            }
            None if changes.keys().any(|name| name.starts_with("credentials")) => {
                "set_mailbox_password"
            }
            None if changes.keys().eq(["aliases"]) => "remove_account_aliases",
            None => "update_account",
        },
        Kind::MailingList if changes.contains_key("aliases") => "remove_list_aliases",
        Kind::MailingList => "update_list",
        Kind::DkimSignature => "update_dkim_signature",
    }
}

/// Effect name of a destroy.
pub(super) const fn destroy_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Domain => "destroy_domain",
        Kind::Account => "destroy_accounts",
        Kind::MailingList => "destroy_lists",
        Kind::DkimSignature => "destroy_dkim_signatures",
    }
}

fn read_name(calls: &[(&str, &Object)]) -> &'static str {
    let methods: Vec<&str> = calls.iter().map(|(method, _)| *method).collect();
    match methods.as_slice() {
        ["x:Domain/query", "x:Domain/get"] => "find_domain",
        ["x:Domain/query", "x:Domain/get", "x:Domain/get"] => "list_domains",
        ["x:Domain/query"] => "check",
        ["x:Domain/get"] => "get_domain",
        ["x:DkimSignature/query"] => "list_keys",
        ["x:DkimSignature/query", ..] => "read_zone",
        ["x:Account/query", "x:Account/get", "x:Account/get"] => "find_mailbox",
        ["x:Account/query", ..] => "list_accounts",
        ["x:Account/get"] => "get_accounts",
        ["x:MailingList/query", ..] => "list_lists",
        ["x:MailingList/get"] => "get_lists",
        _ => "read",
    }
}
