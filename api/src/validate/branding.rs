//! How the mail of a workspace reads.

use std::collections::BTreeSet;

use dezky_shared::branding::{EmailTemplate, EmailText};

use super::{Validator, Violation, is_unseen};
use crate::error::FieldError;

/// The longest subject of a mail, in characters.
const SUBJECT_LENGTH: usize = 200;
/// The longest body of a mail, in characters.
const BODY_LENGTH: usize = 10_000;
/// How much of a placeholder is repeated to who wrote it, in characters.
const SHOWN: usize = 40;

/// The text of a mail.
pub fn email_text(
    checks: &mut Validator,
    pointer: &str,
    template: EmailTemplate,
    subject: &str,
    body: &str,
) -> Option<EmailText> {
    let mut one_text = |field: &str, value: Result<String, Violation>| {
        let pointer = format!("{pointer}/{field}");
        let text = checks.check(&pointer, value)?;
        let wrong = wrong_placeholders(&text, template.placeholders());
        let is_right = wrong.is_empty();
        for (code, message) in wrong {
            checks.note(FieldError::at(pointer.clone(), code, message));
        }
        is_right.then_some(text)
    };
    let subject = one_text("subject", text(subject, SUBJECT_LENGTH, false));
    let body = one_text("body", text(body, BODY_LENGTH, true));
    Some(EmailText {
        subject: subject?,
        body: body?,
    })
}

fn text(text: &str, most: usize, has_lines: bool) -> Result<String, Violation> {
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
fn wrong_placeholders(text: &str, known: &[&str]) -> BTreeSet<Violation> {
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
