//! Arguments of a job, masked: ids, numbers and times are shown, texts are not unless they name a thing.

use bson::{Bson, Document};
use dezky_shared::id::JobId;

use super::super::super::{
    Console,
    failure::Failure,
    table::{Cell, Table},
};
use crate::timestamp::Timestamp;

/// Fields whose texts are shown: names of plans, currencies, months and objects of the payment provider.
const SHOWN: [&str; 6] = [
    "plan",
    "currency",
    "month",
    "from",
    "objectType",
    "objectId",
];
/// In place of a value that is not shown.
const MASK: &str = "••••";

/// The table of a job's arguments. The API never shows them, so they are read as they are stored.
pub(super) async fn table(console: &Console, job: &str) -> Result<Table, Failure> {
    let stored = match job.parse::<JobId>() {
        Ok(id) => console.app.db.jobs.find(id).await?,
        Err(_) => None,
    };
    let args = stored.map(|job| job.args).unwrap_or_default();
    Ok(Table::new(
        "Arguments",
        ["Name", "Value"],
        masked(&args).into_iter().map(|pair| pair.map(Cell::code)),
        "The job has no arguments.",
    ))
}

/// Names and values. Those of a document are named by their path.
fn masked(args: &Document) -> Vec<[String; 2]> {
    let mut pairs = Vec::new();
    for (name, value) in args {
        if let Bson::Document(fields) = value {
            let fields = masked(fields).into_iter();
            pairs.extend(fields.map(|[field, value]| [format!("{name}.{field}"), value]));
        } else {
            pairs.push([name.clone(), shown(name, value)]);
        }
    }
    pairs
}

fn shown(name: &str, value: &Bson) -> String {
    match value {
        Bson::Boolean(value) => value.to_string(),
        Bson::Int32(value) => value.to_string(),
        Bson::Int64(value) => value.to_string(),
        Bson::Double(value) => value.to_string(),
        Bson::DateTime(at) => Timestamp::from(*at).to_string(),
        Bson::Binary(id) => id
            .to_uuid()
            .map_or_else(|_| MASK.to_owned(), |id| id.to_string()),
        Bson::String(text) if SHOWN.contains(&name) => text.clone(),
        Bson::Null => "null".to_owned(),
        _ => MASK.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use bson::{Uuid, doc};

    use super::*;

    #[test]
    fn texts_are_masked_unless_they_name_a_thing() {
        let id = Uuid::new();
        let args = doc! {
            "tenantId": id, "dryRun": true, "periods": 3, "month": "2026-10", "password": "secret",
            "only": { "currency": "DKK", "email": "ada@acme.test" }, "names": ["ada"],
        };

        let pairs = masked(&args);

        let id = id.to_string();
        let expected = [
            ["tenantId", id.as_str()],
            ["dryRun", "true"],
            ["periods", "3"],
            ["month", "2026-10"],
            ["password", MASK],
            ["only.currency", "DKK"],
            ["only.email", MASK],
            ["names", MASK],
        ];
        assert_eq!(pairs, expected);
    }
}
