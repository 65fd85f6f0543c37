//! Time axis of spans, drawn as SVG. The tables beside it have the same times as text.

use askama::Template;

use super::text::{State, Time, duration};

/// Width of the labels and of the axis, and height of a row, in the units of the drawing.
const LABELS: i64 = 150;
const AXIS: i64 = 450;
const ROW: i64 = 22;
/// Position of a text's line in its row.
const BASE: i64 = 15;

/// A drawing of spans, one below the other.
#[derive(Debug, Template)]
#[template(path = "console/timeline.html")]
pub(super) struct Timeline {
    title: &'static str,
    bars: Vec<Bar>,
    /// Position of the line below the bars, and of the text below it.
    line: i64,
    base: i64,
    height: i64,
    /// Length of the axis in time.
    length: String,
}

/// Something that took time.
#[derive(Debug)]
pub(super) struct Span {
    pub(super) label: String,
    pub(super) state: State,
    pub(super) start: Time,
    /// Missing while it lasts.
    pub(super) end: Option<Time>,
}

/// A span, with its times as text.
#[derive(Debug)]
struct Bar {
    label: String,
    tone: &'static str,
    x: i64,
    y: i64,
    width: i64,
    /// Position of the label's line.
    base: i64,
    title: String,
}

impl Timeline {
    /// The spans from the first start to the last end. A span without an end lasts until `now`. `None` without a span.
    pub(super) fn new(title: &'static str, spans: &[Span], now: i64) -> Option<Self> {
        let times = |span: &Span| {
            let start = span.start.millis()?;
            let end = span.end.as_ref().map_or(Some(now), Time::millis)?;
            Some((start, end.max(start)))
        };
        let known: Vec<(&Span, i64, i64)> = spans
            .iter()
            .filter_map(|span| times(span).map(|(start, end)| (span, start, end)))
            .collect();
        let first = known.iter().map(|(_, start, _)| *start).min()?;
        let last = known.iter().map(|(_, _, end)| *end).max()?;
        let range = (last - first).max(1);
        let position = |time: i64| {
            let share = i128::from(time - first) * i128::from(AXIS) / i128::from(range);
            LABELS + i64::try_from(share).unwrap_or(AXIS)
        };
        let bar = |(row, (span, start, end)): (i64, (&Span, i64, i64))| Bar {
            label: span.label.clone(),
            tone: span.state.tone(),
            x: position(start),
            y: row * ROW,
            width: (position(end) - position(start)).max(2),
            base: row * ROW + BASE,
            title: format!("{}: {}, {}", span.label, span.state, duration(end - start)),
        };
        let bars: Vec<Bar> = (0..).zip(known).map(bar).collect();
        let line = i64::try_from(bars.len()).unwrap_or_default() * ROW;
        Some(Self {
            title,
            bars,
            line,
            base: line + BASE,
            height: line + ROW + 10,
            length: duration(last - first),
        })
    }
}

#[cfg(test)]
mod tests {
    use bson::DateTime;

    use super::*;

    fn span(label: &str, start: i64, end: Option<i64>) -> Span {
        let time = |millis| Time::from(DateTime::from_millis(millis));
        Span {
            label: label.to_owned(),
            state: State::new("ok"),
            start: time(start),
            end: end.map(time),
        }
    }

    #[test]
    fn spans_share_an_axis_and_one_without_an_end_lasts_until_now() {
        let spans = [
            span("<first>", 0, Some(1_000)),
            span("second", 500, None),
            span("at once", 2_000, Some(2_000)),
        ];

        let svg = Timeline::new("Times", &spans, 2_000).unwrap().to_string();

        for bar in [
            r#"x="150" y="0" width="225""#,
            r#"x="262" y="22" width="338""#,
            r#"x="600" y="44" width="2""#,
        ] {
            assert!(svg.contains(bar), "{bar}: {svg}");
        }
        assert!(svg.contains("second: ok, 1 s 500 ms"), "{svg}");
        assert!(!svg.contains("<first>"), "{svg}");
        assert!(Timeline::new("Times", &[], 0).is_none());
    }
}
