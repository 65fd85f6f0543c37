//! Local parts of addresses: the part before the `@`.

/// Maximum length of a local part (RFC 5321, section 4.5.3.1.1).
const MAX_LENGTH: usize = 64;

/// Local parts that belong to the domain and not to a person (RFC 2142).
const RESERVED: [&str; 6] = [
    "postmaster",
    "abuse",
    "hostmaster",
    "webmaster",
    "mailer-daemon",
    "noreply",
];

/// Error of an invalid local part: a stable code and a message.
pub type InvalidLocalPart = (&'static str, String);

/// Whether a local part belongs to the domain and not to a person.
pub fn is_reserved(local_part: &str) -> bool {
    RESERVED.contains(&local_part)
}

/// The local part of a mailbox: a [dot-atom](dot_atom) that is not reserved.
pub fn local_part(text: &str) -> Result<String, InvalidLocalPart> {
    let local = dot_atom(text)?;
    if is_reserved(&local) {
        let message = format!("{local} is reserved. An owner can add it as an alias.");
        return Err(("reserved_local_part", message));
    }
    Ok(local)
}

/// A dot-atom (RFC 5321) of letters, digits and `. _ - +`, in lower case.
pub fn dot_atom(text: &str) -> Result<String, InvalidLocalPart> {
    let invalid = |message: String| Err(("invalid_local_part", message));
    let local = text.trim();
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-+".contains(&byte);
    if local.is_empty() {
        return invalid("Must not be empty.".to_owned());
    }
    // Lower-cased only if it is ASCII: some letters are lower-cased into ASCII, as the Kelvin sign into k.
    if !local.bytes().all(is_allowed) {
        return invalid(
            "Only letters a–z, digits and . _ - + are allowed before the @.".to_owned(),
        );
    }
    if local.len() > MAX_LENGTH {
        return invalid(format!("Must be at most {MAX_LENGTH} characters."));
    }
    if local.starts_with('.') || local.ends_with('.') || local.contains("..") {
        return invalid("A dot must stand between two other characters.".to_owned());
    }
    Ok(local.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_parts_are_lower_case_ascii_within_the_grammar() {
        assert_eq!(local_part(" Ada.King-1_x+y ").unwrap(), "ada.king-1_x+y");
        assert_eq!(local_part(&"a".repeat(64)).unwrap().len(), 64);
        for bad in [
            "",
            " ",
            ".",
            ".a",
            "a.",
            "a..b",
            "a b",
            "a@b",
            "\"a\"",
            "a\"b",
            "ä",
            "\u{212a}ate",
            "a\u{200b}",
            "a,b",
            "a/b",
            "a%b",
            "a\\b",
            "(a)",
            "a:b",
            &"a".repeat(65),
        ] {
            assert!(local_part(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn reserved_names_are_no_local_parts_of_mailboxes() {
        for name in RESERVED {
            let code = local_part(&name.to_uppercase()).unwrap_err().0;
            assert_eq!(code, "reserved_local_part");
            assert_eq!(dot_atom(name).unwrap(), name);
        }
    }
}
