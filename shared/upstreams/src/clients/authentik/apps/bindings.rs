//! Policy bindings, which restrict an application to the tenant's group.
//!
//! The server keeps no uniqueness for group bindings, so they are listed before one is created. A disabled binding
//! counts as none, and any further binding lets others in.

use http::StatusCode;
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;

use super::EnsuredObject;
use crate::clients::{ClientError, Ensured, Mode, Operation, authentik::Authentik};

const PATH: &str = "/policies/bindings/";

/// Binding as the server has it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Binding {
    /// UUID.
    pub pk: String,
    target: String,
    group: Option<String>,
    #[serde(default)]
    enabled: bool,
    #[serde(default)]
    negate: bool,
}

impl Binding {
    fn admits_only(&self, group: &str) -> bool {
        self.group.as_deref() == Some(group) && self.enabled && !self.negate
    }
}

/// Whether an application with these bindings admits users whatever their groups: without a binding in force it admits
/// all, and with a negated one all but the group's members.
pub fn is_open(bindings: &[Binding]) -> bool {
    let mut enabled = bindings.iter().filter(|binding| binding.enabled).peekable();
    enabled.peek().is_none() || enabled.any(|binding| binding.negate)
}

/// Whether these bindings of an application restrict it to members of the group: this one is in force, and no other.
pub fn is_restricted(bindings: &[Binding], group: &str) -> bool {
    let mut enabled = bindings.iter().filter(|binding| binding.enabled).peekable();
    enabled.peek().is_some() && enabled.all(|binding| binding.admits_only(group))
}

impl Authentik {
    /// The bindings of an application.
    pub async fn list_bindings(&self, application_pk: &str) -> Result<Vec<Binding>, ClientError> {
        let filter = [("target", application_pk)];
        let mut bindings: Vec<Binding> = self.list("list_bindings", PATH, &filter).await?;
        bindings.retain(|binding| binding.target == application_pk);
        Ok(bindings)
    }

    /// Ensures that exactly one binding restricts the application to the group. `found` are its bindings.
    ///
    /// First the group's binding is put in force, then the others are removed: the application always has one.
    pub async fn ensure_binding(
        &self,
        application_pk: &str,
        group: &str,
        found: Vec<Binding>,
        mode: Mode,
    ) -> Result<Ensured<EnsuredObject<Binding>>, ClientError> {
        let (mut ours, mut others): (Vec<Binding>, Vec<Binding>) = found
            .into_iter()
            .partition(|binding| binding.group.as_deref() == Some(group));
        // The one in force, if any, is kept.
        ours.sort_by_key(|binding| !binding.admits_only(group));
        let mut changes = Vec::new();
        let mut is_new = false;
        let kept = if ours.is_empty() {
            changes.push("group binding created".to_owned());
            is_new = true;
            match mode {
                Mode::DryRun => None,
                Mode::Apply => Some(self.create_binding(application_pk, group).await?),
            }
        } else {
            let binding = ours.remove(0);
            if !binding.admits_only(group) {
                changes.push("group binding put in force".to_owned());
                if mode == Mode::Apply {
                    self.update_binding(&binding.pk).await?;
                }
            }
            Some(binding)
        };
        others.extend(ours);
        for other in &others {
            changes.push("additional binding removed".to_owned());
            if mode == Mode::Apply {
                let path = format!("{PATH}{}/", other.pk);
                self.delete(Operation::write("delete_binding"), &path)
                    .await?;
            }
        }
        let value = kept.map(|object| EnsuredObject { object, is_new });
        Ok(Ensured { value, changes })
    }

    async fn create_binding(
        &self,
        application_pk: &str,
        group: &str,
    ) -> Result<Binding, ClientError> {
        let request = self.http.request(Method::POST, PATH).json(&json!({
            "target": application_pk,
            "group": group,
            "order": 0,
            "enabled": true,
            "negate": false,
            "failure_result": false,
        }));
        let operation = Operation::write("create_binding");
        let response = self.send(operation, request).await?;
        self.expect(&response, StatusCode::CREATED)?;
        response.json()
    }

    async fn update_binding(&self, pk: &str) -> Result<(), ClientError> {
        let path = format!("{PATH}{pk}/");
        let body = json!({ "enabled": true, "negate": false });
        let request = self.http.request(Method::PATCH, &path).json(&body);
        let operation = Operation::write("update_binding");
        let response = self.send(operation, request).await?;
        self.expect(&response, StatusCode::OK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding(group: Option<&str>, enabled: bool, negate: bool) -> Binding {
        Binding {
            pk: "binding".to_owned(),
            target: "application".to_owned(),
            group: group.map(str::to_owned),
            enabled,
            negate,
        }
    }

    #[test]
    fn only_an_enabled_binding_of_the_group_alone_restricts_an_application() {
        let ours = binding(Some("acme"), true, false);
        let cases = [
            (vec![], false),
            (vec![ours.clone()], true),
            (vec![binding(Some("acme"), false, false)], false),
            (vec![binding(Some("acme"), true, true)], false),
            (vec![binding(Some("other"), true, false)], false),
            (vec![ours.clone(), binding(None, true, false)], false),
            (vec![ours, binding(Some("other"), false, false)], true),
        ];

        for (bindings, expected) in cases {
            assert_eq!(is_restricted(&bindings, "acme"), expected, "{bindings:?}");
        }
    }
}
