//! Sparkline: the course of a number, drawn as SVG without an axis. The table beside it has the numbers that matter as
//! text.

use std::fmt::Write as _;

use askama::Template;

/// Height of the drawing, in its own units.
const HEIGHT: i128 = 24;

/// A sparkline.
#[derive(Debug, Template)]
#[template(path = "console/sparkline.html")]
pub(super) struct Sparkline {
    label: String,
    /// Width of the drawing: one unit for each number.
    width: usize,
    /// Steps of the line, in the language of SVG paths.
    path: String,
}

impl Sparkline {
    /// The course of these numbers, which are not negative. `None` leaves a gap.
    pub(super) fn new(label: impl Into<String>, numbers: &[Option<i64>]) -> Self {
        let highest = numbers.iter().flatten().max().copied();
        let highest = i128::from(highest.unwrap_or_default()).max(1);
        let mut path = String::new();
        let mut is_drawing = false;
        for (x, number) in numbers.iter().enumerate() {
            let Some(number) = number else {
                is_drawing = false;
                continue;
            };
            let y = HEIGHT - i128::from(*number) * HEIGHT / highest;
            // Writing to a string does not fail.
            let _ = if is_drawing {
                write!(path, "V{y}h1")
            } else {
                write!(path, "M{x} {y}h1")
            };
            is_drawing = true;
        }
        Self {
            label: label.into(),
            width: numbers.len(),
            path,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_reaches_the_top_at_the_peak_and_breaks_where_no_number_is_known() {
        let drawn = |numbers: &[Option<i64>]| Sparkline::new("<Jobs>", numbers).to_string();

        let line = drawn(&[Some(0), Some(4), None, Some(2)]);

        assert!(line.contains(r#"d="M0 24h1V0h1M3 12h1""#), "{line}");
        assert!(line.contains(r#"viewBox="0 -1 4 26""#), "{line}");
        assert!(!line.contains("<Jobs>"), "{line}");
        assert!(drawn(&[Some(0)]).contains(r#"d="M0 24h1""#));
        assert!(drawn(&[]).contains(r#"d="""#));
    }
}
