//! Setup checks of Stalwart: the rights of our API key.
//!
//! A key may grant only what it has itself, and an open mailbox has every permission of the role User. A key without them
//! provisions, and cannot suspend.

use std::collections::BTreeSet;

use http::StatusCode;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Stalwart;
use crate::clients::{
    ClientError, Operation,
    setup::{SetupCheck, check_clock},
};

/// Permissions of the role User of Stalwart 0.16, as `/api/account` lists them.
const USER_ROLE: &str = include_str!("user_role.txt");
/// Permissions of the role User that `/api/account` hides.
const HIDDEN: [&str; 5] = [
    "jmapPrincipalChanges",
    "jmapPrincipalGet",
    "jmapPrincipalGetAvailability",
    "jmapPrincipalQuery",
    "jmapPrincipalQueryChanges",
];
/// Kinds of objects that jobs manage.
const MANAGED: [&str; 4] = ["Account", "DkimSignature", "Domain", "MailingList"];
const VERBS: [&str; 5] = ["Create", "Destroy", "Get", "Query", "Update"];
/// Lifts the limits of 1,000 requests a minute and of four at once.
const UNLIMITED: &str = "unlimitedRequests";
/// Number of missing permissions that a check names.
const NAMED: usize = 5;

const CREATE_KEY: &str =
    "create a key with the permissions that `dezky-worker stalwart-key` prints";

impl Stalwart {
    /// Request that creates an API key with the least permissions that jobs need, for the JMAP endpoint.
    pub fn key_request() -> Value {
        let permissions: Value = managing()
            .into_iter()
            .chain(USER_ROLE.lines().map(str::to_owned))
            .chain(HIDDEN.map(str::to_owned))
            .chain([UNLIMITED.to_owned()])
            .map(|permission| (permission, Value::Bool(true)))
            .collect::<serde_json::Map<_, _>>()
            .into();
        let key = json!({
            "description": "dezky-worker",
            "permissions": { "@type": "Replace", "permissions": permissions },
        });
        json!({
            "using": ["urn:ietf:params:jmap:core", "urn:stalwart:jmap"],
            "methodCalls": [["x:ApiKey/set", { "create": { "key": key } }, "0"]],
        })
    }

    /// Permissions of the role User, as `/api/account` lists them.
    pub fn user_role() -> impl Iterator<Item = &'static str> {
        USER_ROLE.lines()
    }

    /// Checks the premises.
    pub async fn check_setup(&self) -> Vec<SetupCheck> {
        let (granted, clock) = match self.own_permissions().await {
            Ok(account) => account,
            Err(error) => {
                const REMEDY: &str =
                    "put an API key into STALWART_API_TOKEN (`dezky-worker stalwart-key`)";
                return vec![SetupCheck::credentials(&error, REMEDY)];
            }
        };
        let managing = managing();
        vec![
            SetupCheck::ok("credentials", "accepted"),
            clock,
            self.check_management().await,
            check_permissions("permissions to manage", &granted, &managing),
            check_permissions("permissions to suspend", &granted, USER_ROLE.lines()),
            check_request_rate(&granted),
        ]
    }

    /// Permissions of our account or key, without those that the endpoint hides.
    async fn own_permissions(&self) -> Result<(BTreeSet<String>, SetupCheck), ClientError> {
        let request = self.http.request(Method::GET, "/api/account");
        let operation = Operation::read("get_own_permissions");
        let response = self.http.send(operation, self.authorized(request)).await?;
        if response.status != StatusCode::OK {
            return Err(response.error(""));
        }
        let account: Account = response.json()?;
        Ok((account.permissions, check_clock(&response)))
    }

    /// The management API of Stalwart 0.16. Older releases have another one.
    async fn check_management(&self) -> SetupCheck {
        const NAME: &str = "version";
        match self.check().await {
            Ok(()) => SetupCheck::ok(NAME, "managed over JMAP, as 0.16 is"),
            Err(error @ (ClientError::Rejected(_) | ClientError::Permission(_))) => {
                SetupCheck::failed(
                    NAME,
                    format!("{error}; Stalwart 0.16 is needed, whose domains our account may read"),
                )
            }
            Err(error) => SetupCheck::of_error(NAME, &error, "check again later"),
        }
    }
}

/// Permissions to manage the objects of tenants.
fn managing() -> Vec<String> {
    let managed = MANAGED
        .iter()
        .flat_map(|kind| VERBS.map(|verb| format!("sys{kind}{verb}")));
    managed.chain(["authenticate".to_owned()]).collect()
}

fn check_permissions<T: AsRef<str>>(
    name: &str,
    granted: &BTreeSet<String>,
    needed: impl IntoIterator<Item = T>,
) -> SetupCheck {
    let needed: Vec<T> = needed.into_iter().collect();
    let missing: Vec<&str> = needed
        .iter()
        .map(AsRef::as_ref)
        .filter(|permission| !granted.contains(*permission))
        .collect();
    if missing.is_empty() {
        return SetupCheck::ok(name, format!("{} of {}", needed.len(), needed.len()));
    }
    let named = missing[..missing.len().min(NAMED)].join(", ");
    let more = if missing.len() > NAMED { ", …" } else { "" };
    SetupCheck::failed(
        name,
        format!(
            "{} of {} are missing: {named}{more}; {CREATE_KEY}",
            missing.len(),
            needed.len()
        ),
    )
}

fn check_request_rate(granted: &BTreeSet<String>) -> SetupCheck {
    const NAME: &str = "request rate";
    if granted.contains(UNLIMITED) {
        return SetupCheck::ok(NAME, "unlimited");
    }
    SetupCheck::failed(
        NAME,
        format!(
            "{UNLIMITED} is missing, so that 1,000 requests a minute and four at once are the limit; {CREATE_KEY}"
        ),
    )
}

#[derive(Deserialize)]
struct Account {
    permissions: BTreeSet<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_has_the_permissions_that_the_checks_expect() {
        let request = Stalwart::key_request();
        let key = &request["methodCalls"][0][1]["create"]["key"]["permissions"];
        let granted = key["permissions"].as_object().unwrap();
        let granted: BTreeSet<String> = granted.keys().cloned().collect();

        for check in [
            check_permissions("", &granted, managing()),
            check_permissions("", &granted, USER_ROLE.lines()),
            check_permissions("", &granted, HIDDEN),
            check_request_rate(&granted),
        ] {
            assert!(
                matches!(check.outcome, crate::clients::setup::SetupOutcome::Ok(_)),
                "{check:?}"
            );
        }
        // Nothing that changes the server itself or reads the mail of others.
        for foreign in [
            "impersonate",
            "fetchAnyBlob",
            "sysSystemSettingsUpdate",
            "sysRoleUpdate",
        ] {
            assert!(!granted.contains(foreign), "{foreign}");
        }
    }
}
