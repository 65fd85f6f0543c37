//! Forms: of an action, and of the filters of a list.

use askama::Template;

/// The form of an action. It has the hidden fields that a [`Submission`](super::submission::Submission) checks.
#[derive(Debug, Template)]
#[template(path = "console/form.html")]
pub(super) struct Form {
    pub(super) path: String,
    pub(super) label: String,
    pub(super) token: String,
    pub(super) key: String,
    pub(super) is_danger: bool,
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

/// A field of a form.
#[derive(Debug, Template)]
#[template(path = "console/field.html")]
pub(super) struct Field {
    label: &'static str,
    name: &'static str,
    kind: FieldKind,
}

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
        none: &'static str,
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
    /// A field that is not shown.
    pub(super) fn hidden(name: &'static str, value: impl Into<String>) -> Self {
        let value = value.into();
        Self {
            label: "",
            name,
            kind: FieldKind::Hidden { value },
        }
    }

    /// A text.
    pub(super) fn text(label: &'static str, name: &'static str, value: Option<&str>) -> Self {
        let value = value.unwrap_or_default().to_owned();
        let is_required = false;
        Self {
            label,
            name,
            kind: FieldKind::Text { value, is_required },
        }
    }

    /// A text that has to be entered.
    pub(super) fn required(label: &'static str, name: &'static str) -> Self {
        let (value, is_required) = (String::new(), true);
        Self {
            label,
            name,
            kind: FieldKind::Text { value, is_required },
        }
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
        Self {
            label,
            name,
            kind: FieldKind::Choice {
                none: "all",
                options: words.iter().map(option).collect(),
            },
        }
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
        Self {
            label,
            name,
            kind: FieldKind::Choice {
                none,
                options: options.into_iter().map(option).collect(),
            },
        }
    }
}
