//! A JMAP request: method calls in order, with back-references to earlier results.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Mail,
    error::MethodError,
    methods::{self, Created},
    object::Kind,
    properties::Object,
    query,
};

/// Maximum number of calls in one request.
const MAX_CALLS: usize = 16;
const CAPABILITIES: [&str; 3] = [
    "urn:ietf:params:jmap:core",
    "urn:ietf:params:jmap:mail",
    "urn:stalwart:jmap",
];

/// Reason why a whole request is rejected with status 400.
pub(super) enum RequestError {
    /// Not a valid request. The response quotes it, secrets included.
    NotRequest,
    TooManyCalls,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    using: Vec<String>,
    method_calls: Vec<(String, Object, String)>,
}

/// Executes a request of a caller with or without permission to manage the server.
pub(super) fn run(
    mail: &Mail,
    account_id: &str,
    may_manage: bool,
    body: &[u8],
) -> Result<Value, RequestError> {
    let request: Request = serde_json::from_slice(body).map_err(|_| RequestError::NotRequest)?;
    let is_known = |capability: &String| CAPABILITIES.contains(&capability.as_str());
    // Any state but the constant one fails to parse, which fails the whole request.
    let is_state = |arguments: &Object| arguments.get("ifInState").is_none_or(|state| state == "n");
    let mut calls = request.method_calls.iter();
    if !request.using.iter().all(is_known) || !calls.all(|(_, arguments, _)| is_state(arguments)) {
        return Err(RequestError::NotRequest);
    }
    if request.method_calls.len() > MAX_CALLS {
        return Err(RequestError::TooManyCalls);
    }

    let mut created = Created::new();
    let mut replies: Vec<Value> = Vec::new();
    for (method, arguments, call_id) in request.method_calls {
        let outcome = with_results(arguments, &replies).and_then(|arguments| {
            if method == "Core/echo" {
                return Ok(arguments);
            }
            let mut reply = call(mail, &method, &arguments, may_manage, &mut created)?;
            let account = arguments.get("accountId").cloned();
            reply.insert(
                "accountId".into(),
                account.unwrap_or_else(|| json!(account_id)),
            );
            Ok(reply)
        });
        replies.push(match outcome {
            Ok(reply) => json!([method, reply, call_id]),
            Err(error) => {
                let error = json!({ "type": error.kind, "description": error.description });
                json!(["error", error, call_id])
            }
        });
    }
    Ok(json!({ "methodResponses": replies, "sessionState": "1731e49e" }))
}

fn call(
    mail: &Mail,
    method: &str,
    arguments: &Object,
    may_manage: bool,
    created: &mut Created,
) -> Result<Object, MethodError> {
    let unknown = || MethodError::new("unknownMethod", method);
    let (kind, verb) = Kind::of_method(method).ok_or_else(unknown)?;
    if !["get", "query", "set"].contains(&verb) {
        return Err(unknown());
    }
    mail.lock().authorize(kind, verb, arguments, may_manage)?;
    match verb {
        "get" => methods::get(&mail.lock(), kind, arguments),
        "query" => query::query(&mail.lock().objects, kind, arguments),
        _ => methods::set(mail, kind, arguments, created),
    }
}

/// The arguments, with back-references (`#name`) resolved from earlier results.
fn with_results(arguments: Object, replies: &[Value]) -> Result<Object, MethodError> {
    let invalid = || MethodError::new("invalidResultReference", "Invalid result reference");
    let taken = |reference: &Value| {
        let reply = replies
            .iter()
            .find(|reply| reply[0] == reference["name"] && reply[2] == reference["resultOf"])?;
        reply[1].pointer(reference["path"].as_str()?).cloned()
    };
    arguments
        .into_iter()
        .map(|(name, value)| match name.strip_prefix('#') {
            None => Ok((name, value)),
            Some(name) => Ok((name.to_owned(), taken(&value).ok_or_else(invalid)?)),
        })
        .collect()
}
