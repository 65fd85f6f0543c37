//! Bar chart of a series, drawn as SVG. The table beside it has the same values as text.

use askama::Template;

/// Size of the drawing, in its own units.
const WIDTH: usize = 600;
const HEIGHT: i128 = 120;

/// A chart.
#[derive(Debug, Template)]
#[template(path = "console/chart.html")]
pub(super) struct Chart {
    title: String,
    bars: Vec<Bar>,
    /// Position of the value 0.
    zero: i128,
}

/// A bar, with its value as text.
#[derive(Debug)]
struct Bar {
    x: usize,
    y: i128,
    width: usize,
    height: i128,
    label: String,
}

/// A value with its description. `None` leaves a gap.
#[derive(Debug)]
pub(super) struct Point {
    pub(super) value: Option<i64>,
    pub(super) label: String,
}

impl Chart {
    /// A chart of these points, in order. `None` if none has a value.
    pub(super) fn new(title: impl Into<String>, points: Vec<Point>) -> Option<Self> {
        let values = || {
            points
                .iter()
                .filter_map(|point| point.value)
                .map(i128::from)
        };
        let (highest, lowest) = (values().max()?.max(0), values().min()?.min(0));
        let range = (highest - lowest).max(1);
        let position = |value: i128| (highest - value) * HEIGHT / range;
        let (zero, slot) = (position(0), WIDTH / points.len());
        let bar = |(index, point): (usize, Point)| {
            let end = position(point.value?.into());
            Some(Bar {
                x: index * slot,
                y: end.min(zero),
                width: slot.saturating_sub(2).max(1),
                height: (end - zero).abs().max(1),
                label: point.label,
            })
        };
        Some(Self {
            title: title.into(),
            bars: points.into_iter().enumerate().filter_map(bar).collect(),
            zero,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_start_at_zero_and_a_missing_value_is_a_gap() {
        let point = |value| Point {
            value,
            label: format!("{value:?}"),
        };

        let chart = Chart::new("<MRR>", [Some(100), None, Some(-20)].map(point).into()).unwrap();
        let svg = chart.to_string();

        assert!(
            svg.contains(r#"<rect x="0" y="0" width="198" height="100">"#),
            "{svg}"
        );
        assert!(
            svg.contains(r#"<rect x="400" y="100" width="198" height="20">"#),
            "{svg}"
        );
        assert_eq!(svg.matches("<rect").count(), 2);
        assert!(!svg.contains("<MRR>"), "{svg}");
        assert!(Chart::new("Nothing", vec![point(None)]).is_none());
        assert!(Chart::new("Nothing", Vec::new()).is_none());
    }
}
