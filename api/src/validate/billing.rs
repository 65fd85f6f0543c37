//! Billing address: country and VAT id.

mod vat;

use super::Violation;

/// The countries of ISO 3166-1, by their alpha-2 codes, and Kosovo by the code that the EU and banks use.
const COUNTRIES: &[&str] = &[
    "AD", "AE", "AF", "AG", "AI", "AL", "AM", "AO", "AQ", "AR", "AS", "AT", "AU", "AW", "AX", "AZ",
    "BA", "BB", "BD", "BE", "BF", "BG", "BH", "BI", "BJ", "BL", "BM", "BN", "BO", "BQ", "BR", "BS",
    "BT", "BV", "BW", "BY", "BZ", "CA", "CC", "CD", "CF", "CG", "CH", "CI", "CK", "CL", "CM", "CN",
    "CO", "CR", "CU", "CV", "CW", "CX", "CY", "CZ", "DE", "DJ", "DK", "DM", "DO", "DZ", "EC", "EE",
    "EG", "EH", "ER", "ES", "ET", "FI", "FJ", "FK", "FM", "FO", "FR", "GA", "GB", "GD", "GE", "GF",
    "GG", "GH", "GI", "GL", "GM", "GN", "GP", "GQ", "GR", "GS", "GT", "GU", "GW", "GY", "HK", "HM",
    "HN", "HR", "HT", "HU", "ID", "IE", "IL", "IM", "IN", "IO", "IQ", "IR", "IS", "IT", "JE", "JM",
    "JO", "JP", "KE", "KG", "KH", "KI", "KM", "KN", "KP", "KR", "KW", "KY", "KZ", "LA", "LB", "LC",
    "LI", "LK", "LR", "LS", "LT", "LU", "LV", "LY", "MA", "MC", "MD", "ME", "MF", "MG", "MH", "MK",
    "ML", "MM", "MN", "MO", "MP", "MQ", "MR", "MS", "MT", "MU", "MV", "MW", "MX", "MY", "MZ", "NA",
    "NC", "NE", "NF", "NG", "NI", "NL", "NO", "NP", "NR", "NU", "NZ", "OM", "PA", "PE", "PF", "PG",
    "PH", "PK", "PL", "PM", "PN", "PR", "PS", "PT", "PW", "PY", "QA", "RE", "RO", "RS", "RU", "RW",
    "SA", "SB", "SC", "SD", "SE", "SG", "SH", "SI", "SJ", "SK", "SL", "SM", "SN", "SO", "SR", "SS",
    "ST", "SV", "SX", "SY", "SZ", "TC", "TD", "TF", "TG", "TH", "TJ", "TK", "TL", "TM", "TN", "TO",
    "TR", "TT", "TV", "TW", "TZ", "UA", "UG", "UM", "US", "UY", "UZ", "VA", "VC", "VE", "VG", "VI",
    "VN", "VU", "WF", "WS", "XK", "YE", "YT", "ZA", "ZM", "ZW",
];

/// Maximum length of a VAT id before normalization.
const MAX_VAT_INPUT: usize = 40;

/// A country: its ISO 3166-1 alpha-2 code, in upper case.
pub fn country(text: &str) -> Result<String, Violation> {
    let code = text.to_ascii_uppercase();
    if COUNTRIES.binary_search(&code.as_str()).is_ok() {
        Ok(code)
    } else {
        let message = "Must be an ISO 3166-1 alpha-2 code, such as DK (Greece is GR).";
        Err(("invalid_country", message.to_owned()))
    }
}

/// A VAT id with country prefix, in upper case, without blanks of any kind, dots and hyphens.
///
/// It must have the format of `country`, or of the country of its prefix if `None`. Known formats are those of the EU
/// member states, the United Kingdom (GB; XI for Northern Ireland), Norway and Switzerland; other countries accept any
/// short id. Check digits are verified, except for BG, CY, CZ, ES, IE, LT and LV and for French ids with a letter after
/// the prefix. Whether the id is registered is not checked.
pub fn vat_id(country: Option<&str>, text: &str) -> Result<String, Violation> {
    let id = with_prefix(country, normalize(text)?);
    let form = match country {
        None => vat::FORMS.iter().find(|form| id.starts_with(form.prefix)),
        Some(country) => {
            let mut forms = vat::FORMS.iter().filter(|form| form.country == country);
            let Some(first) = forms.next() else {
                return Ok(id);
            };
            let mut forms = std::iter::once(first).chain(forms);
            forms.find(|form| id.starts_with(form.prefix))
        }
    };
    let Some(form) = form else {
        return Err(match country {
            None => (
                "unknown_vat_country",
                "Unknown country prefix. Set the country as well.".to_owned(),
            ),
            Some(country) => (
                "wrong_vat_country",
                format!("Not a VAT id of {country}: the country prefix is missing or differs."),
            ),
        });
    };
    let is_well_formed = id
        .strip_prefix(form.prefix)
        .is_some_and(|number| (form.is_number)(number));
    if is_well_formed {
        Ok(id)
    } else {
        let message = format!(
            "Not a valid VAT id of {}. Example: {}.",
            form.country, form.example
        );
        Err(("invalid_vat_id", message))
    }
}

/// Adds the prefix where ids are usually written with another one or without: Greek ids with GR instead of EL, Norwegian
/// ids without NO.
fn with_prefix(country: Option<&str>, id: String) -> String {
    match (country, id.strip_prefix("GR")) {
        (Some("GR") | None, Some(number)) => format!("EL{number}"),
        (Some("NO"), _) if id.starts_with(|first: char| first.is_ascii_digit()) => {
            format!("NO{id}")
        }
        _ => id,
    }
}

/// Removes separators and converts to upper case. Some Irish ids have a plus or an asterisk.
fn normalize(text: &str) -> Result<String, Violation> {
    let invalid = || {
        let message = "A VAT id must be 4–20 letters and digits.";
        ("invalid_vat_id", message.to_owned())
    };
    if text.len() > MAX_VAT_INPUT {
        return Err(invalid());
    }
    let id: String = text
        .chars()
        .filter(|c| !c.is_whitespace() && !['.', '-'].contains(c))
        .map(|c| c.to_ascii_uppercase())
        .collect();
    let is_plain = id
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'*');
    if is_plain && (4..=20).contains(&id.len()) {
        Ok(id)
    } else {
        Err(invalid())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_country_is_an_iso_3166_alpha_2_code() {
        assert!(COUNTRIES.is_sorted_by(|one, next| one < next));
        assert_eq!(COUNTRIES.len(), 250);
        assert_eq!(country("dk").unwrap(), "DK");
        assert_eq!(country("GR").unwrap(), "GR");
        assert_eq!(country("XK").unwrap(), "XK");
        for bad in ["", "D", "DNK", "EL", "UK", "EU", "ZZ", "D ", "ſk"] {
            assert_eq!(country(bad).unwrap_err().0, "invalid_country", "{bad:?}");
        }
    }

    #[test]
    fn a_vat_id_is_normalized() {
        for (country, input, normalized) in [
            (Some("DK"), "dk 13 58 56 28", "DK13585628"),
            (None, "DE 136.695.976", "DE136695976"),
            (Some("CH"), "CHE-107.787.577 IVA", "CHE107787577IVA"),
            (Some("NO"), "NO 995 525 828 MVA", "NO995525828MVA"),
            (Some("NO"), "995\u{a0}525\u{2009}828 MVA", "NO995525828MVA"),
            (Some("GR"), "EL 094259216", "EL094259216"),
            (Some("GR"), "GR 094259216", "EL094259216"),
            (None, "GR094259216", "EL094259216"),
            (Some("GB"), "XI 980 7806 84", "XI980780684"),
            (Some("US"), "12-3456789", "123456789"),
        ] {
            assert_eq!(vat_id(country, input).unwrap(), normalized, "{input}");
        }
    }

    #[test]
    fn a_vat_id_must_match_its_country() {
        let code = |country, text| vat_id(country, text).unwrap_err().0;

        assert_eq!(code(Some("DE"), "DK13585628"), "wrong_vat_country");
        assert_eq!(code(Some("DK"), "13585628"), "wrong_vat_country");
        assert_eq!(code(None, "13585628"), "unknown_vat_country");
        assert_eq!(code(Some("DK"), "DK13585629"), "invalid_vat_id");
        for bad in ["", "DK", "DK1358562８", "DK_13585628", &"1".repeat(41)] {
            assert_eq!(code(Some("US"), bad), "invalid_vat_id", "{bad}");
        }
    }

    proptest! {
        #[test]
        fn normalization_of_a_vat_id_is_idempotent(
            country in prop::option::of(prop::sample::select(COUNTRIES)),
            text in "([A-Z]{2})?[ .-]?[A-Z0-9+* .-]{0,14}|.{0,50}",
        ) {
            if let Ok(kept) = vat_id(country, &text) {
                prop_assert_eq!(vat_id(country, &kept), Ok(kept.clone()));
            }
        }
    }
}
