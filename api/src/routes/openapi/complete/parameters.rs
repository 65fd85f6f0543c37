//! Path parameters and request headers, which follow from the path, the method and the responses, and the schemas of
//! parameters with a fixed format.

use serde_json::{Value, json};

use super::{Operation, reference};

/// POST operations without an idempotency key: one writes nothing, and the webhook's events have ids.
const WITHOUT_KEY: [&str; 2] = ["evaluateFlags", "receiveStripeEvent"];
/// PUT operations on a resource without versions.
const UNVERSIONED: [&str; 1] = ["setPaymentMethod"];
/// Operations that respond with 202 and do not wait for the outcome.
const NEVER_WAIT: [&str; 5] = [
    "createJobOperation",
    "cancelJob",
    "importTenantUsers",
    "voidInvoice",
    "markInvoicePaid",
];
/// GET operations that look at an upstream again by a job, for which a caller may wait.
const FRESH_LOOKS: [&str; 2] = ["getTenantStorage", "getTenantMfaStatus"];
/// POST operations on a versioned resource, which `If-Match` guards as it guards an update.
const CONDITIONAL_ACTIONS: [&str; 12] = [
    "reconcileTenant",
    "suspendTenant",
    "resumeTenant",
    "restoreTenant",
    "suspendOwnPartnerTenant",
    "resumeOwnPartnerTenant",
    "recheckDomain",
    "rotateAppSecret",
    "voidInvoice",
    "markInvoicePaid",
    "markPayoutPaid",
    "cancelPayout",
];

/// Adds path parameters and headers, and completes all parameters.
pub(super) fn complete(operation: &mut Operation<'_>) {
    let mut parameters = path_parameters(operation);
    let documented = operation.fields.remove("parameters");
    parameters.extend(
        documented
            .iter()
            .filter_map(Value::as_array)
            .flatten()
            .cloned(),
    );
    let headers = headers(operation).into_iter();
    parameters.extend(headers.map(|name| parameter("header", name)));
    for parameter in &mut parameters {
        describe(operation.path, parameter);
    }
    if !parameters.is_empty() {
        operation
            .fields
            .insert("parameters".to_owned(), parameters.into());
    }
}

/// Parameters of the path that the handler does not document.
fn path_parameters(operation: &Operation<'_>) -> Vec<Value> {
    let segments = operation.path.split('/');
    let names = segments.filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'));
    names
        .filter(|name| !operation.has_parameter("path", name))
        .map(|name| parameter("path", name))
        .collect()
}

fn headers(operation: &Operation<'_>) -> Vec<&'static str> {
    let id = operation.id();
    let mut names = Vec::new();
    if operation.is_read() {
        if operation.has_response("304") {
            names.push("If-None-Match");
        }
        if FRESH_LOOKS.contains(&id) {
            names.push("Prefer");
        }
    } else if !WITHOUT_KEY.contains(&id) {
        names.push("Idempotency-Key");
        let is_update = operation.method != "post" && !UNVERSIONED.contains(&id);
        if is_update || CONDITIONAL_ACTIONS.contains(&id) {
            names.push("If-Match");
        }
        let may_wait = operation.has_response("200") && operation.has_response("202");
        if may_wait && !NEVER_WAIT.contains(&id) {
            names.push("Prefer");
        }
    }
    names
}

fn parameter(place: &str, name: &str) -> Value {
    let schema = json!({ "type": "string" });
    json!({ "name": name, "in": place, "required": place == "path", "schema": schema })
}

/// Adds the schema of a parameter with a fixed format, and its description unless the handler has one.
fn describe(path: &str, parameter: &mut Value) {
    let text = |field: &str| parameter[field].as_str().unwrap_or_default().to_owned();
    let (place, name) = (text("in"), text("name"));
    let description = match place.as_str() {
        "path" => Some(path_description(path, &name)),
        "header" => header_description(&name).map(str::to_owned),
        _ => None,
    };
    if let Some(schema) = schema(path, &place, &name) {
        parameter["schema"] = schema;
    }
    if let Some(description) = description.filter(|_| parameter["description"].is_null()) {
        parameter["description"] = description.into();
    }
}

/// `Id of the job.`
fn path_description(path: &str, name: &str) -> String {
    let placeholder = format!("/{{{name}}}");
    let before = path.split(&placeholder).next().unwrap_or_default();
    let noun = match before.rsplit('/').next().unwrap_or_default() {
        "tenants" => "tenant",
        "partners" => "partner",
        "domains" => "domain",
        "apps" | "sso-apps" => "app",
        "jobs" => "job",
        "imports" => "import",
        "job-operations" => "job operation",
        "invitations" => "invitation",
        "invoices" => "invoice",
        "payouts" => "payout",
        "reports" => "report",
        "saved" => "saved report",
        "subscriptions" => "subscription",
        "prices" => "price",
        "allowances" => "allowance",
        "flags" => "feature flag",
        "webhook-events" => "webhook event",
        "queues" => "queue",
        "schedules" => "schedule",
        "upstreams" => "upstream",
        "users" if path.starts_with("/tenants/") => {
            "member, or of the user if the person is not managed"
        }
        "team" => "team member's user",
        _ => "user",
    };
    let property = match name {
        "id" => "Id",
        "slug" => "Name in URLs",
        "key" => "Key",
        "plan" => "Plan",
        _ => "Name",
    };
    format!("{property} of the {noun}.")
}

fn header_description(name: &str) -> Option<&'static str> {
    Some(match name {
        "Idempotency-Key" => {
            "Identifies the request: a retry with the same key gets the stored response. Kept for seven days."
        }
        "If-Match" => {
            "`ETag` of the version to change. 412 if a caller changed the resource since then."
        }
        "If-None-Match" => "`ETag` of the caller's version. 304 if it is the current one.",
        "Prefer" => "`wait=25`: wait up to 25 seconds (at most 30) for the outcome.",
        "Last-Event-ID" => "`id` of the last received event: only newer states are sent.",
        _ => return None,
    })
}

fn schema(path: &str, place: &str, name: &str) -> Option<Value> {
    Some(match (place, name) {
        ("path", "id") if path.starts_with("/webhook-events/") => {
            json!({ "type": "string", "pattern": "^evt_[A-Za-z0-9_]+$" })
        }
        ("path", "slug") => {
            json!({ "type": "string", "pattern": "^[a-z][a-z0-9-]{1,38}[a-z0-9]$" })
        }
        ("path", "key") => json!({ "type": "string", "pattern": "^[a-z][a-z0-9_]{1,63}$" }),
        ("path", "plan") => reference("schemas", "PlanName"),
        ("path", "id") => json!({ "type": "string", "format": "uuid" }),
        ("query", "cursor") => json!({ "type": "string", "pattern": "^[A-Za-z0-9_-]+$" }),
        ("query", "wait") => {
            json!({ "type": "string", "pattern": "^[0-9]+s?$", "examples": ["25s"] })
        }
        ("header", "Idempotency-Key") => {
            json!({ "type": "string", "pattern": "^[!-~]+$", "maxLength": 255 })
        }
        _ => return None,
    })
}

/// Ids of the operations in the lists above.
#[cfg(test)]
pub(super) fn listed_operations() -> impl Iterator<Item = &'static str> {
    let lists: [&[&str]; 5] = [
        &WITHOUT_KEY,
        &UNVERSIONED,
        &NEVER_WAIT,
        &FRESH_LOOKS,
        &CONDITIONAL_ACTIONS,
    ];
    lists.into_iter().flatten().copied()
}
