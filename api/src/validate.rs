//! Values that callers give, each with its rules. All that is wrong with a body is reported together.

pub mod billing;
pub mod branding;
mod field_patch;
pub mod flag;
pub mod money;
pub mod partner;
pub mod security_policy;
pub mod url;
pub mod user;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{self, Display},
    marker::PhantomData,
    str::FromStr,
};

use crate::domain_name::{self, InvalidName, NamePolicy};
use bson::DateTime;
use dezky_shared::{
    billing::Plan,
    domain::{DOMAINS_PER_TENANT, DmarcPolicy},
    tenant::Owner,
};
use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeOwned, IntoDeserializer as _, MapAccess, Visitor, value},
};

pub use self::field_patch::FieldPatch;
use crate::{error::FieldError, extract::Object};

/// The longest name of a tenant or a person, in characters.
const NAME_LENGTH: usize = 120;
/// The longest address (RFC 5321, section 4.5.3.1).
const EMAIL_LENGTH: usize = 254;

/// Words that mean something else where a slug could stand: in our URLs, in host names, or as a group.
const RESERVED: &[&str] = &[
    "about",
    "account",
    "accounts",
    "admin",
    "administrator",
    "api",
    "app",
    "assets",
    "audit",
    "auth",
    "authentik",
    "billing",
    "blog",
    "cdn",
    "cloud",
    "dashboard",
    "docs",
    "domains",
    "events",
    "files",
    "health",
    "healthz",
    "help",
    "internal",
    "invoices",
    "jobs",
    "login",
    "logout",
    "mail",
    "me",
    "members",
    "metrics",
    "ocis",
    "openapi",
    "operator",
    "partners",
    "platform",
    "portal",
    "public",
    "readyz",
    "root",
    "settings",
    "signup",
    "sso",
    "stalwart",
    "static",
    "status",
    "subscriptions",
    "support",
    "system",
    "tenants",
    "users",
    "webhooks",
    "webmail",
    "www",
];

/// What is wrong with a value: a stable name, and a sentence.
type Violation = (&'static str, String);

/// Collects what is wrong with the fields of a body.
#[derive(Debug, Default)]
pub struct Validator(Vec<FieldError>);

impl Validator {
    /// The value, or a note of what is wrong with it.
    pub fn check<T>(&mut self, pointer: &str, value: Result<T, Violation>) -> Option<T> {
        value
            .map_err(|(code, message)| self.0.push(FieldError::at(pointer, code, message)))
            .ok()
    }

    /// Notes something wrong elsewhere.
    pub fn note(&mut self, error: FieldError) {
        self.0.push(error);
    }

    /// All that was wrong, for whoever finds out the rest.
    pub fn into_errors(self) -> Vec<FieldError> {
        self.0
    }

    /// The whole, provided that nothing was wrong.
    pub fn finish<T>(self, whole: Option<T>) -> Result<T, Vec<FieldError>> {
        match whole {
            Some(whole) if self.0.is_empty() => Ok(whole),
            _ => Err(self.0),
        }
    }
}

/// A slug: `^[a-z][a-z0-9-]{1,38}[a-z0-9]$`, no `--`, not reserved.
pub fn slug(text: &str, admin_groups: &[String]) -> Result<String, Violation> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let well_formed = (3..=40).contains(&text.len())
        && text.bytes().all(allowed)
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && !text.ends_with('-')
        && !text.contains("--");
    if !well_formed {
        let message = "A slug has 3 to 40 characters: lower-case letters, digits and single hyphens, a letter first, \
                       no hyphen last.";
        return Err(("invalid_slug", message.to_owned()));
    }
    let is_admin_group = admin_groups
        .iter()
        .any(|group| group.to_lowercase().replace(' ', "-") == text);
    if is_admin_group || RESERVED.contains(&text) {
        return Err(("reserved_slug", format!("{text:?} is reserved.")));
    }
    Ok(text.to_owned())
}

/// A name for people: some text on one line.
pub fn name(text: &str) -> Result<String, Violation> {
    let name = text.trim();
    if name.is_empty() {
        return Err(("too_short", "This cannot be empty.".to_owned()));
    }
    // As it was sent: the document says so.
    if text.chars().count() > NAME_LENGTH {
        return Err((
            "too_long",
            format!("This has at most {NAME_LENGTH} characters."),
        ));
    }
    if name.chars().any(|c| c.is_control() || is_unseen(c)) {
        return Err((
            "invalid_characters",
            "This cannot hold control characters or characters that are not seen.".to_owned(),
        ));
    }
    Ok(name.to_owned())
}

/// Whether a character breaks the line, turns the direction of text, or takes no room: with these, a name looks
/// like nothing or like another one.
fn is_unseen(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
        // Letters of Hangul that are blank.
        | '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}')
}

/// A colour: `#rrggbb`.
pub fn color(text: &str) -> Result<String, Violation> {
    let is_color = text
        .strip_prefix('#')
        .is_some_and(|digits| digits.len() == 6 && digits.bytes().all(|b| b.is_ascii_hexdigit()));
    if is_color {
        Ok(text.to_ascii_lowercase())
    } else {
        Err(("invalid_color", "A colour is written #rrggbb.".to_owned()))
    }
}

/// A plan.
pub fn plan(text: &str) -> Result<Plan, Violation> {
    match text {
        "starter" => Ok(Plan::Starter),
        "business" => Ok(Plan::Business),
        "enterprise" => Ok(Plan::Enterprise),
        _ => Err((
            "invalid_plan",
            "A plan is starter, business or enterprise.".to_owned(),
        )),
    }
}

/// One of the words of an enum, as documents spell them.
#[derive(Debug)]
pub struct EnumName<T>(pub T);

impl<T: DeserializeOwned> FromStr for EnumName<T> {
    type Err = value::Error;

    fn from_str(text: &str) -> Result<Self, value::Error> {
        T::deserialize(text.into_deserializer()).map(Self)
    }
}

/// The same, which must be what is `expected`.
pub fn word<T: DeserializeOwned>(
    text: &str,
    code: &'static str,
    expected: &str,
) -> Result<T, Violation> {
    match text.parse() {
        Ok(EnumName(value)) => Ok(value),
        Err(_) => Err((code, format!("This must be {expected}."))),
    }
}

/// A time: RFC 3339.
pub fn time(text: &str) -> Result<DateTime, Violation> {
    let invalid = |_| {
        let message = "This is not a time such as 2026-11-22T09:30:00Z.";
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
        .map_err(|error| ("invalid_id", format!("This is {error}.")))
}

/// An address, in lower case.
pub fn email(text: &str) -> Result<String, Violation> {
    let invalid = || ("invalid_email", "This is not an e-mail address.".to_owned());
    // Some letters beyond ASCII are lower-cased into it: the sign of Kelvin becomes a k.
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
    if text.len() > EMAIL_LENGTH || !is_local || !is_host {
        return Err(invalid());
    }
    Ok(email)
}

/// An address for reports. It stands in a list of URIs, so it holds nothing that would have to be escaped there.
pub fn report_address(text: &str) -> Result<String, Violation> {
    let address = email(text)?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"@._+=-".contains(&byte);
    if address.bytes().all(is_plain) {
        Ok(address)
    } else {
        Err((
            "invalid_email",
            "An address for reports has letters, digits and . _ + = - before the @.".to_owned(),
        ))
    }
}

/// What receivers are asked to do with mail that fails DMARC.
pub fn dmarc_policy(text: &str) -> Result<DmarcPolicy, Violation> {
    match text {
        "none" => Ok(DmarcPolicy::None),
        "quarantine" => Ok(DmarcPolicy::Quarantine),
        "reject" => Ok(DmarcPolicy::Reject),
        _ => Err((
            "invalid_dmarc_policy",
            "A policy is none, quarantine or reject.".to_owned(),
        )),
    }
}

/// The name of a domain that a tenant may have.
pub fn domain(names: &NamePolicy, text: &str) -> Result<String, Violation> {
    names
        .parse(text)
        .map_err(|error: InvalidName| (error.code(), error.to_string()))
}

/// A tenant's domains, none of them twice.
pub fn domains(
    checks: &mut Validator,
    names: &NamePolicy,
    texts: &[String],
) -> Option<Vec<String>> {
    if texts.len() > DOMAINS_PER_TENANT {
        let message = format!("A tenant has at most {DOMAINS_PER_TENANT} domains.");
        checks.note(FieldError::at("/domains", "too_many", message));
        return None;
    }
    let mut seen = BTreeSet::new();
    let mut domains = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let pointer = format!("/domains/{index}");
        let once = domain(names, text).and_then(|domain| {
            if seen.insert(domain.clone()) {
                Ok(domain)
            } else {
                Err(("duplicate", format!("{domain} is given twice.")))
            }
        });
        domains.extend(checks.check(&pointer, once));
    }
    (domains.len() == texts.len()).then_some(domains)
}

/// Somebody's address and name.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OwnerRequest {
    /// The address, which becomes the username.
    #[schema(max_length = 254, example = "ada@example.com")]
    pub email: String,
    /// The name, for people.
    #[schema(min_length = 1, max_length = 120)]
    pub name: String,
}

/// The person a workspace is for.
pub fn owner(checks: &mut Validator, wire: &OwnerRequest) -> Option<Owner> {
    let email = checks.check("/owner/email", email(&wire.email));
    let name = checks.check("/owner/name", name(&wire.name));
    Some(Owner {
        email: email?,
        name: name?,
        subject: None,
    })
}

/// For a struct in a field that may be missing or null.
pub fn object<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let object = Option::<Object<T>>::deserialize(deserializer)?;
    Ok(object.map(|Object(value)| value))
}

/// For a field that may be missing, and is not null when it is there.
pub fn double_option<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// For a map in which no name may stand twice.
pub fn unique_keys<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, T>, D::Error> {
    struct Distinct<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Distinct<T> {
        type Value = BTreeMap<String, T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a map")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
            let mut map = BTreeMap::new();
            while let Some((name, value)) = entries.next_entry::<String, T>()? {
                if map.contains_key(&name) {
                    let message = format_args!("duplicate field `{name}`");
                    return Err(de::Error::custom(message));
                }
                map.insert(name, value);
            }
            Ok(map)
        }
    }

    deserializer.deserialize_map(Distinct(PhantomData))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_are_plain_short_and_not_reserved() {
        let groups = [
            "dezky-platform-admins".to_owned(),
            "authentik Admins".to_owned(),
        ];
        let code = |text: &str| slug(text, &groups).map_err(|(code, _)| code);

        for good in [
            "abc",
            "a-b",
            "acme-2",
            "a1b",
            &format!("a{}", "b".repeat(39)),
        ] {
            assert!(code(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "a",
            "ab",
            "Acme",
            "1abc",
            "-abc",
            "abc-",
            "a--b",
            "a_b",
            "a b",
            "аcme",
            "acmé",
            "ａｃｍｅ",
            "acme\n",
            "acme\0",
            &format!("a{}", "b".repeat(40)),
        ] {
            assert_eq!(code(bad), Err("invalid_slug"), "{bad:?}");
        }
        for reserved in [
            "www",
            "api",
            "admin",
            "dezky-platform-admins",
            "authentik-admins",
        ] {
            assert_eq!(code(reserved), Err("reserved_slug"), "{reserved}");
        }
    }

    #[test]
    fn an_address_for_reports_holds_nothing_that_a_list_of_uris_would_have_to_escape() {
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
    fn addresses_are_lower_case_and_plain() {
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
    fn names_are_one_line_of_text() {
        assert_eq!(name("  Ærø & Sons ").unwrap(), "Ærø & Sons");
        assert_eq!(name("株式会社 עברית ❤️").unwrap(), "株式会社 עברית ❤️");
        for bad in ["", "  ", "a\nb", "a\u{7f}", &"x".repeat(121)] {
            assert!(name(bad).is_err(), "{bad:?}");
        }
        for unseen in [
            '\u{200b}', '\u{200d}', '\u{2028}', '\u{2029}', '\u{202e}', '\u{2066}', '\u{feff}',
            '\u{3164}',
        ] {
            for bad in [unseen.to_string(), format!("a{unseen}b")] {
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
