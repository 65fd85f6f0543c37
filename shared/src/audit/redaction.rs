//! Redaction: removes secrets from audit events, which are kept for years and read by more people than may know the
//! secrets.

use bson::{Bson, Document};

/// Replacement for a redacted value.
const REDACTED: &str = "***";
/// Suffixes of field names that hold secrets, in lower case.
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

/// Redacts the values of secret fields at any depth.
pub fn redact(document: &mut Document) {
    for (field, value) in document.iter_mut() {
        if is_secret(field) {
            *value = REDACTED.into();
        } else {
            redact_within(value);
        }
    }
}

fn redact_within(value: &mut Bson) {
    match value {
        Bson::Document(document) => redact(document),
        Bson::Array(items) => items.iter_mut().for_each(redact_within),
        _ => {}
    }
}

/// Whether a field of this name holds one or more secrets, in any spelling: `recoveryLink`, `client_secret`,
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
    fn only_secrets_are_redacted_at_any_depth() {
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
