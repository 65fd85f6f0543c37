//! Completes the document that the handlers' annotations produce with the conventions of the whole API: parameters, response
//! headers, problem responses and pages.

mod info;
mod parameters;
mod problems;
mod responses;
mod schemas;

use serde_json::{Map, Value, json};
use utoipa::openapi::OpenApi;

/// An operation of the document.
struct Operation<'a> {
    path: &'a str,
    /// In lower case, as in the document.
    method: &'a str,
    fields: &'a mut Map<String, Value>,
}

/// The complete document.
pub fn complete(document: &OpenApi) -> Value {
    let mut document = super::to_json(document);
    info::complete(&mut document);
    schemas::complete(&mut document);
    let components = &mut document["components"];
    components["headers"] = responses::headers();
    components["responses"]["Problem"]["headers"] = responses::references(&["RequestId"]);
    problems::add_components(&mut components["responses"]);
    for_each_operation(&mut document, |mut operation| {
        parameters::complete(&mut operation);
        problems::add(&mut operation);
        responses::complete(&mut operation);
    });
    document
}

fn for_each_operation(document: &mut Value, mut complete: impl FnMut(Operation<'_>)) {
    for (path, item) in objects(document.get_mut("paths")) {
        for (method, operation) in objects(Some(item)) {
            if let Value::Object(fields) = operation {
                complete(Operation {
                    path,
                    method,
                    fields,
                });
            }
        }
    }
}

/// The members of an object, if there is one.
fn objects(value: Option<&mut Value>) -> impl Iterator<Item = (&String, &mut Value)> {
    value.and_then(Value::as_object_mut).into_iter().flatten()
}

impl Operation<'_> {
    /// Id of the operation. A deprecated path has that of its successor.
    fn id(&self) -> &str {
        let id = self.fields["operationId"].as_str().unwrap_or_default();
        id.trim_end_matches("Alias")
    }

    /// Whether the operation is public: health checks and webhooks need no token.
    fn is_public(&self) -> bool {
        self.fields.contains_key("security")
    }

    fn is_read(&self) -> bool {
        self.method == "get"
    }

    fn has_response(&self, status: &str) -> bool {
        !self.fields["responses"][status].is_null()
    }

    fn has_parameter(&self, place: &str, name: &str) -> bool {
        let parameters = self.fields.get("parameters").and_then(Value::as_array);
        parameters
            .into_iter()
            .flatten()
            .any(|parameter| parameter["in"] == place && parameter["name"] == name)
    }

    fn has_parameter_in(&self, place: &str) -> bool {
        let parameters = self.fields.get("parameters").and_then(Value::as_array);
        let mut parameters = parameters.into_iter().flatten();
        parameters.any(|parameter| parameter["in"] == place)
    }
}

/// A reference to a component.
fn reference(kind: &str, name: &str) -> Value {
    json!({ "$ref": format!("#/components/{kind}/{name}") })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// A fact that is listed under the id of an operation is lost with a rename of the operation.
    #[test]
    fn every_listed_operation_is_in_the_document() {
        let mut document = complete(&crate::routes::router().into_openapi());
        let mut documented = BTreeSet::new();
        for_each_operation(&mut document, |operation| {
            documented.insert(operation.id().to_owned());
        });

        let listed: BTreeSet<&str> = parameters::listed_operations()
            .chain(problems::listed_operations())
            .chain(responses::LISTED_OPERATIONS)
            .collect();
        let missing: Vec<&str> = listed
            .iter()
            .copied()
            .filter(|id| !documented.contains(*id))
            .collect();

        assert!(listed.len() > 50, "{listed:?}");
        assert_eq!(missing, [""; 0]);
    }
}
