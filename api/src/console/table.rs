//! Tables: the rows of a list under a caption, or a sentence if it has none.

use askama::Template;

use super::{
    form::Form,
    sparkline::Sparkline,
    text::{State, Time},
};

/// A table. Each row has a cell for each column; the first cell is the row's header.
#[derive(Debug, Template)]
#[template(path = "console/table.html")]
pub(super) struct Table {
    caption: String,
    columns: Vec<String>,
    rows: Vec<Vec<Cell>>,
    /// Sentence in place of the rows.
    empty: &'static str,
    /// Address and label of the next page.
    next: Option<(String, &'static str)>,
}

impl Table {
    /// A table with these columns and rows.
    pub(super) fn new<const N: usize>(
        caption: impl Into<String>,
        columns: [&'static str; N],
        rows: impl IntoIterator<Item = [Cell; N]>,
        empty: &'static str,
    ) -> Self {
        Self {
            caption: caption.into(),
            columns: columns.map(str::to_owned).into(),
            rows: rows.into_iter().map(Vec::from).collect(),
            empty,
            next: None,
        }
    }

    /// A table whose columns depend on its data. Each row has a cell for each of them.
    pub(super) fn with_columns(
        caption: String,
        columns: Vec<String>,
        rows: Vec<Vec<Cell>>,
    ) -> Self {
        Self {
            caption,
            columns,
            rows,
            empty: "None.",
            next: None,
        }
    }

    /// The table with a column of forms: those of each row, in order.
    pub(super) fn with_forms(mut self, forms: impl IntoIterator<Item = Vec<Form>>) -> Self {
        self.columns.push("Action".to_owned());
        for (row, forms) in self.rows.iter_mut().zip(forms) {
            row.push(Cell {
                parts: forms.into_iter().map(Part::Form).collect(),
            });
        }
        self
    }

    /// The table with a link to its next page, if there is one.
    pub(super) fn with_next(self, path: Option<String>, label: &'static str) -> Self {
        Self {
            next: path.map(|path| (path, label)),
            ..self
        }
    }
}

/// A cell of a table.
#[derive(Debug, Default)]
pub(super) struct Cell {
    parts: Vec<Part>,
}

/// A part of a cell.
#[derive(Debug)]
enum Part {
    Text(String),
    Code(String),
    Link { path: String, label: String },
    State(State),
    Time(Time),
    Lines(Vec<String>),
    Form(Form),
    Sparkline(Sparkline),
}

impl Part {
    /// The part as a cell.
    fn alone(self) -> Cell {
        Cell { parts: vec![self] }
    }
}

impl Cell {
    /// A text.
    pub(super) fn text(text: impl Into<String>) -> Self {
        Part::Text(text.into()).alone()
    }

    /// A text that is shown as it is stored, such as an id.
    pub(super) fn code(text: impl Into<String>) -> Self {
        Part::Code(text.into()).alone()
    }

    /// A link to a page of the console.
    pub(super) fn link(path: impl Into<String>, label: impl Into<String>) -> Self {
        Part::Link {
            path: path.into(),
            label: label.into(),
        }
        .alone()
    }

    /// A link to a tenant; empty without one.
    pub(super) fn tenant(slug: Option<&str>) -> Self {
        slug.map_or_else(Self::default, |slug| {
            Self::link(format!("/console/tenants/{slug}"), slug)
        })
    }

    /// A state.
    pub(super) fn state(state: &State) -> Self {
        Part::State(state.clone()).alone()
    }

    /// A time; empty without one.
    pub(super) fn time<'a>(time: impl Into<Option<&'a Time>>) -> Self {
        let time: Option<&Time> = time.into();
        time.map_or_else(Self::default, |time| Part::Time(time.clone()).alone())
    }

    /// The course of a number.
    pub(super) fn sparkline(drawing: Sparkline) -> Self {
        Part::Sparkline(drawing).alone()
    }

    /// A list of sentences.
    pub(super) fn lines(lines: Vec<String>) -> Self {
        Part::Lines(lines).alone()
    }

    /// The cell, and another one beside it.
    pub(super) fn and(mut self, other: Self) -> Self {
        self.parts.extend(other.parts);
        self
    }
}
