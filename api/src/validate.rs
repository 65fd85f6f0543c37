//! Validation of request fields. All violations of a body are reported together.

pub mod allowance;
pub mod app;
pub mod billing;
pub mod branding;
mod deserialize;
mod field_patch;
pub mod flag;
mod invisible;
pub mod invoice;
mod list;
pub mod member;
pub mod money;
pub mod partner;
pub mod security_policy;
mod slug;
pub mod url;
pub mod user;

use std::{fmt::Display, str::FromStr};

use bson::DateTime;
use dezky_shared::{
    billing::Plan,
    domain::{DOMAINS_PER_TENANT, DmarcPolicy},
    tenant::Owner,
    unicode::composed,
};
use serde::{
    Deserialize, Serialize,
    de::{DeserializeOwned, IntoDeserializer as _, value},
};

use self::invisible::without_invisible;
pub use self::{
    deserialize::{double_option, object, unique_keys},
    field_patch::FieldPatch,
    list::distinct_list,
    slug::{slug, well_formed_slug},
};
use crate::{
    domain_name::{self, InvalidName, NamePolicy},
    error::FieldError,
};

/// Maximum length of a display name, in characters.
const MAX_NAME: usize = 120;
/// Maximum length of an e-mail address (RFC 5321, section 4.5.3.1).
const MAX_EMAIL: usize = 254;

/// Violation of a rule: a stable code and a message.
pub type Violation = (&'static str, String);

/// Collects the violations of a body.
#[derive(Debug, Default)]
pub struct Validator(Vec<FieldError>);

impl Validator {
    /// The value, or `None` after recording the violation.
    pub fn check<T>(&mut self, pointer: &str, value: Result<T, Violation>) -> Option<T> {
        value
            .map_err(|(code, message)| self.0.push(FieldError::at(pointer, code, message)))
            .ok()
    }

    /// Records an error.
    pub fn push(&mut self, error: FieldError) {
        self.0.push(error);
    }

    /// The recorded errors, for checks that follow.
    pub fn into_errors(self) -> Vec<FieldError> {
        self.0
    }

    /// The value built from the checked fields, unless there are violations.
    pub fn build<T>(self, build: impl FnOnce() -> Option<T>) -> Result<T, Vec<FieldError>> {
        self.finish(build())
    }

    /// The value, unless there are violations.
    pub fn finish<T>(self, value: Option<T>) -> Result<T, Vec<FieldError>> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => Err(self.0),
        }
    }
}

fn empty() -> Violation {
    ("too_short", "Must not be empty.".to_owned())
}

fn too_long(max: usize) -> Violation {
    ("too_long", format!("Must be at most {max} characters."))
}

fn invalid_characters() -> Violation {
    let message = "Must not contain control characters or invisible characters.";
    ("invalid_characters", message.to_owned())
}

/// A display name: one line of text.
pub fn name(text: &str) -> Result<String, Violation> {
    let name = text.trim();
    if name.is_empty() {
        return Err(empty());
    }
    // Before trimming, as the OpenAPI document specifies.
    if text.chars().count() > MAX_NAME {
        return Err(too_long(MAX_NAME));
    }
    if name.chars().any(char::is_control) {
        return Err(invalid_characters());
    }
    without_invisible(&composed(name)).ok_or_else(invalid_characters)
}

/// A color: `#rrggbb`.
pub fn color(text: &str) -> Result<String, Violation> {
    let is_color = text
        .strip_prefix('#')
        .is_some_and(|digits| digits.len() == 6 && digits.bytes().all(|b| b.is_ascii_hexdigit()));
    if is_color {
        Ok(text.to_ascii_lowercase())
    } else {
        Err((
            "invalid_color",
            "A color must have the form #rrggbb.".to_owned(),
        ))
    }
}

/// A plan.
pub fn plan(text: &str) -> Result<Plan, Violation> {
    word(text, "invalid_plan", "starter, business or enterprise")
}

/// An enum variant, parsed from its stored name.
#[derive(Debug)]
pub struct EnumName<T>(pub T);

impl<T: DeserializeOwned> FromStr for EnumName<T> {
    type Err = value::Error;

    fn from_str(text: &str) -> Result<Self, value::Error> {
        T::deserialize(text.into_deserializer()).map(Self)
    }
}

/// Parses an enum variant by its stored name. `expected` lists the valid names.
pub fn word<T: DeserializeOwned>(
    text: &str,
    code: &'static str,
    expected: &str,
) -> Result<T, Violation> {
    match text.parse() {
        Ok(EnumName(value)) => Ok(value),
        Err(_) => Err((code, format!("Must be {expected}."))),
    }
}

/// The variant with this stored name among `all`. For an enum that also reads names of newer builds.
pub fn one_of<T: Serialize>(all: impl IntoIterator<Item = T>, name: &str) -> Option<T> {
    all.into_iter().find(|variant| name_of(variant) == name)
}

/// The JSON name of an enum variant.
pub fn name_of(value: &impl Serialize) -> String {
    let value = serde_json::to_value(value).unwrap_or_default();
    value.as_str().unwrap_or_default().to_owned()
}

/// A timestamp: RFC 3339.
pub fn time(text: &str) -> Result<DateTime, Violation> {
    let invalid = |_| {
        let message = "Must be an RFC 3339 timestamp, such as 2026-11-22T09:30:00Z.";
        ("invalid_time", message.to_owned())
    };
    let time: jiff::Timestamp = text.parse().map_err(invalid)?;
    Ok(DateTime::from_millis(time.as_millisecond()))
}

/// An id.
pub fn id<T>(text: &str) -> Result<T, Violation>
where
    T: FromStr,
    T::Err: Display,
{
    text.parse()
        .map_err(|error| ("invalid_id", format!("Invalid id: {error}.")))
}

/// An e-mail address, in lower case.
pub fn email(text: &str) -> Result<String, Violation> {
    let invalid = || ("invalid_email", "Not a valid email address.".to_owned());
    // Some characters are lower-cased into ASCII: the Kelvin sign becomes k.
    if !text.is_ascii() {
        return Err(invalid());
    }
    let email = text.trim().to_ascii_lowercase();
    let (local, host) = email.rsplit_once('@').ok_or_else(invalid)?;
    let is_local = !local.is_empty()
        && local.len() <= 64
        && local
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b".!#$%&'*+/=?^_`{|}~-".contains(&byte))
        && !local.starts_with('.')
        && !local.ends_with('.')
        && !local.contains("..");
    let is_host = host.contains('.') && domain_name::normalise(host).as_deref() == Ok(host);
    if text.len() > MAX_EMAIL || !is_local || !is_host {
        return Err(invalid());
    }
    Ok(email)
}

/// An e-mail address for DMARC reports. It becomes part of a list of URIs, so characters that need escaping are rejected.
pub fn report_address(text: &str) -> Result<String, Violation> {
    let address = email(text)?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"@._+=-".contains(&byte);
    if address.bytes().all(is_plain) {
        Ok(address)
    } else {
        Err((
            "invalid_email",
            "Only letters, digits and . _ + = - are allowed before the @.".to_owned(),
        ))
    }
}

/// A DMARC policy.
pub fn dmarc_policy(text: &str) -> Result<DmarcPolicy, Violation> {
    let expected = "none, quarantine or reject";
    word(text, "invalid_dmarc_policy", expected)
}

/// A domain name that a tenant may use. Blanks around it are ignored, as around names and addresses.
pub fn domain(names: &NamePolicy, text: &str) -> Result<String, Violation> {
    names
        .parse(text.trim())
        .map_err(|error: InvalidName| (error.code(), error.to_string()))
}

/// The domains of a tenant, without duplicates.
pub fn domains(
    validator: &mut Validator,
    names: &NamePolicy,
    texts: &[String],
) -> Option<Vec<String>> {
    let parse = |text: &str| domain(names, text);
    distinct_list(validator, "/domains", texts, DOMAINS_PER_TENANT, parse)
}

/// Owner of a new workspace.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TenantOwnerCreate)]
pub struct OwnerRequest {
    /// E-mail address, which becomes the username.
    #[schema(max_length = 254, example = "ada@example.com")]
    pub email: String,
    /// Display name.
    #[schema(min_length = 1, max_length = 120)]
    pub name: String,
}

/// The owner of a new workspace.
pub fn owner(validator: &mut Validator, raw: &OwnerRequest) -> Option<Owner> {
    let email = validator.check("/owner/email", email(&raw.email));
    let name = validator.check("/owner/name", name(&raw.name));
    Some(Owner {
        email: email?,
        name: name?,
        subject: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_addresses_need_no_escaping_in_a_list_of_uris() {
        assert_eq!(
            report_address("DMARC+acme@reports.dk").unwrap(),
            "dmarc+acme@reports.dk"
        );
        for bad in [
            "a!10m@b.dk",
            "a%40b@c.dk",
            "a?x@b.dk",
            "a@b.dk,mailto:c@d.dk",
            "mailto:a@b.dk",
            "a@b.dk; p=none",
            "a@[10.0.0.1]",
        ] {
            assert!(report_address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn email_addresses_are_lower_case_ascii() {
        assert_eq!(email(" Ada@Example.com").unwrap(), "ada@example.com");
        for bad in [
            "",
            "ada",
            "@a.com",
            "ada@",
            "a b@a.com",
            "a..b@a.com",
            "ä@a.com",
            "ada@localhost",
            "\u{212a}ate@a.com",
        ] {
            assert!(email(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn names_are_one_line_of_visible_text() {
        assert_eq!(name("  Ærø & Sons ").unwrap(), "Ærø & Sons");
        for good in [
            "株式会社 עברית ❤️",
            "می\u{200c}خواهم",
            "👩\u{200d}👧\u{200d}👦",
            "क्\u{200d}ष",
            "\u{9b0}\u{200d}\u{9cd}\u{9af}\u{9be}\u{9ac}",
            "\u{cb0}\u{200d}\u{ccd}\u{c95}",
            "\u{1f3f4}\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}",
        ] {
            assert_eq!(name(good).unwrap(), good);
        }
        // A joiner after a letter that never joins the next one.
        let typed = "\u{6a9}\u{627}\u{631}\u{200c}\u{647}\u{627}";
        assert_eq!(name(typed).unwrap(), typed.replace('\u{200c}', ""));
        for bad in ["", "  ", "a\nb", "a\u{7f}", &"x".repeat(121)] {
            assert!(name(bad).is_err(), "{bad:?}");
        }
        for invisible in [
            '\u{200b}',
            '\u{200d}',
            '\u{2028}',
            '\u{2029}',
            '\u{202e}',
            '\u{2066}',
            '\u{feff}',
            '\u{3164}',
            '\u{e0067}',
        ] {
            for bad in [invisible.to_string(), format!("a{invisible}b")] {
                assert!(name(&bad).is_err(), "{bad:?}");
            }
        }
    }

    #[test]
    fn colors_are_six_hexadecimal_digits() {
        assert_eq!(color("#A1b2C3").unwrap(), "#a1b2c3");
        for bad in ["", "#fff", "a1b2c3", "#gggggg", "#a1b2c3d4"] {
            assert!(color(bad).is_err(), "{bad:?}");
        }
    }
}
