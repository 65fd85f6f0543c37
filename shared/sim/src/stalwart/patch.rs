//! Updates: plain properties are replaced, JSON pointers change members.

use serde_json::Value;

use super::{error::SetError, object::Kind, properties::Object};

/// Applies an `update` to a copy of the object.
pub(super) fn patched(kind: Kind, object: &Object, patch: &Object) -> Result<Object, SetError> {
    let mut patched = object.clone();
    for (pointer, value) in patch {
        let name = pointer.split('/').next().unwrap_or_default();
        if kind.server_set().contains(&name) {
            return Err(SetError::invalid_patch(
                "Cannot modify server set property",
                pointer,
            ));
        }
        if !kind.has_property(name) {
            return Err(SetError::invalid_patch("Invalid property", pointer));
        }
        match pointer.split_once('/') {
            None => {
                patched.insert(pointer.clone(), value.clone());
            }
            Some((_, rest)) => set_inside(kind, &mut patched, pointer, rest, value)?,
        }
    }
    Ok(patched)
}

/// Sets the target of a pointer with several segments. All segments but the last must exist.
fn set_inside(
    kind: Kind,
    object: &mut Object,
    pointer: &str,
    rest: &str,
    value: &Value,
) -> Result<(), SetError> {
    let no_such_path = || SetError::invalid_patch("Invalid JSON Pointer path", pointer);
    let name = pointer.split('/').next().unwrap_or_default();
    let (path, last) = rest
        .rsplit_once('/')
        .map_or((None, rest), |(path, last)| (Some(path), last));
    let mut holder = object.get_mut(name).ok_or_else(no_such_path)?;
    for segment in path.into_iter().flat_map(|path| path.split('/')) {
        holder = holder
            .get_mut(unescaped(segment))
            .ok_or_else(no_such_path)?;
    }
    let holder = holder.as_object_mut().ok_or_else(no_such_path)?;
    let last = unescaped(last);
    if !value.is_null() {
        holder.insert(last, value.clone());
    } else if holder.remove(&last).is_none() && kind.is_list(name) {
        return Err(SetError::invalid_patch(
            "Invalid value for object property",
            pointer,
        ));
    }
    Ok(())
}

/// A segment with the escapes of RFC 6901 resolved.
fn unescaped(segment: &str) -> String {
    segment.replace("~1", "/").replace("~0", "~")
}
