//! Keeping secrets out of the trail: it is kept for years, and more people read it than may know them.

use bson::{Bson, Document};

/// What stands in the place of a secret.
const MASK: &str = "***";
/// The ends of the names of fields that hold secrets, in lower case.
const SECRETS: [&str; 11] = [
    "password",
    "passwordhash",
    "passphrase",
    "secret",
    "token",
    "otp",
    "link",
    "sealed",
    "apikey",
    "privatekey",
    "credential",
];

/// Masks what the names of fields say is secret, however deep.
pub fn redact(document: &mut Document) {
    for (field, value) in document.iter_mut() {
        if is_secret(field) {
            *value = MASK.into();
        } else {
            mask_within(value);
        }
    }
}

fn mask_within(value: &mut Bson) {
    match value {
        Bson::Document(document) => redact(document),
        Bson::Array(items) => items.iter_mut().for_each(mask_within),
        _ => {}
    }
}

/// Whether a field of this name, however it is spelled, holds a secret or several: `recoveryLink`, `client_secret`,
/// `API-KEYS`.
fn is_secret(field: &str) -> bool {
    let letters = field
        .chars()
        .filter(|character| character.is_alphanumeric());
    let name = letters.collect::<String>().to_lowercase();
    let singular = name.strip_suffix('s').unwrap_or(&name);
    SECRETS.iter().any(|secret| singular.ends_with(secret))
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    #[test]
    fn secrets_are_masked_at_any_depth_and_nothing_else_is() {
        let mut document = doc! {
            "name": "Acme",
            "password": "hunter2",
            "recoveryLink": { "url": "https://…" },
            "client_secret": 7,
            "owner": { "email": "a@b.test", "accessToken": "t", "keys": [{ "API-KEY": "k", "id": 1 }] },
            "credentials": ["one", "another"],
            "lockKey": "tenant:1",
            "tokenEndsAt": 5,
        };

        redact(&mut document);

        let expected = doc! {
            "name": "Acme",
            "password": "***",
            "recoveryLink": "***",
            "client_secret": "***",
            "owner": { "email": "a@b.test", "accessToken": "***", "keys": [{ "API-KEY": "***", "id": 1 }] },
            "credentials": "***",
            "lockKey": "tenant:1",
            "tokenEndsAt": 5,
        };
        assert_eq!(document, expected);
    }
}
