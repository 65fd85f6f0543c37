//! Email templates of a workspace.

use std::collections::BTreeSet;

use dezky_shared::branding::{EmailTemplate, EmailText};

use super::{Validator, Violation, empty, invalid_characters, too_long, without_invisible};
use crate::error::FieldError;

/// Maximum length of a subject, in characters.
const MAX_SUBJECT: usize = 200;
/// Maximum length of a body, in characters.
const MAX_BODY: usize = 10_000;
/// Maximum length of a placeholder in an error message, in characters.
const MAX_SHOWN: usize = 40;

/// Subject and body of an e-mail template.
pub fn email_text(
    validator: &mut Validator,
    pointer: &str,
    template: EmailTemplate,
    subject: &str,
    body: &str,
) -> Option<EmailText> {
    let mut one_text = |field: &str, value: Result<String, Violation>| {
        let pointer = format!("{pointer}/{field}");
        let text = validator.check(&pointer, value)?;
        let violations = invalid_placeholders(&text, template.placeholders());
        let is_valid = violations.is_empty();
        for (code, message) in violations {
            validator.push(FieldError::at(pointer.clone(), code, message));
        }
        is_valid.then_some(text)
    };
    let subject = one_text("subject", text(subject, MAX_SUBJECT, false));
    let body = one_text("body", text(body, MAX_BODY, true));
    Some(EmailText {
        subject: subject?,
        body: body?,
    })
}

fn text(text: &str, max: usize, multiline: bool) -> Result<String, Violation> {
    if text.trim().is_empty() {
        return Err(empty());
    }
    if text.chars().count() > max {
        return Err(too_long(max));
    }
    let is_allowed = |c: char| match c {
        '\n' | '\r' | '\t' => multiline,
        c => !c.is_control(),
    };
    if !text.chars().all(is_allowed) {
        return Err(invalid_characters());
    }
    if multiline {
        // A body cannot be mistaken for a name.
        return Ok(text.to_owned());
    }
    without_invisible(text).ok_or_else(invalid_characters)
}

/// Violations of the placeholders of a text, without duplicates.
fn invalid_placeholders(text: &str, known: &[&str]) -> BTreeSet<Violation> {
    let mut violations = BTreeSet::new();
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
                let message = format!("Unbalanced {sign}.");
                violations.insert(("unbalanced_placeholder", message));
                continue;
            }
        };
        if !known.contains(&name) {
            let shown: String = name.chars().take(MAX_SHOWN).collect();
            let known = known.join(", ");
            let message = format!(
                "{{{{{shown}}}}} is not a placeholder of this template. Available: {known}."
            );
            violations.insert(("unknown_placeholder", message));
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn placeholders_must_be_known_and_closed() {
        let codes = |text: &str| -> Vec<&str> {
            let violations = invalid_placeholders(text, &["name", "link"]);
            violations.into_iter().map(|(code, _)| code).collect()
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
        fn a_text_without_braces_has_no_violations(text in "[{} a]{0,40}|.*") {
            let violations = invalid_placeholders(&text, &["a"]);

            let has_signs = text.contains("{{") || text.contains("}}");
            prop_assert!(has_signs || violations.is_empty());
        }
    }
}
