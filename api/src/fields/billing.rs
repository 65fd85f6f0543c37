//! Where a company is billed.

use super::Wrong;

/// A country: ISO 3166-1 alpha-2.
pub fn country(text: &str) -> Result<String, Wrong> {
    let code = text.trim().to_ascii_uppercase();
    if code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_uppercase()) {
        Ok(code)
    } else {
        let message = "A country has two letters, as in ISO 3166-1.";
        Err(("invalid_country", message.to_owned()))
    }
}

/// A VAT id, which begins with its country.
pub fn vat_id(country: Option<&str>, text: &str) -> Result<String, Wrong> {
    let id = text.trim().to_ascii_uppercase();
    let expected = match country {
        Some("GR") => Some("EL"),
        other => other,
    };
    let (prefix, number) = id.split_at_checked(2).unwrap_or_default();
    let is_well_formed = prefix.bytes().all(|byte| byte.is_ascii_uppercase())
        && (2..=13).contains(&number.len())
        && number.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if is_well_formed && expected.is_none_or(|expected| expected == prefix) {
        Ok(id)
    } else {
        let message = "This is not a VAT id of the country.";
        Err(("invalid_vat_id", message.to_owned()))
    }
}
