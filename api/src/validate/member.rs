//! Addresses and mailboxes of members.

use dezky_shared::member::{Alias, dot_atom};

use super::Violation;
use crate::domain_name;

/// Largest quota of a mailbox, in bytes: 1 PiB.
const MAX_QUOTA: i64 = 1 << 50;
/// Smallest quota of a mailbox, in bytes: 1 MiB. The mail server takes 0 for unlimited.
const MIN_QUOTA: i64 = 1 << 20;

/// An alias of a mailbox: a local part, or an address in one of the tenant's domains. Reserved names are allowed here.
pub fn alias(text: &str) -> Result<Alias, Violation> {
    match text.rsplit_once('@') {
        None => Ok(Alias {
            local_part: dot_atom(text)?,
            domain: None,
        }),
        Some((local, domain)) => {
            let invalid = |error: domain_name::InvalidName| (error.code(), error.to_string());
            Ok(Alias {
                local_part: dot_atom(local)?,
                domain: Some(domain_name::normalise(domain.trim()).map_err(invalid)?),
            })
        }
    }
}

/// Quota of a mailbox, in bytes.
pub fn quota(bytes: i64) -> Result<i64, Violation> {
    if (MIN_QUOTA..=MAX_QUOTA).contains(&bytes) {
        Ok(bytes)
    } else {
        let message = format!("Must be {MIN_QUOTA}–{MAX_QUOTA} bytes.");
        Err(("out_of_range", message))
    }
}

/// The request for a one-time password.
pub fn password(text: &str) -> Result<(), Violation> {
    if text == "generate" {
        Ok(())
    } else {
        let message = "Must be generate: passwords are not accepted.";
        Err(("invalid_password", message.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_names_are_aliases() {
        assert_eq!(alias("Postmaster").unwrap().to_string(), "postmaster");
    }

    #[test]
    fn an_alias_may_name_a_domain() {
        let named = alias("Sales@Bücher.test").unwrap();

        assert_eq!(named.to_string(), "sales@xn--bcher-kva.test");
        for bad in [
            "@acme.test",
            "a@",
            "a@b@acme.test",
            "a@*.test",
            "\"a@b\"@acme.test",
        ] {
            assert!(alias(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn quotas_are_positive() {
        assert_eq!(quota(MIN_QUOTA), Ok(MIN_QUOTA));
        for bad in [i64::MIN, -1, 0, MIN_QUOTA - 1, MAX_QUOTA + 1] {
            assert!(quota(bad).is_err(), "{bad}");
        }
    }
}
