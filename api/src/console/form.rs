//! Forms: of an action, and of the filters of a list.

use askama::Template;

use super::actions::catalogue::Action;

/// The form of an action. It has the hidden fields that a [`Submission`](super::submission::Submission) checks.
#[derive(Debug, Template)]
#[template(path = "console/form.html")]
pub(super) struct Form {
    pub(super) path: String,
    pub(super) label: String,
    pub(super) token: String,
    pub(super) key: String,
    /// Question to confirm, if the action is destructive.
    pub(super) question: Option<Question>,
    pub(super) can_dry_run: bool,
    pub(super) fields: Vec<Field>,
}

impl Form {
    /// The form with these fields.
    pub(super) fn with_fields(self, fields: Vec<Field>) -> Self {
        Self { fields, ..self }
    }

    /// The form with a second button, which asks for a dry run.
    pub(super) fn with_dry_run(self) -> Self {
        Self {
            can_dry_run: true,
            ..self
        }
    }
}

/// Question of the dialog that confirms an action. Without scripts, the server asks it on a page of its own.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) text: String,
    pub(super) warning: &'static str,
    /// Label of the button that confirms.
    pub(super) label: &'static str,
}

impl Question {
    /// The question whether to run `action` on `target`. `None` if the action is harmless.
    pub(super) fn new(action: &Action, target: &str) -> Option<Self> {
        Some(Self {
            text: format!("{}: {target}?", action.label),
            warning: action.warning?,
            label: action.label,
        })
    }
}

/// A field of a form.
#[derive(Debug, Template)]
#[template(path = "console/field.html")]
pub(super) struct Field {
    label: &'static str,
    name: &'static str,
    /// Maximum length of a text.
    limit: u16,
    kind: FieldKind,
}

/// Maximum length of a text, unless the field has another one.
const LIMIT: u16 = 120;

#[derive(Debug)]
enum FieldKind {
    Hidden {
        value: String,
    },
    Text {
        value: String,
        is_required: bool,
    },
    Choice {
        /// Label of the empty value, if it can be chosen.
        none: Option<&'static str>,
        options: Vec<Choice>,
    },
}

/// An option of a field.
#[derive(Debug)]
struct Choice {
    value: String,
    label: String,
    is_selected: bool,
}

impl Field {
    fn new(label: &'static str, name: &'static str, kind: FieldKind) -> Self {
        Self {
            label,
            name,
            limit: LIMIT,
            kind,
        }
    }

    /// A field that is not shown.
    pub(super) fn hidden(name: &'static str, value: impl Into<String>) -> Self {
        let value = value.into();
        Self::new("", name, FieldKind::Hidden { value })
    }

    /// A text.
    pub(super) fn text(label: &'static str, name: &'static str, value: Option<&str>) -> Self {
        let value = value.unwrap_or_default().to_owned();
        let is_required = false;
        Self::new(label, name, FieldKind::Text { value, is_required })
    }

    /// A text that has to be entered.
    pub(super) fn required(label: &'static str, name: &'static str) -> Self {
        let (value, is_required) = (String::new(), true);
        Self::new(label, name, FieldKind::Text { value, is_required })
    }

    /// The field with another maximum length.
    pub(super) fn up_to(self, limit: u16) -> Self {
        Self { limit, ..self }
    }

    /// A choice between words, or all.
    pub(super) fn choice(
        label: &'static str,
        name: &'static str,
        words: &[&str],
        current: Option<&str>,
    ) -> Self {
        let option = |word: &&str| Choice {
            value: (*word).to_owned(),
            label: (*word).to_owned(),
            is_selected: current == Some(*word),
        };
        let kind = FieldKind::Choice {
            none: Some("all"),
            options: words.iter().map(option).collect(),
        };
        Self::new(label, name, kind)
    }

    /// A choice between words, one of which has to be made.
    pub(super) fn one_of(label: &'static str, name: &'static str, words: &[&str]) -> Self {
        Self::choice(label, name, words, None).with_none(None)
    }

    /// The choice with this label of the empty value.
    pub(super) fn with_none(mut self, label: Option<&'static str>) -> Self {
        if let FieldKind::Choice { none, .. } = &mut self.kind {
            *none = label;
        }
        self
    }

    /// A choice between values with labels, or none.
    pub(super) fn optional(
        label: &'static str,
        name: &'static str,
        none: &'static str,
        options: Vec<(String, &'static str)>,
    ) -> Self {
        let option = |(value, label): (String, &str)| Choice {
            value,
            label: label.to_owned(),
            is_selected: false,
        };
        let kind = FieldKind::Choice {
            none: Some(none),
            options: options.into_iter().map(option).collect(),
        };
        Self::new(label, name, kind)
    }
}
