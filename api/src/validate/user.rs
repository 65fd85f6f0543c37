//! Roles and subjects of users.

use dezky_shared::user::{PartnerRole, PlatformRole, Role};
use uuid::Uuid;

use super::{Violation, word};

/// A role in a tenant.
pub fn role(text: &str) -> Result<Role, Violation> {
    word(text, "invalid_role", "member, admin or owner")
}

/// A role at a partner.
pub fn partner_role(text: &str) -> Result<PartnerRole, Violation> {
    let expected = "owner, manager, support or read-only";
    word(text, "invalid_partner_role", expected)
}

/// A role of an operator.
pub fn platform_role(text: &str) -> Result<PlatformRole, Violation> {
    word(text, "invalid_platform_role", "admin, support or viewer")
}

/// The subject of a user at the identity provider, as in the `sub` claim.
pub fn subject(text: &str) -> Result<String, Violation> {
    match Uuid::try_parse(text) {
        Ok(id) if text.len() == 36 => Ok(id.hyphenated().to_string()),
        _ => {
            let message = "Must be a hyphenated UUID.";
            Err(("invalid_id", message.to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_normalized_uuids() {
        let id = "00000000-0000-4000-8000-00000000000a";

        assert_eq!(subject(&id.to_uppercase()).unwrap(), id);
        for bad in [
            "",
            "ada",
            &id.replace('-', ""),
            &format!("{{{id}}}"),
            &format!("urn:uuid:{id}"),
        ] {
            assert!(subject(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn roles_are_parsed_by_their_stored_name() {
        assert_eq!(role("owner").unwrap(), Role::Owner);
        assert_eq!(partner_role("read-only").unwrap(), PartnerRole::ReadOnly);
        for bad in ["", "Owner", "boss", "readOnly"] {
            assert!(role(bad).is_err() && partner_role(bad).is_err(), "{bad:?}");
        }
    }
}
