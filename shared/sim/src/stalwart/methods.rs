//! The methods `/get` and `/set`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    Mail, State, classify, dkim,
    error::{MethodError, SetError},
    object::{Id, Kind},
    patch,
    properties::{Object, Properties as _},
};

/// Maximum number of objects in one call.
const MAX_OBJECTS: usize = 500;

/// Ids of objects created earlier in the same request, by creation id.
pub(super) type Created = BTreeMap<String, String>;

/// Executes a `/get`.
pub(super) fn get(state: &State, kind: Kind, arguments: &Object) -> Result<Object, MethodError> {
    let ids: Vec<String> = match arguments.get("ids") {
        None | Some(Value::Null) => {
            let all = state.objects.all(kind);
            all.map(|(id, _)| id.to_string()).collect()
        }
        Some(ids) => serde_json::from_value(ids.clone())
            .map_err(|error| MethodError::new("invalidArguments", &error.to_string()))?,
    };
    if ids.len() > MAX_OBJECTS {
        return Err(MethodError::too_large());
    }
    let wanted: Vec<&str> = match arguments.get("properties") {
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let (mut list, mut not_found) = (Vec::new(), Vec::new());
    for text in ids {
        let found = text
            .parse()
            .ok()
            .and_then(|id| Some((id, state.objects.get(kind, id)?)));
        let Some((id, object)) = found else {
            not_found.push(text);
            continue;
        };
        let mut shown = state.objects.shown(kind, id, object);
        // If every requested property is unknown, all are returned.
        if wanted.iter().any(|name| shown.contains_key(*name)) {
            shown.retain(|name, _| name == "id" || wanted.contains(&name.as_str()));
        }
        list.push(shown);
    }
    let reply = json!({ "list": list, "notFound": not_found });
    Ok(reply.as_object().cloned().unwrap_or_default())
}

/// Executes a `/set`: creates, updates and destroys each object independently.
pub(super) fn set(
    mail: &Mail,
    kind: Kind,
    arguments: &Object,
    created: &mut Created,
) -> Result<Object, MethodError> {
    let part = |name: &str| arguments.members(name).into_iter().flatten();
    let destroy: Vec<&str> = match arguments.get("destroy") {
        Some(Value::Array(ids)) => ids.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if part("create").count() + part("update").count() + destroy.len() > MAX_OBJECTS {
        return Err(MethodError::too_large());
    }
    if std::mem::take(&mut mail.lock().race_lost) {
        return Err(MethodError::new(
            "serverUnavailable",
            "This server is temporarily unavailable. Attempting this same operation later may succeed.",
        ));
    }

    let mut reply = Reply::default();
    for (creation_id, given) in part("create") {
        let given = resolved(creation_id, given, created)?;
        let outcome = mail.lock().create(kind, given);
        if let Ok(id) = outcome {
            mail.record(classify::create_name(kind), kind, id);
            dkim::make_keys(mail, kind, id);
            created.insert(creation_id.clone(), id.to_string());
        }
        let shown = outcome.map(|id| json!({ "id": id.to_string() }));
        reply.record("created", "notCreated", creation_id, shown);
    }
    for (text, changes) in part("update") {
        let changes = changes.as_object().cloned().unwrap_or_default();
        let outcome = update(mail, kind, text, &changes).map(|()| Value::Null);
        reply.record("updated", "notUpdated", text, outcome);
    }
    let mut last_destroyed = None;
    for text in destroy {
        match destroy_one(mail, kind, text) {
            Ok(object) => {
                reply.destroyed.push(text.to_owned());
                last_destroyed = Some(object);
            }
            Err(refusal) => reply.record("destroyed", "notDestroyed", text, Err(refusal)),
        }
    }
    if let (Kind::DkimSignature, Some(key)) = (kind, last_destroyed) {
        mail.lock().make_late_key(&key);
    }
    Ok(reply.into_members())
}

fn update(mail: &Mail, kind: Kind, text: &str, changes: &Object) -> Result<(), SetError> {
    let mut state = mail.lock();
    let found = text
        .parse()
        .ok()
        .and_then(|id| Some((id, state.objects.get(kind, id)?)));
    let (id, before): (Id, _) = found.ok_or_else(SetError::not_found)?;
    let replaces_credentials = changes.get("credentials").and_then(Value::as_object);
    let given = replaces_credentials.into_iter().flatten();
    for (_, credential) in given {
        if credential.get("credentialId").is_some() {
            return Err(SetError::invalid_patch(
                "Cannot modify server set property",
                "credentials/credentialId",
            ));
        }
    }
    state.authorize_grant(kind, changes)?;
    let before = before.clone();
    let after = patch::patched(kind, &before, changes)?;
    let after = state.objects.checked(kind, Some(id), after)?;
    if after != before {
        state.objects.replace(kind, id, after);
        drop(state);
        mail.record(classify::update_name(kind, changes), kind, id);
        if changes.contains_key("dkimManagement") {
            dkim::make_keys(mail, kind, id);
        }
    }
    Ok(())
}

/// Destroys an object and returns it.
fn destroy_one(mail: &Mail, kind: Kind, text: &str) -> Result<Object, SetError> {
    let mut state = mail.lock();
    let found = text
        .parse()
        .ok()
        .and_then(|id| Some((id, state.objects.get(kind, id)?)));
    let (id, object): (Id, _) = found.ok_or_else(SetError::not_found)?;
    if kind == Kind::Domain {
        let dependants = state.objects.dependants(id);
        if !dependants.is_empty() {
            return Err(SetError(json!({
                "type": "objectIsLinked",
                "objectId": { "object": "Domain", "id": text },
                "linkedObjects": dependants,
            })));
        }
    }
    let object = object.clone();
    let key = state.objects.natural_key(kind, &object);
    state.objects.remove(kind, id);
    mail.effects.record(classify::destroy_name(kind), key);
    Ok(object)
}

impl Mail {
    fn record(&self, operation: &'static str, kind: Kind, id: Id) {
        let state = self.lock();
        if let Some(object) = state.objects.get(kind, id) {
            let key = state.objects.natural_key(kind, object);
            self.effects.record(operation, key);
        }
    }
}

/// The object to create, with creation ids replaced by ids.
fn resolved(creation_id: &str, given: &Value, created: &Created) -> Result<Object, MethodError> {
    let mut given = given.as_object().cloned().unwrap_or_default();
    resolve(creation_id, &mut given, created)?;
    let aliases = given.get_mut("aliases").and_then(Value::as_object_mut);
    for (_, alias) in aliases.into_iter().flatten() {
        if let Some(alias) = alias.as_object_mut() {
            resolve(creation_id, alias, created)?;
        }
    }
    Ok(given)
}

fn resolve(creation_id: &str, holder: &mut Object, created: &Created) -> Result<(), MethodError> {
    let Some(reference) = holder.text("domainId").strip_prefix('#') else {
        return Ok(());
    };
    let id = created.get(reference).ok_or_else(|| {
        let description = format!(
            "Invalid reference to non-existing object \"{reference}\" from \"{creation_id}\""
        );
        MethodError::new("invalidResultReference", &description)
    })?;
    holder.insert("domainId".into(), json!(id));
    Ok(())
}

/// Response to a `/set`. Empty parts are omitted.
#[derive(Default)]
struct Reply {
    parts: BTreeMap<&'static str, Object>,
    destroyed: Vec<String>,
}

impl Reply {
    fn record(
        &mut self,
        done: &'static str,
        refused: &'static str,
        id: &str,
        outcome: Result<Value, SetError>,
    ) {
        let (part, value) = match outcome {
            Ok(value) => (done, value),
            Err(SetError(error)) => (refused, error),
        };
        self.parts
            .entry(part)
            .or_default()
            .insert(id.to_owned(), value);
    }

    fn into_members(self) -> Object {
        let parts = self.parts.into_iter();
        let mut members: Object = parts
            .map(|(name, part)| (name.to_owned(), Value::Object(part)))
            .collect();
        if !self.destroyed.is_empty() {
            members.insert("destroyed".into(), json!(self.destroyed));
        }
        members
    }
}
