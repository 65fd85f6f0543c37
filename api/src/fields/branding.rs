//! How a workspace looks, and how its mail reads.

use std::collections::BTreeSet;

use dezky_shared::{
    branding::{EmailTemplate, EmailText},
    domain::name,
};
use reqwest::Url;

use super::{Checks, Wrong, is_unseen};
use crate::error::FieldError;

/// The longest URL of a logo, in characters.
const URL_LENGTH: usize = 2_048;
/// The longest subject of a mail, in characters.
pub const SUBJECT_LENGTH: usize = 200;
/// The longest body of a mail, in characters.
pub const BODY_LENGTH: usize = 10_000;
/// How much of a placeholder is repeated to who wrote it, in characters.
const SHOWN: usize = 40;

/// The URL of a logo, for browsers: https, at a host with a public kind of name.
pub fn logo_url(text: &str) -> Result<String, Wrong> {
    let invalid = |message: &str| ("invalid_url", message.to_owned());
    if text.chars().count() > URL_LENGTH {
        let message = format!("This has at most {URL_LENGTH} characters.");
        return Err(("too_long", message));
    }
    // Browsers read these as if they were not there, or as something else.
    let is_odd = |c: char| c.is_whitespace() || c.is_control() || c == '\\';
    if !text.starts_with("https://") || text.contains(is_odd) {
        return Err(invalid("This is not a URL that begins with https://."));
    }
    let url = Url::parse(text).map_err(|_| invalid("This is not a URL."))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(invalid("A URL that everybody sees holds no credentials."));
    }
    let is_name = |host: &str| host.contains('.') && name::normalise(host).is_ok();
    if !url.domain().is_some_and(is_name) {
        return Err(invalid("The host is a name such as cdn.example.com."));
    }
    if url.as_str().len() > URL_LENGTH {
        return Err((
            "too_long",
            "This is too long once it is escaped.".to_owned(),
        ));
    }
    Ok(url.into())
}

/// The text of a mail.
pub fn email_text(
    checks: &mut Checks,
    pointer: &str,
    template: EmailTemplate,
    subject: &str,
    body: &str,
) -> Option<EmailText> {
    let placeholders = template.placeholders();
    let subject_at = format!("{pointer}/subject");
    let body_at = format!("{pointer}/body");
    let text = EmailText {
        subject: checks.check(&subject_at, text(subject, SUBJECT_LENGTH, false))?,
        body: checks.check(&body_at, text(body, BODY_LENGTH, true))?,
    };
    let mut wrong = Vec::new();
    for (pointer, text) in [(subject_at, subject), (body_at, body)] {
        for (code, message) in wrong_placeholders(text, placeholders) {
            wrong.push(FieldError::at(pointer.clone(), code, message));
        }
    }
    let is_right = wrong.is_empty();
    wrong.into_iter().for_each(|error| checks.note(error));
    is_right.then_some(text)
}

fn text(text: &str, most: usize, has_lines: bool) -> Result<String, Wrong> {
    if text.trim().is_empty() {
        return Err(("too_short", "This cannot be empty.".to_owned()));
    }
    if text.chars().count() > most {
        return Err(("too_long", format!("This has at most {most} characters.")));
    }
    let may_stand = |c: char| match c {
        '\n' | '\r' | '\t' => has_lines,
        // Some are joined by one that is not seen, and a body is no name.
        c => !c.is_control() && (has_lines || !is_unseen(c)),
    };
    if text.chars().all(may_stand) {
        Ok(text.to_owned())
    } else {
        let message = "This cannot hold control characters or characters that are not seen.";
        Err(("invalid_characters", message.to_owned()))
    }
}

/// What is wrong with the placeholders of a text, each thing once.
fn wrong_placeholders(text: &str, known: &[&str]) -> BTreeSet<Wrong> {
    let mut wrong = BTreeSet::new();
    let mut rest = text;
    while let Some(at) = rest.find("{{").into_iter().chain(rest.find("}}")).min() {
        let (sign, after) = rest[at..].split_at(2);
        rest = after;
        let name = match after.find("}}") {
            Some(end) if sign == "{{" && !after[..end].contains('{') => {
                rest = &after[end + 2..];
                after[..end].trim()
            }
            _ => {
                let message = format!("A {sign} here has no partner.");
                wrong.insert(("unbalanced_placeholder", message));
                continue;
            }
        };
        if !known.contains(&name) {
            let shown: String = name.chars().take(SHOWN).collect();
            let known = known.join(", ");
            let message = format!("{{{{{shown}}}}} means nothing here. What does: {known}.");
            wrong.insert(("unknown_placeholder", message));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_logo_is_at_an_https_url_with_a_host_that_has_a_name() {
        for (text, kept) in [
            (
                "https://cdn.example.com/logo.svg?v=2",
                "https://cdn.example.com/logo.svg?v=2",
            ),
            ("https://CDN.Example.com", "https://cdn.example.com/"),
            (
                "https://blåbær.dk/æ.png",
                "https://xn--blbr-roah.dk/%C3%A6.png",
            ),
            ("https://example.com:8443/a", "https://example.com:8443/a"),
        ] {
            assert_eq!(logo_url(text).unwrap(), kept);
        }
        for bad in [
            "",
            "logo.svg",
            "//example.com/a",
            "http://example.com/a",
            "HTTPS://example.com/a",
            "https:example.com/a",
            "javascript:alert(1)",
            "data:image/png;base64,AAAA",
            "https://ada@example.com/a",
            "https://ada:secret@example.com/a",
            "https://localhost/a",
            "https://10.0.0.1/a",
            "https://0x0a.1/a",
            "https://2130706433/a",
            "https://[::1]/a",
            "https://example.com\\@evil.com/a",
            "https://example.com/a b",
            "https://exa\tmple.com/a",
            "https:///a",
            "https://",
            "https://-a-.com/",
        ] {
            assert_eq!(logo_url(bad).unwrap_err().0, "invalid_url", "{bad:?}");
        }
        let long = |length: usize| format!("https://a.dk/{}", "x".repeat(length - 13));
        assert!(logo_url(&long(2_048)).is_ok());
        assert_eq!(logo_url(&long(2_049)).unwrap_err().0, "too_long");
        let escaped = format!("https://a.dk/{}", "æ".repeat(1_000));
        assert_eq!(logo_url(&escaped).unwrap_err().0, "too_long");
    }

    #[test]
    fn placeholders_are_known_and_closed() {
        let codes = |text: &str| -> Vec<&str> {
            let wrong = wrong_placeholders(text, &["name", "link"]);
            wrong.into_iter().map(|(code, _)| code).collect()
        };

        for good in [
            "",
            "Hello",
            "{{name}}",
            "{{ name }}: {{link}}{{name}}",
            "{ name }",
            "a { b } c",
        ] {
            assert_eq!(codes(good), [""; 0], "{good}");
        }
        for bad in ["{{name", "name}}", "{{{name}}}", "{{na{me}}", "}}{{", "{{"] {
            assert!(
                codes(bad).contains(&"unbalanced_placeholder"),
                "{bad}: {:?}",
                codes(bad)
            );
        }
        for bad in [
            "{{}}",
            "{{Name}}",
            "{{na me}}",
            "{{nаme}}",
            "{{name.first}}",
        ] {
            assert_eq!(codes(bad), ["unknown_placeholder"], "{bad}");
        }
        assert_eq!(
            codes("{{a}} {{b}} {{a}} {{name}} {{"),
            [
                "unbalanced_placeholder",
                "unknown_placeholder",
                "unknown_placeholder"
            ]
        );
    }

    proptest! {
        #[test]
        fn what_is_wrong_is_said_once_whatever_is_typed(text in "[{} a]{0,40}|.*") {
            let wrong = wrong_placeholders(&text, &["a"]);

            let has_signs = text.contains("{{") || text.contains("}}");
            prop_assert!(has_signs || wrong.is_empty());
        }
    }
}
