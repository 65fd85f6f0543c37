//! The method `/query`: filters, sorting, and paging with its quirks.

use serde_json::{Value, json};

use super::{
    error::MethodError,
    object::{Id, Kind, Store},
    properties::{Object, Properties as _},
};

/// Executes a `/query`.
pub(super) fn query(store: &Store, kind: Kind, arguments: &Object) -> Result<Object, MethodError> {
    let filter = conditions(kind, arguments.get("filter"))?;
    let mut found: Vec<(Id, &Object)> = store
        .all(kind)
        .filter(|(_, object)| {
            filter
                .iter()
                .all(|(name, wanted)| matches(object, name, wanted))
        })
        .collect();

    let number = |name: &str| {
        let number = arguments.get(name).and_then(Value::as_u64);
        number.and_then(|number| usize::try_from(number).ok())
    };
    // A limit of zero is ignored.
    let limit = number("limit").filter(|limit| *limit > 0);
    let mut position = number("position").unwrap_or(0);
    let total = found.len();
    let counts = arguments.get("calculateTotal") == Some(&json!(true));
    let sort = arguments.get("sort").and_then(|sort| sort.get(0));
    match (sort, limit) {
        (Some(sort), _) => {
            let ascending = sort["isAscending"].as_bool().unwrap_or(true);
            match sort["property"].as_str() {
                Some("id") => {}
                Some("name") => found.sort_by(|(_, a), (_, b)| a.text("name").cmp(b.text("name"))),
                _ => return Err(MethodError::new("unsupportedSort", "Sort is not supported")),
            }
            if !ascending {
                found.reverse();
            }
        }
        // Newest first, but the limit applies to a scan that starts with the oldest. As a result, the last pages
        // repeat entries, and there is always one more page.
        (None, Some(limit)) if !counts => {
            found.truncate(position + limit);
            found.reverse();
            position = 0;
        }
        (None, _) => found.reverse(),
    }
    let page = found.iter().skip(position).take(limit.unwrap_or(5000));
    let ids: Vec<String> = page.map(|(id, _)| id.to_string()).collect();

    let mut reply =
        json!({ "queryState": "n", "canCalculateChanges": true, "position": position, "ids": ids });
    if counts {
        reply["total"] = json!(total);
        if let Some(limit) = limit.filter(|limit| *limit < total) {
            reply["limit"] = json!(limit);
        }
    }
    Ok(reply.as_object().cloned().unwrap_or_default())
}

/// The conditions of a filter, which are combined with AND.
fn conditions(kind: Kind, filter: Option<&Value>) -> Result<Vec<(&str, &Value)>, MethodError> {
    let supported: &[&str] = match kind {
        Kind::Domain => &["name", "aliases", "text", "memberTenantId"],
        Kind::Account => &[
            "domainId",
            "name",
            "memberGroupIds",
            "text",
            "memberTenantId",
            "@type",
        ],
        Kind::MailingList => &["text", "memberTenantId"],
        Kind::DkimSignature => &["domainId"],
    };
    let Some(Value::Object(filter)) = filter else {
        return Ok(Vec::new());
    };
    if let Some(operator) = filter.get("operator") {
        if operator != "AND" {
            return Err(MethodError::new(
                "unsupportedFilter",
                "Only AND is supported in filters",
            ));
        }
        let parts = filter.get("conditions").and_then(Value::as_array);
        let parts = parts
            .into_iter()
            .flatten()
            .map(|part| conditions(kind, Some(part)));
        return Ok(parts.collect::<Result<Vec<_>, _>>()?.concat());
    }
    if let Some(name) = filter
        .keys()
        .find(|name| !supported.contains(&name.as_str()))
    {
        let description = format!("Filter on property {name} is not supported or invalid");
        return Err(MethodError::new("unsupportedFilter", &description));
    }
    Ok(filter
        .iter()
        .map(|(name, wanted)| (name.as_str(), wanted))
        .collect())
}

/// Words of a text, in lower case. The filter `text` compares words, not parts of them.
fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|character: char| !character.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
}

/// Whether an object meets a condition. Values other than texts are compared verbatim.
fn matches(object: &Object, name: &str, wanted: &Value) -> bool {
    let text = wanted.as_str().unwrap_or_default();
    match name {
        "text" => {
            let mut searched = ["name", "description"]
                .map(|part| object.text(part))
                .into_iter();
            searched.any(|part| {
                let found: Vec<String> = words(part).collect();
                words(text).all(|word| found.contains(&word))
            })
        }
        "aliases" | "memberGroupIds" => object
            .members(name)
            .is_some_and(|set| set.contains_key(text)),
        _ => object.get(name) == Some(wanted),
    }
}
